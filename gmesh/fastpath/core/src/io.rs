//! What the engine needs of a system: a device and UDP sockets. `sys` has the real thing, tests make their own.

use std::io;
use std::net::SocketAddr;

use crate::packet::coalesce::Piece;
use crate::packet::virtio::VirtioHeader;

/// Bytes of one receive buffer: a whole train fits.
pub const REGION: usize = 1 << 16;
/// Receive buffers filled by one call. Fuzzers make many engines, and few packets in each.
pub const REGIONS: usize = if cfg!(fuzzing) { 2 } else { 8 };

/// One datagram, or a train of datagrams of `segment` bytes, of which the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub to: SocketAddr,
    pub start: usize,
    pub len: usize,
    /// 0 for a single datagram.
    pub segment: usize,
    /// The traffic class of the outer packets, where priorities are inherited.
    pub class: Option<u8>,
}

/// What one call received from one address: as `Message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub from: SocketAddr,
    pub start: usize,
    pub len: usize,
    pub segment: usize,
}

pub trait Io {
    /// Whether the device puts a `VirtioHeader` before each packet, and takes one.
    fn virtio(&self) -> bool;

    /// Read one packet of the device, its header included.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Write one packet to the device.
    fn write(&mut self, buffer: &[u8], header: &VirtioHeader, pieces: &[Piece]) -> io::Result<()>;

    /// Send messages, and return how many were taken; an error is about the first.
    fn send(&mut self, socket: usize, buffer: &[u8], messages: &[Message]) -> io::Result<usize>;

    /// Wait a moment for room to send.
    fn wait_to_send(&mut self, socket: usize);

    /// Receive what is there, into up to `REGIONS` regions of `REGION` bytes.
    fn receive(&mut self, socket: usize, buffer: &mut [u8], received: &mut Vec<Received>) -> io::Result<()>;

    /// The next of the socket's errors: a target, and how large datagrams to it may be, where it says that.
    fn path_error(&mut self, socket: usize) -> Option<Option<(SocketAddr, usize)>>;

    /// Set the time to live of what is sent from now on, None for the system's default; whether that worked.
    fn set_ttl(&mut self, socket: usize, ttl: Option<u8>) -> bool;
}
