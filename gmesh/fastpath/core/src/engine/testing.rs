//! Engines that talk to each other through a system made of queues, whose refusals are chosen by tests and fuzzers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::events::{Command, Event};
use super::peer::{Counters, Path};
use super::table::{Lane, Mode, NodeId, PeerId, Table};
use super::*;
use crate::crypto::legacy::LegacyKey;
use crate::flow::session::SessionState;
use crate::flow::window::WindowState;
use crate::io::Message;
use crate::packet::checksum::{field, fold, pseudo, sum};
use crate::packet::headers::{Link, TCP};
use crate::packet::virtio::{GSO_TCPV4, NEEDS_CSUM};

/// A message as it was sent: datagrams one by one.
pub type Sent = (SocketAddr, Vec<u8>);

#[derive(Default)]
pub struct FakeIo {
    pub bare: bool,
    pub device: VecDeque<Vec<u8>>,
    pub written: Vec<(VirtioHeader, Vec<u8>)>,
    pub sent: Vec<Sent>,
    /// Segments of each message that was sent, 1 for single datagrams.
    pub trains: Vec<usize>,
    pub arriving: VecDeque<Sent>,
    /// Errors for the next calls of `send`.
    pub refuse: VecDeque<i32>,
    /// Datagrams longer than this are refused, and trains altogether.
    pub longest: Option<usize>,
    pub no_trains: Option<i32>,
    pub path_errors: VecDeque<Option<(SocketAddr, usize)>>,
    pub ttls: Vec<Option<u8>>,
}

impl Io for FakeIo {
    fn virtio(&self) -> bool {
        !self.bare
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let packet = self.device.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..packet.len()].copy_from_slice(&packet);
        Ok(packet.len())
    }

    fn write(&mut self, buffer: &[u8], header: &VirtioHeader, pieces: &[Piece]) -> io::Result<()> {
        let bytes = pieces.iter().flat_map(|piece| &buffer[piece.start..piece.start + piece.len]).copied().collect();
        self.written.push((*header, bytes));
        Ok(())
    }

    fn send(&mut self, _socket: usize, buffer: &[u8], messages: &[Message]) -> io::Result<usize> {
        let message = messages[0];
        if let Some(error) = self.refuse.pop_front() {
            return Err(io::Error::from_raw_os_error(error));
        }
        if let Some(error) = self.no_trains.filter(|_| message.segment != 0) {
            return Err(io::Error::from_raw_os_error(error));
        }
        let segment = if message.segment == 0 { message.len } else { message.segment };
        if self.longest.is_some_and(|longest| segment > longest) {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let bytes = &buffer[message.start..message.start + message.len];
        self.trains.push(bytes.chunks(segment).count());
        self.sent.extend(bytes.chunks(segment).map(|datagram| (message.to, datagram.to_vec())));
        Ok(1)
    }

    fn wait_to_send(&mut self, _socket: usize) {}

    /// Everything that arrives and is of one length is one train.
    fn receive(&mut self, _socket: usize, buffer: &mut [u8], received: &mut Vec<Received>) -> io::Result<()> {
        for region in 0..REGIONS {
            let Some((from, first)) = self.arriving.pop_front() else { break };
            let (start, mut len) = (region * REGION, first.len());
            buffer[start..start + len].copy_from_slice(&first);
            while let Some((_, next)) = self.arriving.front().filter(|(other, next)| {
                *other == from && next.len() <= first.len() && len + next.len() <= REGION && len % first.len() == 0
            }) {
                buffer[start + len..start + len + next.len()].copy_from_slice(next);
                len += next.len();
                self.arriving.pop_front();
            }
            received.push(Received { from, start, len, segment: if len > first.len() { first.len() } else { 0 } });
        }
        if received.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    fn path_error(&mut self, _socket: usize) -> Option<Option<(SocketAddr, usize)>> {
        self.path_errors.pop_front()
    }

    fn set_ttl(&mut self, _socket: usize, ttl: Option<u8>) -> bool {
        self.ttls.push(ttl);
        true
    }
}

pub const IDS: [NodeId; 3] = [*b"alpha1", *b"beta22", *b"gamma3"];

pub fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8 + 1], 655))
}

