//! Tun and tap devices with a virtio header before each packet (IFF_VNET_HDR), which lets the kernel hand over and
//! take large packets.
//!
//! Not here: addresses, routes and link state of the interface.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;
use crate::packet::coalesce::Piece;
use crate::packet::headers::Link;
use crate::packet::virtio::{self, VirtioHeader};

const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;

/// What the kernel leaves to us, the best first; each step does without something.
const STEPS: [u32; 4] = [
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6,
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
    TUN_F_CSUM | TUN_F_TSO4,
    TUN_F_CSUM,
];

/// What a device can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Each packet has a virtio header.
    pub virtio: bool,
    /// Large packets of TCP over IPv4 and IPv6, and of UDP.
    pub tcp4: bool,
    pub tcp6: bool,
    pub udp: bool,
}

impl Offloads {
    fn of(flags: u32) -> Self {
        Self {
            virtio: true,
            tcp4: flags & TUN_F_TSO4 != 0,
            tcp6: flags & TUN_F_TSO6 != 0,
            udp: flags & TUN_F_USO4 != 0,
        }
    }
}

/// Ask for as much as the kernel allows. `set` is TUNSETOFFLOAD.
pub fn negotiate(mut set: impl FnMut(u32) -> io::Result<()>) -> Offloads {
    for step in STEPS {
        if set(step).is_ok() {
            return Offloads::of(step);
        }
    }
    Offloads::of(0)
}

/// An open device.
pub struct Opened {
    pub descriptor: OwnedFd,
    /// The interface's name, which the kernel chooses where none was given.
    pub name: String,
    pub offloads: Offloads,
}

/// Open an interface, non-blocking. `path` is the device node, usually `/dev/net/tun`; `name` may be empty.
///
/// Without `offload` packets come bare, as they do from kernels that know no virtio header.
pub fn open(path: &str, name: &str, link: Link, offload: bool, multi_queue: bool) -> io::Result<Opened> {
    let path = CString::new(path)?;
    // SAFETY: the path is a C string that lives through the call; the descriptor it returns is nobody else's.
    let descriptor = unsafe {
        OwnedFd::from_raw_fd(check(libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC))?)
    };
    let mut flags = libc::IFF_NO_PI | if link == Link::Tun { libc::IFF_TUN } else { libc::IFF_TAP };
    if multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let virtio = offload && attach(&descriptor, name, flags | libc::IFF_VNET_HDR).is_ok();
    if !virtio {
        attach(&descriptor, name, flags)?;
    }
    let offloads =
        if virtio { negotiate(|wanted| set_offload(descriptor.as_raw_fd(), wanted)) } else { Offloads::default() };
    let name = interface(&descriptor)?;
    Ok(Opened { descriptor, name, offloads })
}

fn request() -> libc::ifreq {
    // SAFETY: plain data, for which all zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn attach(descriptor: &OwnedFd, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = request();
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request lives through the call, and its name ends with a zero.
    check(unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF as _, &mut request) })?;
    Ok(())
}

fn set_offload(descriptor: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: the argument is a number, no pointer.
    check(unsafe { libc::ioctl(descriptor, libc::TUNSETOFFLOAD as _, libc::c_ulong::from(flags)) })?;
    Ok(())
}

fn interface(descriptor: &OwnedFd) -> io::Result<String> {
    let mut request = request();
    // SAFETY: the request lives through the call, which fills it in.
    check(unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNGETIFF as _, &mut request) })?;
    let bytes: Vec<u8> = request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a device that somebody else opened can do.
pub fn inspect(descriptor: RawFd) -> Offloads {
    let mut request = request();
    // SAFETY: the request lives through the call, which fills it in; a descriptor that is no tun device is refused.
    let known = unsafe { libc::ioctl(descriptor, libc::TUNGETIFF as _, &mut request) } == 0;
    // SAFETY: TUNGETIFF has filled in the flags, and zero is valid as well.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    if known && flags & libc::IFF_VNET_HDR != 0 {
        negotiate(|wanted| set_offload(descriptor, wanted))
    } else {
        Offloads::default()
    }
}

/// Write one packet, in pieces of a buffer.
pub(super) fn write(
    descriptor: RawFd,
    virtio: bool,
    buffer: &[u8],
    header: &VirtioHeader,
    pieces: &[Piece],
) -> io::Result<()> {
    const MOST: usize = 160;
    let head = header.bytes();
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MOST];
    let mut used = 0;
    let mut add = |bytes: &[u8]| {
        if used < MOST {
            vectors[used] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        }
        used += 1;
    };
    if virtio {
        add(&head[..virtio::SIZE]);
    }
    pieces.iter().for_each(|piece| add(&buffer[piece.start..piece.start + piece.len]));
    if used > MOST {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    // SAFETY: each vector is a slice that lives through the call, which only reads.
    super::check_len(unsafe { libc::writev(descriptor, vectors.as_ptr(), used as libc::c_int) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_are_given_up_step_by_step() {
        let expected = [(true, true, true), (true, true, false), (true, false, false), (false, false, false)];
        for (refused, (tcp4, tcp6, udp)) in expected.into_iter().enumerate() {
            let mut asked = 0;
            let offloads = negotiate(|_| {
                asked += 1;
                if asked > refused {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(libc::EINVAL))
                }
            });
            assert_eq!(offloads, Offloads { virtio: true, tcp4, tcp6, udp });
        }
        let all_refused = negotiate(|_| Err(io::Error::from_raw_os_error(libc::EINVAL)));
        assert_eq!(all_refused, Offloads { virtio: true, ..Offloads::default() });
    }
}
