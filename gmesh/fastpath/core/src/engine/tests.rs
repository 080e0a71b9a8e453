//! Engines that talk to each other through a system made of queues, whose refusals are chosen by the tests.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::events::{Command, Event};
use super::peer::{Counters, Path};
use super::table::{Lane, Mode, NodeId, PeerId, Table};
use super::*;
use crate::crypto::legacy::LegacyKey;
use crate::flow::session::{SessionState, Step};
use crate::flow::window::WindowState;
use crate::io::Message;
use crate::packet::checksum::{field, fold, pseudo, sum};
use crate::packet::headers::{Link, TCP};
use crate::packet::virtio::{GSO_TCPV4, NEEDS_CSUM};

/// A message as it was sent: datagrams one by one.
type Sent = (SocketAddr, Vec<u8>);

#[derive(Default)]
pub(crate) struct FakeIo {
    bare: bool,
    device: VecDeque<Vec<u8>>,
    written: Vec<(VirtioHeader, Vec<u8>)>,
    sent: Vec<Sent>,
    /// Segments of each message that was sent, 1 for single datagrams.
    trains: Vec<usize>,
    arriving: VecDeque<Sent>,
    /// Errors for the next calls of `send`.
    refuse: VecDeque<i32>,
    /// Datagrams longer than this are refused, and trains altogether.
    longest: Option<usize>,
    no_trains: Option<i32>,
    path_errors: VecDeque<Option<(SocketAddr, usize)>>,
    ttls: Vec<Option<u8>>,
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

const IDS: [NodeId; 3] = [*b"alpha1", *b"beta22", *b"gamma3"];

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8 + 1], 655))
}

/// Node `i` owns 10.0.i.0/24 and fd00:i::/32. In each engine peers have the numbers of their nodes.
pub(crate) struct Net {
    engines: Vec<Engine<FakeIo>>,
}

fn path(node: usize) -> Path {
    Path { address: Some(address(node)), udp: true, min_mtu: 1453, mtu: 1453, confirmed: true, ..Path::unknown() }
}

fn key(from: usize, to: usize) -> [u8; 32] {
    [(16 * from + to + 1) as u8; 32]
}

fn state(me: usize, other: usize) -> Box<SessionState> {
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

fn legacy_key(from: usize, to: usize, mac_len: usize) -> Box<LegacyKey> {
    Box::new(LegacyKey::new(427, 672, mac_len, &[(16 * from + to + 1) as u8; 48]).unwrap())
}

fn table(me: usize, hops: impl Fn(usize) -> [Option<PeerId>; 2]) -> Box<Table> {
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
        if usize::from(node) != me {
            table.relays.insert(IDS[usize::from(node)], vec![node.into()]);
        }
    }
    Box::new(table)
}

impl Net {
    /// Nodes that reach each other directly.
    pub(crate) fn new(sptps: bool) -> Self {
        let mut engines = Vec::new();
        for me in 0..3 {
            let shared = Arc::new(Shared::default());
            let mut engine = Engine::new(FakeIo::default(), Link::Tun, IDS[me], true, shared);
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
            engine.shared.queues.command(Command::SetTable(table(me, |node| [Some(node as PeerId), None])));
            assert!(!engine.perform());
            engines.push(engine);
        }
        Self { engines }
    }

    fn command(&mut self, node: usize, command: Command) {
        self.engines[node].shared.queues.command(command);
        self.engines[node].perform();
    }

    fn from_device(&mut self, node: usize, packets: Vec<Vec<u8>>) {
        self.engines[node].io.device.extend(packets);
        while !self.engines[node].io.device.is_empty() {
            assert!(self.engines[node].device_readable());
        }
    }

    /// Deliver everything that was sent, until nothing is on its way.
    fn deliver(&mut self) {
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

    fn written(&mut self, node: usize) -> Vec<(VirtioHeader, Vec<u8>)> {
        std::mem::take(&mut self.engines[node].io.written)
    }

    fn events(&mut self, node: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.engines[node].shared.queues.next_event()).collect()
    }

    fn total(&self, node: usize, name: &str) -> u64 {
        let all = self.engines[node].shared.totals.all();
        all.iter().find(|(other, _)| *other == name).map(|(_, value)| *value).unwrap()
    }

