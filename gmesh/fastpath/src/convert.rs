//! Between Python's values and the engine's.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use gmesh_core::engine::normal;
use gmesh_core::packet::headers::Link;
use gmesh_core::sys::tun::Offloads;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

const SECOND: f64 = 1e9;

/// Bytes of a fixed length.
pub fn fixed<const N: usize>(bytes: &[u8], what: &str) -> PyResult<[u8; N]> {
    bytes.try_into().map_err(|_| PyValueError::new_err(format!("{what} has {} bytes, not {N}", bytes.len())))
}

pub fn link(tap: bool) -> Link {
    if tap {
        Link::Tap
    } else {
        Link::Tun
    }
}

/// A time span; what is negative or no number is none.
pub fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND) as u64
}

pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND
}

pub fn offloads<'py>(py: Python<'py>, offloads: &Offloads) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("virtio", offloads.virtio)?;
    dict.set_item("tcp4", offloads.tcp4)?;
    dict.set_item("tcp6", offloads.tcp6)?;
    dict.set_item("udp", offloads.udp)?;
    Ok(dict)
}

/// `(host, port)` or `(host, port, flow, scope)`, as sockets have it; numeric hosts only.
pub struct Endpoint(pub SocketAddr);

impl<'py> FromPyObject<'_, 'py> for Endpoint {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let tuple = value.cast::<PyTuple>()?;
        let host: String = tuple.get_item(0)?.extract()?;
        let port: u16 = tuple.get_item(1)?.extract()?;
        let ip: IpAddr = host.parse().map_err(|_| PyValueError::new_err(format!("{host:?} is no address")))?;
        let address = match ip {
            IpAddr::V6(six) if tuple.len() > 3 => {
                SocketAddr::V6(SocketAddrV6::new(six, port, 0, tuple.get_item(3)?.extract()?))
            }
            ip => SocketAddr::new(ip, port),
        };
        Ok(Self(normal(address)))
    }
}

/// An address as the endpoint that Python compares.
pub fn endpoint<'py>(py: Python<'py>, address: SocketAddr) -> PyResult<Bound<'py, PyTuple>> {
    match address {
        SocketAddr::V4(four) => (four.ip().to_string(), four.port()).into_pyobject(py),
        SocketAddr::V6(six) => (six.ip().to_string(), six.port(), 0, six.scope_id()).into_pyobject(py),
    }
}
