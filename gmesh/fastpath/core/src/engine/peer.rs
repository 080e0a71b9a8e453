//! What the engine holds for each peer, and the counters that others read meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::table::NodeId;
use crate::flow::legacy::{LegacyReceiver, LegacySender};
use crate::flow::session::Session;

/// One second, in the engine's nanoseconds.
pub const SECOND: u64 = 1_000_000_000;
/// How long the receive key before the newest one is still accepted.
const OLD_KEY_TIME: u64 = 10 * SECOND;
/// A connect may renew keys twice in a row (data-legacy 3.2).
const MAX_OLD_KEYS: usize = 2;
/// Sessions of one peer at once; the mesh installs two at most.
pub const MAX_SESSIONS: usize = 4;
/// Addresses remembered per peer, besides the path's, from which authentic datagrams came.
pub const MAX_SOURCES: usize = 4;

/// Counters of a flow, read while the engine runs. `last_authentic` (straight from the peer by UDP) and
/// `last_opened` (any way) are in nanoseconds of the monotonic clock.
#[derive(Debug, Default)]
pub struct Counters {
    pub packets_in: AtomicU64,
    pub bytes_in: AtomicU64,
    pub packets_out: AtomicU64,
    pub bytes_out: AtomicU64,
    pub wanted: AtomicU64,
    pub udp_out: AtomicU64,
    pub last_authentic: AtomicU64,
    pub last_opened: AtomicU64,
}

/// Count up. There is one writer, so no locked instruction is needed.
pub fn count(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// Where and how UDP reaches a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub address: Option<SocketAddr>,
    /// The socket to send from.
    pub socket: usize,
    /// Whether data may go by UDP.
    pub udp: bool,
    /// The largest frame (bytes, link header included) that is proved to arrive.
    pub min_mtu: usize,
    /// The bound by which MSS is clamped.
    pub mtu: usize,
    /// Whether datagrams bear node ids: peers of minor 4 and later.
    pub ids: bool,
}

impl Path {
    /// As for a peer of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { address: None, socket: 0, udp: false, min_mtu: 0, mtu: 1518, ids: true }
    }
}

/// An installed session, by the number that the mesh gave it.
pub struct Installed {
    pub number: u64,
    pub session: Session,
    /// Whether a datagram was opened in it.
    pub confirmed: bool,
    /// Whether it was told that it is worn.
    pub worn: bool,
}

/// A peer's state. It belongs to one thread.
pub struct Peer {
    pub id: NodeId,
    pub path: Path,
    pub counters: Arc<Counters>,
    pub sender: Option<LegacySender>,
    /// The newest first.
    pub receivers: Vec<LegacyReceiver>,
    pub sessions: Vec<Installed>,
    /// The number of the session to send with.
    pub sending: Option<u64>,
    /// Addresses that datagrams of late came from, and by which sockets.
    pub sources: Vec<(SocketAddr, usize)>,
    /// The address that was last told of as a new one.
    pub reported: Option<SocketAddr>,
    pub worn: bool,
    /// Whether the kernel takes trains for this peer's route.
    pub trains: bool,
    /// When the next of these events may be told.
    pub key_needed_at: u64,
    pub doubted_at: u64,
    pub relayed_at: u64,
}

impl Peer {
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            path: Path::unknown(),
            counters: Arc::default(),
            sender: None,
            receivers: Vec::new(),
            sessions: Vec::new(),
            sending: None,
            sources: Vec::new(),
            reported: None,
            worn: false,
            trains: true,
            key_needed_at: 0,
            doubted_at: 0,
            relayed_at: 0,
        }
    }

    /// Make a key the newest; those before are accepted for a while, each with its own window.
    pub fn add_receiver(&mut self, receiver: LegacyReceiver, now: u64) {
        if let Some(newest) = self.receivers.first_mut() {
            newest.until = now.saturating_add(OLD_KEY_TIME);
        }
        self.receivers.retain(|old| old.until > now);
        self.receivers.truncate(MAX_OLD_KEYS);
        self.receivers.insert(0, receiver);
        self.worn = false;
    }

    pub fn installed(&mut self, number: u64) -> Option<&mut Installed> {
        self.sessions.iter_mut().find(|installed| installed.number == number)
    }

    /// The session to send with.
    pub fn sending(&mut self) -> Option<&mut Session> {
        let number = self.sending?;
        self.installed(number).map(|installed| &mut installed.session)
    }

    /// Whether something could be sealed for the peer.
    #[must_use]
    pub fn can_seal(&self) -> bool {
        self.sender.is_some() || self.sending.is_some()
    }

    /// Whether a frame of so many bytes may go by UDP to this peer.
    #[must_use]
    pub fn carries(&self, frame: usize) -> bool {
        self.path.udp && self.path.address.is_some() && frame <= self.path.min_mtu
    }

    /// Whether `at` has come; then it moves a second on.
    pub fn due(at: &mut u64, now: u64) -> bool {
        let due = now >= *at;
        if due {
            *at = now + SECOND;
        }
        due
    }
}
