//! The engine: packets between device and UDP sockets, for flows that are known; everything else is handed up.
//!
//! One thread owns it. It is told what to do by commands, tells events, and shares counters. It never waits, but a
//! moment for room in a socket's buffer. Not here: waiting for descriptors (`pump`), and the system's calls (`sys`).

mod commands;
pub mod events;
pub mod outbox;
pub mod peer;
mod receive;
mod relay;
mod send;
pub mod table;
#[cfg(any(test, fuzzing))]
pub mod testing;
pub mod totals;
mod transmit;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::crypto::{fastest, Job, RecordCipher};
use crate::io::{Io, Received, REGION, REGIONS};
use crate::packet::coalesce::{Coalescer, Piece, Sink};
use crate::packet::headers::Link;
use crate::packet::virtio::VirtioHeader;
use events::{Event, Queues};
use outbox::Outbox;
use peer::{count, Peer};
pub use receive::normal;
use table::{Cache, Mode, NodeId, PeerId, Table};
use totals::Totals;

/// Largest frame in bytes (data-legacy 1).
pub const MTU: usize = 1518;
/// Room for the largest packet of a device with its header.
const READ_SIZE: usize = (1 << 16) + 256;

/// When each MAC address behind the own device was last seen, in nanoseconds of the monotonic clock.
pub type MacAges = Mutex<HashMap<[u8; 6], Arc<AtomicU64>>>;

/// What is shared with whoever drives the engine.
#[derive(Default)]
pub struct Shared {
    pub queues: Queues,
    pub totals: Totals,
    pub macs: MacAges,
}

pub struct Engine<I: Io> {
    io: I,
    link: Link,
    me: NodeId,
    cipher: &'static dyn RecordCipher,
    shared: Arc<Shared>,
    /// Nanoseconds of the monotonic clock, as of the beginning of this batch.
    now: u64,
    table: Box<Table>,
    cache: Cache,
    peers: Vec<Option<Box<Peer>>>,
    ids: HashMap<NodeId, PeerId>,
    sources: HashMap<SocketAddr, PeerId>,
    macs: HashMap<[u8; 6], Arc<AtomicU64>>,
    outbox: Outbox,
    coalescer: Coalescer,
    incoming: Incoming,
    read_buffer: Vec<u8>,
    jobs: Vec<Job>,
    spare: Vec<Job>,
}

/// What was received and is being worked on.
struct Incoming {
    buffer: Vec<u8>,
    received: Vec<Received>,
    datagrams: Vec<receive::Datagram>,
}

/// Writes to the device, and counts.
struct Device<'a, I: Io> {
    io: &'a mut I,
    totals: &'a Totals,
    missing: usize,
}

impl<I: Io> Sink for Device<'_, I> {
    fn write(&mut self, buffer: &[u8], header: &VirtioHeader, pieces: &[Piece]) {
        count(&self.totals.device_writes, 1);
        // As many packets as there are pieces: each but the first lacks its headers.
        let packets = pieces.len() as u64;
        match self.io.write(buffer, header, pieces) {
            Ok(()) => {
                let bytes: usize = pieces.iter().map(|piece| piece.len).sum();
                let headers = usize::from(header.hdr_len) * (pieces.len() - 1);
                count(&self.totals.device_packets_out, packets);
                count(&self.totals.device_bytes_out, (bytes + headers) as u64 + packets * self.missing as u64);
            }
            // The interface is down, its queue is full, or this is no packet: lost as on any wire.
            Err(_) => count(&self.totals.device_failed, packets),
        }
    }
}

impl<I: Io> Engine<I> {
    /// `udp` says whether the device takes large UDP packets.
    pub fn new(io: I, link: Link, me: NodeId, udp: bool, shared: Arc<Shared>) -> Self {
        Self {
            io,
            link,
            me,
            cipher: fastest(),
            shared,
            now: 0,
            table: Box::new(Table::new(Mode::Other)),
            cache: Cache::new(),
            peers: Vec::new(),
            ids: HashMap::new(),
            sources: HashMap::new(),
            macs: HashMap::new(),
            outbox: Outbox::new(),
            coalescer: Coalescer::new(link, udp),
            incoming: Incoming {
                buffer: vec![0; REGION * REGIONS],
                received: Vec::with_capacity(REGIONS),
                datagrams: Vec::with_capacity(512),
            },
            read_buffer: vec![0; READ_SIZE],
            jobs: Vec::with_capacity(512),
            spare: Vec::with_capacity(64),
        }
    }

    /// The time of what comes next.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// The system that the engine works with.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    fn peer(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(peer as usize)?.as_deref_mut()
    }

    fn tell(&self, event: Event) {
        self.shared.queues.tell(event);
    }

    /// Write what waits for more of its stream.
    fn flush_device(&mut self) {
        let mut device = Device { io: &mut self.io, totals: &self.shared.totals, missing: self.link.missing() };
        self.coalescer.flush(&mut self.incoming.buffer, &mut device);
    }
}

#[cfg(test)]
mod tests;