    fn counter(&mut self, node: usize, peer: usize, which: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        let peer = self.engines[node].peer(peer as PeerId).unwrap();
        which(&peer.counters).load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A UDP packet of `len` bytes in all, as the device hands it over.
fn packet(from: u8, to: u8, len: usize) -> Vec<u8> {
    let mut bytes = VirtioHeader::default().bytes().to_vec();
    bytes.extend(bare(from, to, len));
    bytes
}

fn bare(from: u8, to: u8, len: usize) -> Vec<u8> {
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
fn large(to: u8, payload: usize, size: u16) -> Vec<u8> {
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

#[test]
fn packets_arrive_in_both_protocols() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        net.from_device(0, vec![packet(0, 1, 100), packet(0, 2, 1439), packet(0, 1, 40)]);
        net.deliver();
        let at = |net: &mut Net, node| net.written(node).into_iter().map(|(_, packet)| packet).collect::<Vec<_>>();
        assert_eq!(at(&mut net, 1), [bare(0, 1, 100), bare(0, 1, 40)]);
        assert_eq!(at(&mut net, 2), [bare(0, 2, 1439)]);
        assert!(!net.events(0).iter().any(Event::is_packet));
        assert_eq!(net.counter(0, 1, |c| &c.packets_out), 2);
        assert_eq!(net.counter(0, 1, |c| &c.bytes_out), 168);
        assert_eq!(net.counter(0, 1, |c| &c.udp_out), 2);
        assert_eq!(net.counter(1, 0, |c| &c.packets_in), 2);
        assert_eq!(net.counter(1, 0, |c| &c.bytes_in), 168);
        assert_eq!(net.counter(1, 0, |c| &c.last_authentic), 1_000_000_000);
    }
}

#[test]
fn a_large_packet_is_a_train_and_then_a_large_packet() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        let sent = large(1, 50_000, 1399);
        net.from_device(0, vec![sent.clone()]);
        assert_eq!(net.engines[0].io.trains, [36], "one train");
        net.deliver();
        let written = net.written(1);
        assert_eq!(written.len(), 1);
        let (header, packet) = &written[0];
        let mut whole = header.bytes().to_vec();
        whole.extend(packet);
        assert_eq!(whole, sent);
        assert_eq!(net.total(1, "device packets out"), 36);
        assert_eq!(net.total(0, "device bytes in"), net.total(1, "device bytes out"));
    }
}

#[test]
fn a_bare_device_gets_single_packets() {
    let mut net = Net::new(true);
    net.engines[1].io.bare = true;
    net.from_device(0, vec![large(1, 5000, 1000)]);
    net.deliver();
    let written = net.written(1);
    assert_eq!(written.len(), 5);
    assert!(written.iter().all(|(_, packet)| packet.len() == 1040));
}

#[test]
fn refused_trains_go_singly_from_then_on() {
    for error in [libc::EIO, libc::EINVAL, libc::ENOPROTOOPT] {
        let mut net = Net::new(true);
        net.engines[0].io.no_trains = Some(error);
        net.from_device(0, vec![large(1, 5000, 1000)]);
        assert_eq!(net.engines[0].io.trains, [1; 5]);
        assert_eq!(net.total(0, "engine trains refused"), 1);
        net.from_device(0, vec![large(1, 3000, 1000)]);
        net.deliver();
        assert_eq!(net.total(0, "engine trains refused"), 1, "it is not tried again");
        assert_eq!(net.written(1).iter().map(|(_, packet)| packet.len()).collect::<Vec<_>>(), [5040, 3040]);
        // A new address is another route.
        net.engines[0].io.no_trains = None;
        let elsewhere = Path { address: Some(address(2)), ..path(1) };
        net.command(0, Command::SetPath { peer: 1, path: elsewhere });
        net.engines[0].io.trains.clear();
        net.from_device(0, vec![large(1, 3000, 1000)]);
        assert_eq!(net.engines[0].io.trains, [3]);
    }
}

#[test]
fn what_is_too_big_comes_back_as_it_was() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        net.engines[0].io.longest = Some(1000);
        net.from_device(0, vec![packet(0, 1, 1200), packet(0, 1, 200)]);
        let events = net.events(0);
        let frames: Vec<&Vec<u8>> = events
            .iter()
            .filter_map(|event| match event {
                Event::Refused { owner: 1, hop: 1, frame } => Some(frame),
                _ => None,
            })
            .collect();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0][12..14], [8, 0]);
        assert_eq!(frames[0][14..], bare(0, 1, 1200));
        net.deliver();
        assert_eq!(net.written(1).len(), 1);
        // The next one of that size is not even tried.
        net.from_device(0, vec![packet(0, 1, 1200)]);
        assert!(matches!(&net.events(0)[..], [Event::Frame { frame }] if frame[14..] == bare(0, 1, 1200)));
        assert_eq!(net.counter(0, 1, |c| &c.udp_out), 1);
    }
}