/// Node `i` owns 10.0.i.0/24 and fd00:i::/32. In each engine peers have the numbers of their nodes.
pub struct Net {
    pub engines: Vec<Engine<FakeIo>>,
}

pub fn path(node: usize) -> Path {
    Path { address: Some(address(node)), udp: true, min_mtu: 1453, mtu: 1453, ..Path::unknown() }
}

pub fn key(from: usize, to: usize) -> [u8; 32] {
    [(16 * from + to + 1) as u8; 32]
}

pub fn state(me: usize, other: usize) -> Box<SessionState> {
    Box::new(SessionState {
        send: key(me, other),
        next_number: 2,
        receive: key(other, me),
        staged: None,
        previous: None,
        previous_for: 0,
        window: WindowState { size: 16, expected: 2, late: vec![0; 16], far_future: 0 },
    })
}

pub fn legacy_key(from: usize, to: usize, mac_len: usize) -> Box<LegacyKey> {
    Box::new(LegacyKey::new(427, 672, mac_len, &[(16 * from + to + 1) as u8; 48]).unwrap())
}

/// The table of a node, whatever its device carries.
pub fn table(me: usize, hops: impl Fn(usize) -> [Option<PeerId>; 2]) -> Box<Table> {
    let mut table = Table::new(Mode::Router);
    for node in 0..3 {
        let seal = (node != me).then_some(node as PeerId);
        table.lanes.push(Lane { owner: node as PeerId, seal, hops: hops(node), clamp: true });
    }
    for node in 0..3u8 {
        assert!(table.add(&[10, 0, node, 0], 24, Some(node.into())));
        let mut six = [0; 16];
        six[..4].copy_from_slice(&[0xfd, 0, 0, node]);
        assert!(table.add(&six, 32, Some(node.into())));
        assert!(table.add(&mac(node), 48, Some(node.into())));
        if usize::from(node) != me {
            table.relays.insert(IDS[usize::from(node)], vec![node.into()]);
        }
    }
    Box::new(table)
}

impl Net {
    /// Nodes with tun devices that reach each other directly.
    #[must_use]
    pub fn new(sptps: bool) -> Self {
        Self::with(sptps, Link::Tun)
    }

    /// The same with devices of either kind.
    #[must_use]
    pub fn with(sptps: bool, link: Link) -> Self {
        let mut engines = Vec::new();
        for (me, id) in IDS.into_iter().enumerate() {
            let shared = Arc::new(Shared::default());
            let mut engine = Engine::new(FakeIo::default(), link, id, true, shared);
            engine.set_time(1_000_000_000);
            for node in (0..3).filter(|node| *node != me) {
                let peer = node as PeerId;
                let mut commands = vec![
                    Command::AddPeer { peer, id: IDS[node], counters: Arc::new(Counters::default()) },
                    Command::SetPath { peer, path: path(node) },
                ];
                if sptps {
                    commands.push(Command::Install { peer, session: 7, state: state(me, node) });
                    commands.push(Command::Use { peer, session: 7 });
                } else {
                    commands.push(Command::SetSender { peer, key: Some(legacy_key(me, node, 4)) });
                    commands.push(Command::AddReceiver { peer, key: legacy_key(node, me, 4), replay_window: 16 });
                }
                commands.into_iter().for_each(|command| engine.shared.queues.command(command));
            }
            let mut table = table(me, |node| [Some(node as PeerId), None]);
            if link == Link::Tap {
                table.mode = Mode::Switch;
            }
            engine.shared.queues.command(Command::SetTable(table));
            assert!(!engine.perform());
            engines.push(engine);
        }
        Self { engines }
    }

    pub fn command(&mut self, node: usize, command: Command) {
        self.engines[node].shared.queues.command(command);
        self.engines[node].perform();
    }

