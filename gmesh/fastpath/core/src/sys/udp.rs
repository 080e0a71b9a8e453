//! UDP sockets: many messages per call, trains both ways (UDP_SEGMENT, UDP_GRO), errors that routers reported.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

use super::{check, check_len};
use crate::io::{Message, Received, REGION, REGIONS};

/// Room for the control messages of one message.
const CONTROL: usize = 128;
/// Messages per call.
const AT_ONCE: usize = 16;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

fn set(descriptor: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let value_ref: *const libc::c_int = &value;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value lives through the call, and has the size that is given.
    check(unsafe { libc::setsockopt(descriptor, level, option, value_ref.cast(), size) })?;
    Ok(())
}

/// Whether the socket is of IPv6.
pub(super) fn is_ipv6(descriptor: RawFd) -> io::Result<bool> {
    let mut family: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    let place: *mut libc::c_int = &mut family;
    // SAFETY: value and size live through the call, and the size is the value's.
    check(unsafe { libc::getsockopt(descriptor, libc::SOL_SOCKET, libc::SO_DOMAIN, place.cast(), &mut size) })?;
    Ok(family == libc::AF_INET6)
}

/// Tell the kernel whether to hand over trains; whether it took that.
pub(super) fn receive_trains(descriptor: RawFd, wanted: bool) -> bool {
    set(descriptor, libc::SOL_UDP, libc::UDP_GRO, wanted.into()).is_ok()
}

