//! What goes between the engine and whoever drives it: commands down, events up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::{ArrayQueue, SegQueue};

use super::peer::Path;
use super::table::{NodeId, PeerId, Table};
use crate::crypto::legacy::LegacyKey;
use crate::flow::session::{SessionState, Step};

/// Packets that wait to be handed up.
const MAX_PACKETS: usize = 1024;
/// Events of other kinds that wait.
const MAX_EVENTS: usize = 4096;
/// Commands that packets make and that wait; beyond, packets are dropped.
const MAX_INJECTED: u64 = 4096;

/// What the engine does not decide. Frames have their Ethernet header.
pub enum Event {
    /// A frame of the own device for which there is no lane, or which does not fit.
    Frame {
        frame: Vec<u8>,
    },
    /// A datagram of nobody that is known, or that nobody's key opens.
    Datagram {
        from: SocketAddr,
        socket: usize,
        datagram: Vec<u8>,
    },
    /// An authentic frame of a peer that does not simply go to the device. `from` is None where it came by TCP.
    FromPeer {
        peer: PeerId,
        from: Option<SocketAddr>,
        frame: Vec<u8>,
    },
    /// An authentic record that Python has to unpack: compressed, or with an unexpected header.
    Record {
        peer: PeerId,
        from: Option<SocketAddr>,
        kind: u8,
        data: Vec<u8>,
    },
    /// A frame that the kernel refused as too big for the path of `hop`.
    Refused {
        owner: PeerId,
        hop: PeerId,
        frame: Vec<u8>,
    },
    /// A datagram of the peer that opens in none of its sessions, though its number is near; ids and all, or without
    /// them where it came by TCP.
    Unopened {
        peer: PeerId,
        from: Option<(SocketAddr, usize)>,
        datagram: Vec<u8>,
    },
    /// The kernel refused a relayed datagram with so many bytes of data as too big for the path of this peer.
    TooBig {
        peer: PeerId,
        size: usize,
    },
    /// A datagram between others that has to go on by TCP. `sender` is who handed it to us.
    Relay {
        sender: PeerId,
        datagram: Vec<u8>,
    },
    Probe {
        peer: PeerId,
        from: SocketAddr,
        frame: Vec<u8>,
    },
    AddressSeen {
        peer: PeerId,
        from: SocketAddr,
        socket: usize,
    },
    KeyNeeded {
        peer: PeerId,
    },
    Doubted {
        peer: PeerId,
    },
    Confirmed {
        peer: PeerId,
        session: u64,
    },
    /// An authentic packet came through a relay or by TCP.
    Relayed {
        peer: PeerId,
        by_tcp: bool,
    },
    Worn {
        peer: PeerId,
    },
    HandshakeOpened {
        peer: PeerId,
        session: u64,
        data: Vec<u8>,
    },
    HandshakeSealed {
        peer: PeerId,
        session: u64,
        datagram: Vec<u8>,
    },
    /// The answer to `Command::SealForTcp`: ids are not included.
    Sealed {
        peer: PeerId,
        token: u64,
        datagram: Vec<u8>,
    },
    SessionState {
        peer: PeerId,
        session: u64,
        state: Box<SessionState>,
    },
    MacSeen {
        mac: [u8; 6],
    },
    /// A router says that a datagram to this address may have so many bytes.
    PathTooNarrow {
        to: SocketAddr,
        datagram: usize,
    },
    /// The device can be read no longer, for this reason (an error number).
    DeviceFailed {
        error: i32,
    },
}

impl Event {
    /// Whether it is one of many, that a peer or a host can make at will.
    pub(super) fn is_packet(&self) -> bool {
        matches!(
            self,
            Self::Frame { .. }
                | Self::Datagram { .. }
                | Self::FromPeer { .. }
                | Self::Record { .. }
                | Self::Refused { .. }
                | Self::Relay { .. }
                | Self::Unopened { .. }
        )
    }
}

