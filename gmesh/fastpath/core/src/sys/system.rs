//! The engine's system: a tun or tap device, and UDP sockets that somebody else has opened and will close.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::tun::{self, Offloads};
use super::udp::{self, Batch};
use super::{check, check_len};
use crate::io::{Io, Message, Received};
use crate::packet::coalesce::Piece;
use crate::packet::virtio::VirtioHeader;

/// Milliseconds that a full socket buffer is waited for: a train's time on a slow line.
const PATIENCE: libc::c_int = 10;

/// A socket, and what its kernel can do.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    descriptor: RawFd,
    ipv6: bool,
    /// Whether trains are handed over, and taken.
    pub receives_trains: bool,
    pub sends_trains: bool,
}

pub struct System {
    device: RawFd,
    pub offloads: Offloads,
    pub sockets: Vec<Socket>,
    batch: Batch,
}

fn non_blocking(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    unsafe {
        let flags = check(libc::fcntl(descriptor, libc::F_GETFL))?;
        check(libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok(())
}

impl System {
    /// `trains` is false where they are not to be used although the kernel has them.
    pub fn new(device: RawFd, sockets: &[RawFd], trains: bool) -> io::Result<Self> {
        non_blocking(device)?;
        let mut known = Vec::new();
        for &descriptor in sockets {
            non_blocking(descriptor)?;
            known.push(Socket {
                descriptor,
                ipv6: udp::is_ipv6(descriptor)?,
                receives_trains: trains && udp::receive_trains(descriptor, true),
                sends_trains: trains && udp::knows_trains(descriptor),
            });
        }
        Ok(Self { device, offloads: tun::inspect(device), sockets: known, batch: Batch::new() })
    }
}

impl Drop for System {
    /// Whoever reads the sockets next may not know trains.
    fn drop(&mut self) {
        for socket in self.sockets.iter().filter(|socket| socket.receives_trains) {
            udp::receive_trains(socket.descriptor, false);
        }
    }
}

impl Io for System {
    fn virtio(&self) -> bool {
        self.offloads.virtio
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer has the length that is given.
        check_len(unsafe { libc::read(self.device, buffer.as_mut_ptr().cast(), buffer.len()) })
    }

    fn write(&mut self, buffer: &[u8], header: &VirtioHeader, pieces: &[Piece]) -> io::Result<()> {
        loop {
            match tun::write(self.device, self.offloads.virtio, buffer, header, pieces) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn send(&mut self, socket: usize, buffer: &[u8], messages: &[Message]) -> io::Result<usize> {
        let Some(socket) = self.sockets.get(socket) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        if !socket.sends_trains && messages.first().is_some_and(|message| message.segment != 0) {
            return Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT));
        }
        self.batch.send(socket.descriptor, socket.ipv6, buffer, messages)
    }

    fn wait_to_send(&mut self, socket: usize) {
        if let Some(socket) = self.sockets.get(socket) {
            udp::wait_to_send(socket.descriptor, PATIENCE);
        }
    }

    fn receive(&mut self, socket: usize, buffer: &mut [u8], received: &mut Vec<Received>) -> io::Result<()> {
        let Some(socket) = self.sockets.get(socket) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        self.batch.receive(socket.descriptor, buffer, received)
    }

    fn path_error(&mut self, socket: usize) -> Option<Option<(SocketAddr, usize)>> {
        let descriptor = self.sockets.get(socket)?.descriptor;
        self.batch.error(descriptor)
    }

    fn set_ttl(&mut self, socket: usize, ttl: Option<u8>) -> bool {
        self.sockets.get(socket).is_some_and(|socket| udp::set_ttl(socket.descriptor, socket.ipv6, ttl))
    }
}