/// Whether the kernel knows how to cut trains up. That it does so on every route is not said.
pub(super) fn knows_trains(descriptor: RawFd) -> bool {
    set(descriptor, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

pub(super) fn set_ttl(descriptor: RawFd, ipv6: bool, ttl: Option<u8>) -> bool {
    let value = ttl.map_or(-1, libc::c_int::from);
    if ipv6 {
        set(descriptor, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, value).is_ok()
    } else {
        set(descriptor, libc::IPPROTO_IP, libc::IP_TTL, value).is_ok()
    }
}

/// An address as a socket of this family takes it; its length.
fn to_system(address: SocketAddr, ipv6: bool, storage: &mut libc::sockaddr_storage) -> libc::socklen_t {
    match address {
        SocketAddr::V4(four) if !ipv6 => {
            let place: *mut libc::sockaddr_storage = storage;
            let system = libc::sockaddr_in {
                sin_family: libc::AF_INET as _,
                sin_port: four.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*four.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: a storage is large enough, and aligned, for any address.
            unsafe { place.cast::<libc::sockaddr_in>().write(system) };
            size_of::<libc::sockaddr_in>() as _
        }
        _ => {
            let (ip, port, scope) = match address {
                SocketAddr::V4(four) => (four.ip().to_ipv6_mapped(), four.port(), 0),
                SocketAddr::V6(six) => (*six.ip(), six.port(), six.scope_id()),
            };
            let place: *mut libc::sockaddr_storage = storage;
            let system = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as _,
                sin6_port: port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
                sin6_scope_id: scope,
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(system) };
            size_of::<libc::sockaddr_in6>() as _
        }
    }
}

fn from_system(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let place: *const libc::sockaddr_storage = storage;
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote an address of this family.
            let four = unsafe { place.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(four.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(four.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the kernel wrote an address of this family.
            let six = unsafe { place.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(six.sin6_addr.s6_addr);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(six.sin6_port), 0, six.sin6_scope_id)))
        }
        _ => None,
    }
}

/// Everything that calls for many messages need, made once.
pub(super) struct Batch {
    headers: Box<[libc::mmsghdr; AT_ONCE]>,
    vectors: Box<[libc::iovec; AT_ONCE]>,
    addresses: Box<[libc::sockaddr_storage; AT_ONCE]>,
    controls: Box<[Control; AT_ONCE]>,
}

// SAFETY: the pointers in here are set before each call and not used after it.
unsafe impl Send for Batch {}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: plain data, for which all zeros are valid.
        unsafe {
            Self {
                headers: Box::new(zeroed()),
                vectors: Box::new(zeroed()),
                addresses: Box::new(zeroed()),
                controls: Box::new([Control([0; CONTROL]); AT_ONCE]),
            }
        }
    }

    /// Point a header at its vector, address and control room.
    fn aim(&mut self, index: usize, bytes: *const u8, len: usize, name_len: libc::socklen_t, control_len: usize) {
        self.vectors[index] = libc::iovec { iov_base: bytes.cast_mut().cast(), iov_len: len };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_iov = &mut self.vectors[index];
        header.msg_iovlen = 1;
        header.msg_name = std::ptr::from_mut(&mut self.addresses[index]).cast();
        header.msg_namelen = name_len;
        header.msg_control = self.controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = control_len as _;
        header.msg_flags = 0;
    }

    /// Add a control message behind those of `used` bytes; how many there are then.
    fn control(&mut self, index: usize, used: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        // SAFETY: computes a size.
        let (space, len) = unsafe { (libc::CMSG_SPACE(data.len() as u32), libc::CMSG_LEN(data.len() as u32)) };
        let room = &mut self.controls[index].0[used..used + space as usize];
        let mut head = [0u8; size_of::<libc::cmsghdr>()];
        // SAFETY: plain data, for which all zeros are valid; then written over an array of just its size.
        unsafe {
            let mut system: libc::cmsghdr = zeroed();
            system.cmsg_len = len as _;
            system.cmsg_level = level;
            system.cmsg_type = kind;
            head.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(system);
        }
        room.fill(0);
        room[..head.len()].copy_from_slice(&head);
        let start = len as usize - data.len();
        room[start..start + data.len()].copy_from_slice(data);
        used + space as usize
    }

    pub(super) fn send(
        &mut self,
        descriptor: RawFd,
        ipv6: bool,
        buffer: &[u8],
        messages: &[Message],
    ) -> io::Result<usize> {
        let count = messages.len().min(AT_ONCE);
        for (index, message) in messages[..count].iter().enumerate() {
            let name_len = to_system(message.to, ipv6, &mut self.addresses[index]);
            let mut control = 0;
            if message.segment != 0 {
                let segment = (message.segment as u16).to_ne_bytes();
                control = self.control(index, control, libc::SOL_UDP, libc::UDP_SEGMENT, &segment);
            }
            if let Some(class) = message.class {
                let value = libc::c_int::from(class).to_ne_bytes();
                if ipv6 {
                    control = self.control(index, control, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value);
                } else {
                    control = self.control(index, control, libc::IPPROTO_IP, libc::IP_TOS, &value);
                }
            }
            let bytes = &buffer[message.start..message.start + message.len];
            self.aim(index, bytes.as_ptr(), bytes.len(), name_len, control);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the first `count` headers point at what lives in `self` and `buffer`, which the call only reads.
        let sent = unsafe { libc::sendmmsg(descriptor, self.headers.as_mut_ptr(), count as u32, flags as _) };
        check(sent).map(|sent| sent as usize)
    }

    pub(super) fn receive(
        &mut self,
        descriptor: RawFd,
        buffer: &mut [u8],
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        assert!(buffer.len() >= REGION * REGIONS, "the receive buffer has room for every region");
        let name_len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        for index in 0..REGIONS {
            let region = &mut buffer[index * REGION..(index + 1) * REGION];
            self.aim(index, region.as_mut_ptr(), REGION, name_len, CONTROL);
        }
        // SAFETY: the headers point at regions that do not overlap, and at rooms in `self`, of the sizes that are given.
        let count = unsafe {
            libc::recvmmsg(
                descriptor,
                self.headers.as_mut_ptr(),
                REGIONS as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        for index in 0..check(count)? as usize {
            let len = self.headers[index].msg_len as usize;
            let header = &self.headers[index].msg_hdr;
            let Some(from) = from_system(&self.addresses[index]) else { continue };
            if len == 0 || header.msg_flags & libc::MSG_TRUNC != 0 {
                continue;
            }
            let mut segment = 0;
            for (level, kind, data) in controls(header) {
                if level == libc::SOL_UDP && kind == libc::UDP_GRO {
                    if let Some(bytes) = data.get(..4).and_then(|bytes| bytes.try_into().ok()) {
                        segment = usize::try_from(i32::from_ne_bytes(bytes)).unwrap_or(0);
                    }
                }
            }
            received.push(Received { from, start: index * REGION, len, segment });
        }
        Ok(())
    }

    /// The next message of the error queue: to whom what was sent, and how large it may be if the message says so.
    pub(super) fn error(&mut self, descriptor: RawFd) -> Option<Option<(SocketAddr, usize)>> {
        let name_len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let mut payload = [0u8; 1];
        self.aim(0, payload.as_mut_ptr(), 0, name_len, CONTROL);
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header points at rooms of the sizes that are given.
        check_len(unsafe { libc::recvmsg(descriptor, &mut self.headers[0].msg_hdr, flags) }).ok()?;
        let to = from_system(&self.addresses[0]);
        let narrow = controls(&self.headers[0].msg_hdr).find_map(|(level, kind, data)| largest(level, kind, data));
        Some(to.zip(narrow))
    }
}

/// How many bytes a datagram may have by a router's message. Old routers leave the number out (0), which says nothing.
fn largest(level: libc::c_int, kind: libc::c_int, data: &[u8]) -> Option<usize> {
    const ICMP: u8 = 2;
    const ICMPV6: u8 = 3;
    let ours = (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
        || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
    // errno (4), origin, type, code, padding, information (4), data (4)
    let number = |at: usize| data.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    if !ours || number(0)? != libc::EMSGSIZE as u32 {
        return None;
    }
    let headers = match data[4] {
        ICMP => 28,
        ICMPV6 => 48,
        _ => return None,
    };
    (number(8)? as usize).checked_sub(headers).filter(|bytes| *bytes > 0)
}

/// The control messages that the kernel wrote.
fn controls(header: &libc::msghdr) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
    // SAFETY: the header is as the kernel left it, so that its control messages lie within the room it points at.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: as above; each message says how long it is, and the macros stay within the room.
        unsafe {
            let message = next.read_unaligned();
            let data = libc::CMSG_DATA(next);
            let len = (message.cmsg_len as usize).saturating_sub(data as usize - next as usize);
            next = libc::CMSG_NXTHDR(header, next);
            Some((message.cmsg_level, message.cmsg_type, std::slice::from_raw_parts(data, len)))
        }
    })
}

pub(super) fn wait_to_send(descriptor: RawFd, milliseconds: libc::c_int) {
    let mut wait = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one structure, which lives through the call.
    unsafe { libc::poll(&mut wait, 1, milliseconds) };
}