/// What the engine is told to do, in order.
pub enum Command {
    SetTable(Box<Table>),
    AddPeer {
        peer: PeerId,
        id: NodeId,
        counters: std::sync::Arc<super::peer::Counters>,
    },
    RemovePeer {
        peer: PeerId,
    },
    /// Keys, sessions, path and replay state are void.
    Forget {
        peer: PeerId,
    },
    SetSender {
        peer: PeerId,
        key: Option<Box<LegacyKey>>,
    },
    AddReceiver {
        peer: PeerId,
        key: Box<LegacyKey>,
        replay_window: u32,
    },
    Install {
        peer: PeerId,
        session: u64,
        state: Box<SessionState>,
    },
    Use {
        peer: PeerId,
        session: u64,
    },
    Drop {
        peer: PeerId,
        session: u64,
    },
    Step {
        peer: PeerId,
        session: u64,
        step: Step,
    },
    Export {
        peer: PeerId,
        session: u64,
    },
    SetPath {
        peer: PeerId,
        path: Path,
    },
    /// An authentic datagram of the peer came from there.
    Heard {
        peer: PeerId,
        from: SocketAddr,
        socket: usize,
    },
    OpenHandshake {
        peer: PeerId,
        datagram: Vec<u8>,
    },
    /// A datagram of the peer that came by TCP, without ids.
    OpenFromTcp {
        peer: PeerId,
        datagram: Vec<u8>,
    },
    /// Seal a record that goes by TCP; `Event::Sealed` is the answer.
    SealForTcp {
        peer: PeerId,
        token: u64,
        kind: u8,
        data: Vec<u8>,
    },
    /// A datagram that was handed up, to be looked at again.
    Datagram {
        from: SocketAddr,
        socket: usize,
        datagram: Vec<u8>,
    },
    /// Seal a frame for `seal` and send it to `hop`, or to an address. What the kernel refuses comes back.
    Send {
        owner: PeerId,
        seal: PeerId,
        hop: PeerId,
        to: Option<(SocketAddr, usize)>,
        ttl: u8,
        kind: Option<u8>,
        frame: Vec<u8>,
    },
    /// Send on a datagram between others, ids and all.
    Forward {
        hop: PeerId,
        datagram: Vec<u8>,
    },
    /// Write a frame to the own device.
    Write {
        frame: Vec<u8>,
    },
    ForgetMac {
        mac: [u8; 6],
    },
}

impl Command {
    /// Whether it is one of many, that a peer or a host can make at will.
    pub(super) fn is_packet(&self) -> bool {
        matches!(
            self,
            Self::Datagram { .. }
                | Self::Send { .. }
                | Self::Write { .. }
                | Self::Forward { .. }
                | Self::OpenFromTcp { .. }
                | Self::OpenHandshake { .. }
                | Self::SealForTcp { .. }
        )
    }
}

/// The queues, and what had no room in them.
pub struct Queues {
    packets: ArrayQueue<Event>,
    events: ArrayQueue<Event>,
    commands: SegQueue<Command>,
    injected: AtomicU64,
    pub dropped_packets: AtomicU64,
    pub dropped_events: AtomicU64,
    pub dropped_injected: AtomicU64,
}

impl Queues {
    #[must_use]
    pub fn new() -> Self {
        Self {
            packets: ArrayQueue::new(MAX_PACKETS),
            events: ArrayQueue::new(MAX_EVENTS),
            commands: SegQueue::new(),
            injected: AtomicU64::new(0),
            dropped_packets: AtomicU64::new(0),
            dropped_events: AtomicU64::new(0),
            dropped_injected: AtomicU64::new(0),
        }
    }

    /// Hand up, or count what is lost.
    pub fn tell(&self, event: Event) {
        let (queue, dropped) = if event.is_packet() {
            (&self.packets, &self.dropped_packets)
        } else {
            (&self.events, &self.dropped_events)
        };
        if queue.push(event).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next event: those that are no packets first.
    #[must_use]
    pub fn next_event(&self) -> Option<Event> {
        self.events.pop().or_else(|| self.packets.pop())
    }

    /// Whether anything waits to be handed up.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.packets.is_empty()
    }

    /// Give a command. Those of the mesh are always taken, as it makes few; packets up to a bound.
    pub fn command(&self, command: Command) {
        if command.is_packet() && self.injected.fetch_add(1, Ordering::AcqRel) >= MAX_INJECTED {
            self.injected.fetch_sub(1, Ordering::AcqRel);
            self.dropped_injected.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.commands.push(command);
    }

    #[must_use]
    pub fn next_command(&self) -> Option<Command> {
        let command = self.commands.pop()?;
        if command.is_packet() {
            self.injected.fetch_sub(1, Ordering::AcqRel);
        }
        Some(command)
    }
}

impl Default for Queues {
    fn default() -> Self {
        Self::new()
    }
}
