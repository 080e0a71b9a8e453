//! Events as tuples. Their first items are their names; endpoints are None for what came by TCP.
//!
//! ```text
//! frame frame                                        of the own device, to be routed
//! datagram endpoint socket bytes                     of nobody that is known
//! from_peer peer endpoint frame                      authentic, to be routed
//! record peer endpoint kind data                     authentic, to be unpacked
//! refused owner hop frame                            too big for the path of hop
//! relay sender datagram                              between others, to go by TCP
//! unopened peer endpoint socket datagram             its key may come; without ids by TCP (endpoint, socket None)
//! too_big peer size                                  a relayed datagram's bytes of data
//! probe peer endpoint frame
//! address_seen peer endpoint socket
//! key_needed peer
//! doubted peer
//! confirmed peer session
//! relayed peer by_tcp
//! worn peer
//! handshake_opened peer session data
//! handshake_sealed peer session datagram
//! sealed peer token datagram
//! session_state peer session state                   state is a dict, as install_session takes it
//! mac_seen mac
//! path_too_narrow endpoint size                      largest datagram, bytes
//! device_failed errno
//! ```

use gmesh_core::engine::events::Event;
use gmesh_core::flow::session::SessionState;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::convert::{endpoint, seconds};

pub fn tuple(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    let place = |from: Option<std::net::SocketAddr>| from.map(|from| endpoint(py, from)).transpose();
    match event {
        Event::Frame { frame } => ("frame", bytes(&frame)).into_pyobject(py),
        Event::Datagram { from, socket, datagram } => {
            ("datagram", endpoint(py, from)?, socket, bytes(&datagram)).into_pyobject(py)
        }
        Event::FromPeer { peer, from, frame } => ("from_peer", peer, place(from)?, bytes(&frame)).into_pyobject(py),
        Event::Record { peer, from, kind, data } => {
            ("record", peer, place(from)?, kind, bytes(&data)).into_pyobject(py)
        }
        Event::Refused { owner, hop, frame } => ("refused", owner, hop, bytes(&frame)).into_pyobject(py),
        Event::Relay { sender, datagram } => ("relay", sender, bytes(&datagram)).into_pyobject(py),
        Event::Unopened { peer, from, datagram } => {
            let socket = from.map(|from| from.1);
            ("unopened", peer, place(from.map(|from| from.0))?, socket, bytes(&datagram)).into_pyobject(py)
        }
        Event::TooBig { peer, size } => ("too_big", peer, size).into_pyobject(py),
        Event::Probe { peer, from, frame } => ("probe", peer, endpoint(py, from)?, bytes(&frame)).into_pyobject(py),
        Event::AddressSeen { peer, from, socket } => {
            ("address_seen", peer, endpoint(py, from)?, socket).into_pyobject(py)
        }
        Event::KeyNeeded { peer } => ("key_needed", peer).into_pyobject(py),
        Event::Doubted { peer } => ("doubted", peer).into_pyobject(py),
        Event::Confirmed { peer, session } => ("confirmed", peer, session).into_pyobject(py),
        Event::Relayed { peer, by_tcp } => ("relayed", peer, by_tcp).into_pyobject(py),
        Event::Worn { peer } => ("worn", peer).into_pyobject(py),
        Event::HandshakeOpened { peer, session, data } => {
            ("handshake_opened", peer, session, bytes(&data)).into_pyobject(py)
        }
        Event::HandshakeSealed { peer, session, datagram } => {
            ("handshake_sealed", peer, session, bytes(&datagram)).into_pyobject(py)
        }
        Event::Sealed { peer, token, datagram } => ("sealed", peer, token, bytes(&datagram)).into_pyobject(py),
        Event::SessionState { peer, session, state: exported } => {
            ("session_state", peer, session, state(py, &exported)?).into_pyobject(py)
        }
        Event::MacSeen { mac } => ("mac_seen", bytes(&mac)).into_pyobject(py),
        Event::PathTooNarrow { to, datagram } => ("path_too_narrow", endpoint(py, to)?, datagram).into_pyobject(py),
        Event::DeviceFailed { error } => ("device_failed", error).into_pyobject(py),
    }
}

fn state<'py>(py: Python<'py>, state: &SessionState) -> PyResult<Bound<'py, PyDict>> {
    let key = |key: &[u8; 32]| PyBytes::new(py, key);
    let dict = PyDict::new(py);
    dict.set_item("send", key(&state.send))?;
    dict.set_item("next_number", state.next_number)?;
    dict.set_item("receive", key(&state.receive))?;
    dict.set_item("staged", state.staged.as_ref().map(key))?;
    dict.set_item("previous", state.previous.as_ref().map(key))?;
    dict.set_item("previous_seconds", seconds(state.previous_for))?;
    dict.set_item("window", state.window.size)?;
    dict.set_item("expected", state.window.expected)?;
    dict.set_item("late", PyBytes::new(py, &state.window.late))?;
    dict.set_item("far_future", state.window.far_future)?;
    Ok(dict)
}