    pub fn read(&mut self, node: usize, packets: Vec<Vec<u8>>) {
        self.engines[node].io.device.extend(packets);
        while !self.engines[node].io.device.is_empty() {
            assert!(self.engines[node].device_readable());
        }
    }

    /// Deliver everything that was sent, until nothing is on its way.
    pub fn deliver(&mut self) {
        loop {
            let mut idle = true;
            for from in 0..3 {
                for (to, datagram) in std::mem::take(&mut self.engines[from].io.sent) {
                    idle = false;
                    if let Some(node) = (0..3).find(|node| address(*node) == to) {
                        self.engines[node].io.arriving.push_back((address(from), datagram));
                    }
                }
            }
            if idle {
                return;
            }
            for engine in &mut self.engines {
                while !engine.io.arriving.is_empty() {
                    engine.socket_readable(0);
                }
            }
        }
    }

    pub fn written(&mut self, node: usize) -> Vec<(VirtioHeader, Vec<u8>)> {
        std::mem::take(&mut self.engines[node].io.written)
    }

    pub fn events(&mut self, node: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.engines[node].shared.queues.next_event()).collect()
    }

    pub fn total(&self, node: usize, name: &str) -> u64 {
        let all = self.engines[node].shared.totals.all();
        all.iter().find(|(other, _)| *other == name).map(|(_, value)| *value).unwrap()
    }

    pub fn counter(&mut self, node: usize, peer: usize, which: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        let peer = self.engines[node].peer(peer as PeerId).unwrap();
        which(&peer.counters).load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// The MAC address behind a node's device.
#[must_use]
pub fn mac(node: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, node]
}

/// A UDP packet of `len` bytes in all, as the device hands it over.
pub fn packet(from: u8, to: u8, len: usize) -> Vec<u8> {
    let mut bytes = VirtioHeader::default().bytes().to_vec();
    bytes.extend(bare(from, to, len));
    bytes
}

pub fn bare(from: u8, to: u8, len: usize) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((len as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, from, 1, 10, 0, to, 1]);
    let check = field(sum(&ip));
    ip[10..12].copy_from_slice(&check);
    ip.extend([0, 9, 0, 9]);
    ip.extend((len as u16 - 20).to_be_bytes());
    ip.extend([0, 0]);
    ip.resize(len, 0x5a);
    ip
}

/// A large TCP packet as the device hands it over.
pub fn large(to: u8, payload: usize, size: u16) -> Vec<u8> {
    let total = 40 + payload;
    let header = VirtioHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 40,
        gso_size: size,
        csum_start: 20,
        csum_offset: 16,
    };
    let mut bytes = header.bytes().to_vec();
    let mut ip = vec![0x45, 0];
    ip.extend((total as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, to, 1]);
    let check = field(sum(&ip));
    ip[10..12].copy_from_slice(&check);
    let open = fold(pseudo(&ip[12..20], TCP, total - 20)).to_ne_bytes();
    ip.extend([0, 9, 0, 9, 0, 0, 1, 0, 0, 0, 2, 0, 0x50, 0x10, 1, 0]);
    ip.extend(open);
    ip.extend([0, 0]);
    ip.extend((0..payload).map(|i| (i * 7) as u8));
    bytes.extend(ip);
    bytes
}

/// What fuzzers call: each takes any bytes, and fails only by a panic.
pub mod fuzz {
    use super::*;
    use crate::packet::coalesce::Coalescer;
    use crate::packet::segment::{outgoing, Outgoing};

    fn link(tap: bool) -> Link {
        if tap {
            Link::Tap
        } else {
            Link::Tun
        }
    }