#[test]
fn an_error_of_something_earlier_costs_nothing() {
    let mut net = Net::new(true);
    for error in [libc::ECONNREFUSED, libc::EMSGSIZE, libc::EAGAIN, libc::EHOSTUNREACH] {
        net.engines[0].io.refuse.push_back(error);
        net.engines[0].io.path_errors.push_back(Some((address(1), 1400)));
        net.from_device(0, vec![packet(0, 1, 100)]);
        net.deliver();
        assert_eq!(net.written(1).len(), 1, "{error}");
    }
    assert!(net.events(0).iter().any(|e| matches!(e, Event::PathTooNarrow { datagram: 1400, .. })));
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut net = Net::new(true);
    net.engines[0].io.refuse.extend([libc::EAGAIN, libc::EAGAIN]);
    net.from_device(0, vec![packet(0, 1, 100)]);
    assert_eq!(net.total(0, "drop UDP queue full"), 1);
    assert_eq!(net.counter(0, 1, |c| &c.udp_out), 0);
}

#[test]
fn what_has_no_lane_is_handed_up() {
    let mut net = Net::new(true);
    let mut group = bare(0, 1, 100);
    group[16] = 224;
    let mut stranger = bare(0, 1, 100);
    stranger[16] = 11;
    let mine = bare(0, 0, 100);
    let long = bare(0, 1, 1445);
    for ip in [group, stranger, mine, long] {
        let mut bytes = VirtioHeader::default().bytes().to_vec();
        bytes.extend(&ip);
        net.from_device(0, vec![bytes]);
        let events = net.events(0);
        assert!(matches!(&events[..], [Event::Frame { frame }] if frame[14..] == ip));
    }
    assert!(net.engines[0].io.sent.is_empty());
}

#[test]
fn frames_for_others_are_handed_up_with_their_sender() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        // Node 0 thinks that 10.0.2 is behind node 1.
        net.command(0, Command::SetTable(table(0, |_| [Some(1), None])));
        if !sptps {
            // Legacy packets are sealed for the hop.
            let mut hop_by_hop = table(0, |_| [Some(1), None]);
            hop_by_hop.lanes[2].seal = Some(1);
            net.command(0, Command::SetTable(hop_by_hop));
        }
        net.from_device(0, vec![packet(0, 2, 100)]);
        net.deliver();
        if sptps {
            // Node 1 does not even open it.
            assert_eq!(net.written(2).len(), 1);
            assert_eq!(net.total(1, "relayed datagrams"), 1);
            assert!(net.events(2).iter().any(|e| matches!(e, Event::Relayed { peer: 0, by_tcp: false })));
        } else {
            let events = net.events(1);
            assert!(events.iter().any(
                |e| matches!(e, Event::FromPeer { peer: 0, frame, .. } if frame[14..] == bare(0, 2, 100))
            ));
        }
    }
}

#[test]
fn a_train_is_relayed_as_a_train() {
    let mut net = Net::new(true);
    net.command(0, Command::SetTable(table(0, |_| [Some(1), None])));
    net.from_device(0, vec![large(2, 40_000, 1399)]);
    net.deliver();
    assert_eq!(net.engines[1].io.trains, [29]);
    assert_eq!(net.written(2).len(), 1);
    assert_eq!(net.total(1, "relayed datagrams"), 29);
    // From an unconfirmed address nothing is relayed.
    net.command(1, Command::SetPath { peer: 0, path: Path { confirmed: false, ..path(0) } });
    net.from_device(0, vec![packet(0, 2, 100)]);
    net.deliver();
    assert!(net.events(1).iter().any(|e| matches!(e, Event::Datagram { .. })));
    assert!(net.written(2).is_empty());
}

#[test]
fn what_does_not_fit_is_relayed_by_tcp() {
    let mut net = Net::new(true);
    net.command(0, Command::SetTable(table(0, |_| [Some(1), None])));
    net.command(1, Command::SetPath { peer: 2, path: Path { min_mtu: 500, ..path(2) } });
    net.from_device(0, vec![packet(0, 2, 501), packet(0, 2, 500)]);
    net.deliver();
    let events = net.events(1);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Relay { sender: 0, .. })).count(), 1);
    assert_eq!(net.written(2).len(), 1);
}