    /// Datagrams from peers and strangers: the first byte says from whom, of which protocol, for what device.
    pub fn datagram(data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let mut net = Net::with(choice & 1 == 0, link(choice & 2 == 0));
        let from = usize::from(choice >> 2 & 3);
        for chunk in bytes.chunks(200).filter(|chunk| !chunk.is_empty()) {
            let mut datagram = chunk.to_vec();
            if choice & 16 == 0 && datagram.len() >= 12 {
                // Ids that exist make the rest worth looking at.
                datagram[..6].copy_from_slice(if choice & 32 == 0 { &[0; 6] } else { &IDS[2] });
                datagram[6..12].copy_from_slice(&IDS[0]);
            }
            net.engines[1].io.arriving.push_back((address(from), datagram));
        }
        while !net.engines[1].io.arriving.is_empty() {
            net.engines[1].socket_readable(0);
        }
    }

    /// Plain text under a right key, as a peer may send it: any type, any packet.
    pub fn record(data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let mut net = Net::with(choice & 1 == 0, link(choice & 2 == 0));
        for chunk in bytes.chunks(150) {
            let kind = (choice & 4 == 0).then_some(choice >> 3);
            let frame = chunk.to_vec();
            net.command(0, Command::Send { owner: 1, seal: 1, hop: 1, to: None, ttl: 0, kind, frame });
        }
        net.deliver();
    }

    /// Frames of the own device, virtio headers and all.
    pub fn frame(data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let mut net = Net::with(choice & 1 == 0, link(choice & 2 == 0));
        net.engines[0].io.bare = choice & 4 == 0;
        for chunk in bytes.chunks(if choice & 8 == 0 { 120 } else { 4000 }) {
            net.read(0, vec![chunk.to_vec()]);
        }
        net.deliver();
    }

    /// The cutting up alone.
    pub fn virtio(data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let mut bytes = bytes.to_vec();
        let Some((header, packet)) = VirtioHeader::split(&mut bytes) else { return };
        if packet.is_empty() {
            return;
        }
        if let Ok(Outgoing::Many(many)) = outgoing(&header, packet, link(choice & 1 == 0)) {
            for index in 0..many.count() {
                many.write(index, &mut vec![0; many.len(index)]);
            }
        }
    }

    struct Bytes(usize);

    impl Sink for Bytes {
        fn write(&mut self, buffer: &[u8], _: &VirtioHeader, pieces: &[Piece]) {
            self.0 += pieces.iter().map(|piece| buffer[piece.start..piece.start + piece.len].len()).sum::<usize>();
        }
    }

    /// The putting together: packets of the length that comes before each.
    pub fn coalesce(data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let mut buffer = bytes.to_vec();
        let mut coalescer = Coalescer::new(link(choice & 1 == 0), choice & 2 == 0);
        let mut written = Bytes(0);
        let mut at = 0;
        while let Some(len) = bytes.get(at).copied().map(usize::from) {
            let len = len.min(bytes.len() - at - 1);
            if len > 0 {
                coalescer.push(&mut buffer, Piece { start: at + 1, len }, &mut written);
            }
            at += 1 + len;
        }
        coalescer.flush(&mut buffer, &mut written);
        assert!(written.0 <= buffer.len());
    }

    /// Legacy datagrams in any algorithm.
    pub fn legacy(data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let (cipher, size) = [(0, 1), (91, 24), (419, 32), (423, 40), (427, 48)][usize::from(choice & 7) % 5];
        let digest = [0, 64, 672, 673, 674][usize::from(choice >> 3 & 7) % 5];
        let Some(key) = LegacyKey::new(cipher, digest, usize::from(choice >> 6) * 5, &vec![7; size]) else { return };
        let mut datagram = bytes.to_vec();
        let _ = key.open(&mut datagram);
        let _ = key.decrypt(&mut datagram);
        let mut sealed = bytes.to_vec();
        sealed.resize(key.sealed_len(bytes.len()), 0);
        key.seal(&mut sealed, std::slice::from_ref(&(0..bytes.len())));
        if bytes.len() >= 4 {
            let len = key.open(&mut sealed);
            assert_eq!(len, Ok(bytes.len()));
            assert_eq!(&sealed[..bytes.len()], bytes);
        }
    }
}