#[test]
fn replays_and_garbage_are_counted() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        net.from_device(0, vec![packet(0, 1, 100)]);
        let (_, datagram) = net.engines[0].io.sent[0].clone();
        net.deliver();
        assert_eq!(net.written(1).len(), 1);
        let mut damaged = datagram.clone();
        damaged[30] ^= 1;
        for bytes in [datagram, damaged] {
            net.engines[1].io.arriving.push_back((address(0), bytes));
            net.engines[1].socket_readable(0);
        }
        assert!(net.written(1).is_empty());
        assert_eq!(net.total(1, "drop replayed or far out of order"), 1);
        let events = net.events(1);
        if sptps {
            assert_eq!(net.total(1, "drop not authentic"), 1);
            assert!(events.iter().any(|e| matches!(e, Event::Doubted { peer: 0 })));
        } else {
            assert!(events.iter().any(|e| matches!(e, Event::Datagram { .. })));
        }
    }
}

#[test]
fn a_new_address_is_told_once_and_followed_when_the_mesh_says_so() {
    let mut net = Net::new(true);
    let elsewhere = SocketAddr::from(([203, 0, 113, 9], 4000));
    for _ in 0..2 {
        net.from_device(0, vec![packet(0, 1, 100)]);
        let (_, datagram) = net.engines[0].io.sent.pop().unwrap();
        net.engines[1].io.arriving.push_back((elsewhere, datagram));
        net.engines[1].socket_readable(0);
    }
    assert_eq!(net.written(1).len(), 2);
    let seen: Vec<Event> =
        net.events(1).into_iter().filter(|e| matches!(e, Event::AddressSeen { .. })).collect();
    assert!(matches!(&seen[..], [Event::AddressSeen { peer: 0, from, socket: 0 }] if *from == elsewhere));
    net.command(1, Command::SetPath { peer: 0, path: Path { address: Some(elsewhere), ..path(0) } });
    net.from_device(1, vec![packet(1, 0, 100)]);
    assert_eq!(net.engines[1].io.sent[0].0, elsewhere);
}

#[test]
fn a_renewal_loses_nothing() {
    let mut net = Net::new(true);
    let (fresh, session) = ([99; 32], 7);
    net.from_device(0, vec![packet(0, 1, 100)]);
    net.command(1, Command::Step { peer: 0, session, step: Step::StageReceiveKey(fresh) });
    net.command(0, Command::Step { peer: 1, session, step: Step::Send(vec![]) });
    net.command(0, Command::Step { peer: 1, session, step: Step::UseSendKey(fresh) });
    net.from_device(0, vec![packet(0, 1, 101)]);
    net.deliver();
    let sealed = net.events(0).into_iter().find_map(|event| match event {
        Event::HandshakeSealed { peer: 1, session: 7, datagram } => Some(datagram),
        _ => None,
    });
    net.command(1, Command::OpenHandshake { peer: 0, datagram: sealed.unwrap() });
    assert!(net
        .events(1)
        .iter()
        .any(|e| matches!(e, Event::HandshakeOpened { peer: 0, session: 7, data } if data.is_empty())));
    net.command(1, Command::Step { peer: 0, session, step: Step::ConfirmReceiveKey });
    net.from_device(0, vec![packet(0, 1, 102)]);
    net.deliver();
    assert_eq!(net.written(1).iter().map(|(_, p)| p.len()).collect::<Vec<_>>(), [100, 101, 102]);
}

#[test]
fn records_by_tcp_share_the_window() {
    let mut net = Net::new(true);
    net.command(0, Command::SealForTcp { peer: 1, token: 5, kind: 0, data: bare(0, 1, 200) });
    let datagram = net.events(0).into_iter().find_map(|event| match event {
        Event::Sealed { peer: 1, token: 5, datagram } => Some(datagram),
        _ => None,
    });
    let datagram = datagram.unwrap();
    for _ in 0..2 {
        net.command(1, Command::OpenFromTcp { peer: 0, datagram: datagram.clone() });
    }
    assert_eq!(net.written(1).len(), 1);
    assert_eq!(net.total(1, "drop replayed or far out of order"), 1);
    assert!(net.events(1).iter().any(|e| matches!(e, Event::Relayed { peer: 0, by_tcp: true })));
}

#[test]
fn probes_go_with_their_ttl_and_are_told() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        let mut frame = vec![0; 14];
        frame.resize(600, 3);
        let send =
            Command::Send { owner: 1, seal: 1, hop: 1, to: None, ttl: 3, kind: None, frame: frame.clone() };
        net.command(0, send);
        assert_eq!(net.engines[0].io.ttls, [Some(3), None]);
        net.deliver();
        let events = net.events(1);
        assert!(events.iter().any(
            |e| matches!(e, Event::Probe { peer: 0, direct: true, frame: got, .. } if *got == frame)
        ));
        assert!(net.written(1).is_empty());
    }
}

#[test]
fn sessions_side_by_side() {
    let mut net = Net::new(true);
    let mut second = state(0, 1);
    second.send = [77; 32];
    let mut other = state(1, 0);
    other.receive = [77; 32];
    net.command(1, Command::Install { peer: 0, session: 8, state: other });
    net.command(0, Command::Install { peer: 1, session: 8, state: second });
    net.from_device(0, vec![packet(0, 1, 100)]);
    net.command(0, Command::Use { peer: 1, session: 8 });
    net.from_device(0, vec![packet(0, 1, 100)]);
    net.deliver();
    assert_eq!(net.written(1).len(), 2);
    let confirmed: Vec<u64> = net
        .events(1)
        .iter()
        .filter_map(|e| if let Event::Confirmed { session, .. } = e { Some(*session) } else { None })
        .collect();
    assert_eq!(confirmed, [7, 8]);
    net.command(1, Command::Export { peer: 0, session: 8 });
    assert!(net.events(1).iter().any(
        |e| matches!(e, Event::SessionState { session: 8, state, .. } if state.window.expected == 3)
    ));
}

#[test]
fn old_legacy_keys_open_for_a_while() {
    let mut net = Net::new(false);
    net.from_device(0, vec![packet(0, 1, 100)]);
    let key = Box::new(LegacyKey::new(427, 672, 4, &[200; 48]).unwrap());
    net.command(1, Command::AddReceiver { peer: 0, key, replay_window: 16 });
    net.deliver();
    assert_eq!(net.written(1).len(), 1);
    net.engines[1].set_time(12_000_000_000);
    net.from_device(0, vec![packet(0, 1, 100)]);
    net.deliver();
    assert!(net.written(1).is_empty());
    assert!(net.events(1).iter().any(|e| matches!(e, Event::Datagram { .. })));
}

#[test]
fn an_mss_is_lowered() {
    let mut net = Net::new(true);
    let mut syn = bare(0, 1, 44);
    syn[9] = TCP;
    syn[20..44].copy_from_slice(&[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 1, 0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4]);
    let check = field(pseudo(&syn[12..20], TCP, 24) + sum(&syn[20..]));
    syn[36..38].copy_from_slice(&check);
    let mut bytes = VirtioHeader::default().bytes().to_vec();
    bytes.extend(syn);
    net.from_device(0, vec![bytes]);
    net.deliver();
    let (_, got) = net.written(1).remove(0);
    // 1453 - 14 - 20 - 20
    assert_eq!(got[42..44], 1399u16.to_be_bytes());
    assert_eq!(fold(pseudo(&got[12..20], TCP, 24) + sum(&got[20..])), 0xffff);
}

#[test]
fn forgotten_peers_are_strangers() {
    let mut net = Net::new(true);
    net.from_device(0, vec![packet(0, 1, 100)]);
    net.command(1, Command::Forget { peer: 0 });
    net.deliver();
    assert!(net.written(1).is_empty());
    assert!(net.events(1).iter().any(|e| matches!(e, Event::Datagram { .. })));
    net.command(0, Command::RemovePeer { peer: 1 });
    net.from_device(0, vec![packet(0, 1, 100)]);
    assert!(net.events(0).iter().any(|e| matches!(e, Event::Frame { .. })));
}

proptest! {
    #[test]
    fn any_datagram(
        sptps in any::<bool>(), known in any::<bool>(), ids in prop::option::of((0usize..3, prop::option::of(0usize..3))),
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut net = Net::new(sptps);
        if let (Some((from, to)), true) = (ids, bytes.len() >= 12) {
            bytes[..6].copy_from_slice(&to.map_or([0; 6], |to| IDS[to]));
            bytes[6..12].copy_from_slice(&IDS[from]);
        }
        let from = if known { address(0) } else { SocketAddr::from(([1, 2, 3, 4], 5)) };
        net.engines[1].io.arriving.push_back((from, bytes.clone()));
        if !bytes.is_empty() {
            net.engines[1].socket_readable(0);
        }
        prop_assert!(net.written(1).is_empty());
    }

    #[test]
    fn any_authentic_record(kind in any::<u8>(), data in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut net = Net::new(true);
        net.command(0, Command::Send { owner: 1, seal: 1, hop: 1, to: None, ttl: 0, kind: Some(kind), frame: data });
        net.deliver();
    }

    #[test]
    fn any_legacy_frame(data in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut net = Net::new(false);
        net.command(0, Command::Send { owner: 1, seal: 1, hop: 1, to: None, ttl: 0, kind: None, frame: data });
        net.deliver();
    }
}
