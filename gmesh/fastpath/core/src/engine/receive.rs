//! From UDP, or TCP, to the device.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use super::events::Event;
use super::peer::{count, Peer, MAX_SOURCES};
use super::send::{with_header, IDS};
use super::table::{Mode, NodeId, PeerId, NOBODY};
use super::transmit::{clamp_packet, network};
use super::{Device, Engine, MTU};
use crate::crypto::legacy::Refused;
use crate::crypto::{Job, TAG};
use crate::flow::session::{HANDSHAKE, NUMBER};
use crate::io::{Io, Received, REGION};
use crate::packet::coalesce::Piece;
use crate::packet::headers::{Link, ETHERNET};

/// Bits of a record's type (data-sptps 3).
const COMPRESSED: u8 = 1;
pub(super) const WITH_MAC: u8 = 2;
const PROBE: u8 = 4;

/// The shortest record: number, type, tag.
pub(super) const SHORTEST: usize = NUMBER + 1 + TAG;

/// One datagram in the receive buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    pub start: usize,
    pub len: usize,
    /// Which of the received messages it came in.
    message: usize,
    class: Class,
}

/// What a datagram seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// A record in a session of this peer; `ids` bytes come before it. Relayed ones name us as their target.
    Record {
        peer: PeerId,
        relayed: bool,
        ids: usize,
    },
    Legacy(PeerId),
    /// Between others, handed to us by this peer.
    Relay {
        sender: PeerId,
        to: NodeId,
    },
    /// Between others, from where no peer has proved to be: or anyone could make us send.
    Stray,
    Unknown,
}

/// Where something came from: an address and a socket, or by TCP.
type Origin = Option<(SocketAddr, usize)>;

/// The one form in which addresses are compared: IPv4 is never mapped into IPv6.
#[must_use]
pub fn normal(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
            Some(four) => SocketAddr::new(IpAddr::V4(four), six.port()),
            None => SocketAddr::V6(std::net::SocketAddrV6::new(*six.ip(), six.port(), 0, six.scope_id())),
        },
        four => four,
    }
}

impl<I: Io> Engine<I> {
    /// Receive what a socket has, once, and work on it.
    pub fn socket_readable(&mut self, socket: usize) {
        let incoming = &mut self.incoming;
        incoming.received.clear();
        count(&self.shared.totals.receive_calls, 1);
        match self.io.receive(socket, &mut incoming.buffer, &mut incoming.received) {
            Ok(()) => self.received(socket),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.read_errors(socket),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                // An ICMP error for something sent earlier, or the interface went down; reading goes on.
                count(&self.shared.totals.receive_errors, 1);
                self.read_errors(socket);
            }
        }
    }

    /// A datagram as if this socket had received it.
    pub(super) fn again(&mut self, from: SocketAddr, socket: usize, datagram: &[u8]) {
        if datagram.len() > REGION {
            return;
        }
        self.incoming.buffer[..datagram.len()].copy_from_slice(datagram);
        self.incoming.received.clear();
        self.incoming.received.push(Received { from, start: 0, len: datagram.len(), segment: 0 });
        self.received(socket);
    }

    /// Work on all that was received.
    fn received(&mut self, socket: usize) {
        self.split();
        let datagrams = std::mem::take(&mut self.incoming.datagrams);
        for run in datagrams.chunk_by(|a, b| a.class == b.class) {
            match run[0].class {
                Class::Record { peer, relayed, ids } => self.records(peer, relayed, ids, run, socket),
                Class::Legacy(peer) => self.legacy(peer, run, socket),
                Class::Relay { sender, to } => self.relay(sender, to, run),
                Class::Stray => count(&self.shared.totals.relayed_stranger, run.len() as u64),
                Class::Unknown => run.iter().for_each(|datagram| self.unknown(datagram, socket)),
            }
        }
        self.incoming.datagrams = datagrams;
        self.flush_device();
    }

    /// Cut trains up, and see what each datagram is.
    fn split(&mut self) {
        let received = std::mem::take(&mut self.incoming.received);
        self.incoming.datagrams.clear();
        let totals = &self.shared.totals;
        for (message, train) in received.iter().enumerate() {
            let address = normal(train.from);
            let source = self.sources.get(&address).copied();
            let segment = if train.segment == 0 { train.len } else { train.segment };
            let end = train.start + train.len;
            count(&totals.udp_bytes_in, train.len as u64);
            for start in (train.start..end).step_by(segment.max(1)) {
                let len = segment.min(end - start);
                count(&totals.udp_packets_in, 1);
                let class = self.classify(&self.incoming.buffer[start..start + len], address, source);
                self.incoming.datagrams.push(Datagram { start, len, message, class });
            }
        }
        self.incoming.received = received;
    }

    /// What a datagram from this address, which is `source`'s, seems to be.
    fn classify(&self, datagram: &[u8], address: SocketAddr, source: Option<PeerId>) -> Class {
        let peer = |id: PeerId| self.peers.get(id as usize).and_then(Option::as_deref);
        if datagram.len() >= IDS + SHORTEST {
            let id = |at: usize| -> NodeId { std::array::from_fn(|i| datagram[at + i]) };
            let to = id(0);
            if let Some(from) = self.ids.get(&id(6)).copied() {
                if to == NOBODY || to == self.me {
                    if peer(from).is_some_and(|peer| !peer.sessions.is_empty()) {
                        return Class::Record { peer: from, relayed: to == self.me, ids: IDS };
                    }
                } else if self.table.relays.contains_key(&to) {
                    let proved =
                        |id: &PeerId| peer(*id).is_some_and(|peer| peer.path.udp && peer.path.address == Some(address));
                    return source.filter(proved).map_or(Class::Stray, |sender| Class::Relay { sender, to });
                }
            }
        }
        if let Some((id, known)) = source.and_then(|id| peer(id).map(|peer| (id, peer))) {
            if !known.sessions.is_empty() && !known.path.ids && datagram.len() >= SHORTEST {
                return Class::Record { peer: id, relayed: false, ids: 0 };
            }
            if !known.receivers.is_empty() {
                return Class::Legacy(id);
            }
        }
        Class::Unknown
    }

    fn origin(&self, datagram: &Datagram, socket: usize) -> Origin {
        self.incoming.received.get(datagram.message).map(|received| (normal(received.from), socket))
    }

    fn unknown(&mut self, datagram: &Datagram, socket: usize) {
        if let Some((from, socket)) = self.origin(datagram, socket) {
            let bytes = self.incoming.buffer[datagram.start..datagram.start + datagram.len].to_vec();
            self.tell(Event::Datagram { from, socket, datagram: bytes });
        }
    }

    // Sessions

    fn records(&mut self, id: PeerId, relayed: bool, ids: usize, run: &[Datagram], socket: usize) {
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.clear();
        for datagram in run {
            let start = datagram.start + ids;
            let b = &self.incoming.buffer[start..];
            let number = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
            jobs.push(Job::new(number, start + NUMBER, datagram.len - ids - NUMBER - TAG));
        }
        let fitting = self.open(id, &mut jobs);
        let mut last = usize::MAX;
        for ((datagram, job), number) in run.iter().zip(&jobs).zip(&fitting) {
            let Some(session) = *number else {
                let origin = self.origin(datagram, socket);
                self.not_opened(id, job.number, datagram.start, datagram.len, origin);
                continue;
            };
            let origin = self.origin(datagram, socket);
            if !self.take(id, session, job.number, !relayed) {
                continue;
            }
            let probe = self.incoming.buffer[job.start] == PROBE;
            if datagram.message != last && !(relayed && probe) {
                last = datagram.message;
                if relayed {
                    self.relayed_packet(id, false);
                } else if let Some((from, socket)) = origin {
                    self.seen_at(id, from, socket, true);
                }
            }
            self.record(id, session, job.start, job.len, origin, !relayed);
        }
        self.jobs = jobs;
    }

    /// Decrypt what is authentic in any session of the peer; in which each was.
    fn open(&mut self, id: PeerId, jobs: &mut [Job]) -> Vec<Option<u64>> {
        let (cipher, now) = (self.cipher, self.now);
        let mut fitting = vec![None; jobs.len()];
        let Some(peer) = self.peers.get_mut(id as usize).and_then(Option::as_deref_mut) else { return fitting };
        let mut rest: Vec<usize> = (0..jobs.len()).collect();
        let mut some: Vec<Job> = Vec::new();
        // The session that is sent with is the likeliest to be used by the other end.
        let sending = peer.sending;
        let mut order: Vec<&mut super::peer::Installed> = peer.sessions.iter_mut().collect();
        order.sort_by_key(|installed| Some(installed.number) != sending);
        for installed in order {
            if rest.is_empty() {
                break;
            }
            if rest.len() == jobs.len() {
                installed.session.open(cipher, &mut self.incoming.buffer, jobs, &mut self.spare, now);
            } else {
                some.clear();
                some.extend(rest.iter().map(|&index| jobs[index]));
                installed.session.open(cipher, &mut self.incoming.buffer, &mut some, &mut self.spare, now);
                for (&index, job) in rest.iter().zip(&some) {
                    jobs[index].ok = job.ok;
                }
            }
            for &index in &rest {
                if jobs[index].ok {
                    fitting[index] = Some(installed.number);
                }
            }
            rest.retain(|&index| !jobs[index].ok);
        }
        fitting
    }

    /// Whether the record of this number is new in the session; an authentic one is a sign of life.
    fn take(&mut self, id: PeerId, number: u64, record: u32, direct: bool) -> bool {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(id as usize).and_then(Option::as_deref_mut) else { return false };
        let Some(installed) = peer.sessions.iter_mut().find(|installed| installed.number == number) else {
            return false;
        };
        if !installed.session.take(record) {
            count(&self.shared.totals.replayed, 1);
            return false;
        }
        let (first, worn) = (!installed.confirmed, installed.session.worn() && !installed.worn);
        installed.confirmed = true;
        installed.worn |= worn;
        peer.counters.last_opened.store(now, std::sync::atomic::Ordering::Relaxed);
        if direct {
            peer.counters.last_authentic.store(now, std::sync::atomic::Ordering::Relaxed);
        }
        if first {
            self.tell(Event::Confirmed { peer: id, session: number });
        }
        if worn {
            self.tell(Event::Worn { peer: id });
        }
        true
    }

    /// Garbage, or the first of a session or key that is on its way: where its number is near, Python may keep it.
    fn not_opened(&mut self, id: PeerId, number: u32, start: usize, len: usize, from: Origin) {
        const NEAR: u64 = 4096;
        count(&self.shared.totals.no_mac, 1);
        let number = u64::from(number);
        let near = number < NEAR
            || self.peer(id).is_some_and(|peer| {
                peer.sessions.iter().any(|installed| installed.session.window.expected().abs_diff(number) < NEAR)
            });
        if near {
            let datagram = self.incoming.buffer[start..start + len].to_vec();
            self.tell(Event::Unopened { peer: id, from, datagram });
        }
        self.doubt(id);
    }

    fn doubt(&mut self, id: PeerId) {
        let now = self.now;
        if self.peer(id).is_some_and(|peer| Peer::due(&mut peer.doubted_at, now)) {
            self.tell(Event::Doubted { peer: id });
        }
    }

    fn relayed_packet(&mut self, id: PeerId, by_tcp: bool) {
        let now = self.now;
        if self.peer(id).is_some_and(|peer| Peer::due(&mut peer.relayed_at, now)) {
            self.tell(Event::Relayed { peer: id, by_tcp });
        }
    }

    /// An authentic record: type and data lie in the receive buffer.
    fn record(&mut self, id: PeerId, session: u64, start: usize, len: usize, origin: Origin, direct: bool) {
        let kind = self.incoming.buffer[start];
        let place = Piece { start: start + 1, len: len - 1 };
        let data = |engine: &Self| engine.incoming.buffer[place.start..place.start + place.len].to_vec();
        let from = origin.map(|origin| origin.0);
        match kind {
            PROBE => match from.filter(|_| direct) {
                Some(_) if !(ETHERNET..=MTU).contains(&place.len) => count(&self.shared.totals.frame_length, 1),
                Some(from) => {
                    count(&self.shared.totals.probes_in, 1);
                    self.tell(Event::Probe { peer: id, from, frame: data(self) });
                }
                None => count(&self.shared.totals.relayed_probe, 1),
            },
            HANDSHAKE => self.tell(Event::HandshakeOpened { peer: id, session, data: data(self) }),
            _ if kind > COMPRESSED | WITH_MAC => count(&self.shared.totals.bad_record, 1),
            _ if place.len == 0 || place.len > MTU => count(&self.shared.totals.frame_length, 1),
            0 if self.table.mode == Mode::Router && self.link == Link::Tun => self.frame(id, place, from),
            WITH_MAC if self.table.mode != Mode::Router && self.link == Link::Tap => self.frame(id, place, from),
            _ => self.tell(Event::Record { peer: id, from, kind, data: data(self) }),
        }
    }

    // Legacy

    fn legacy(&mut self, id: PeerId, run: &[Datagram], socket: usize) {
        let now = self.now;
        for datagram in run {
            let range = datagram.start..datagram.start + datagram.len;
            let Some(peer) = self.peers.get_mut(id as usize).and_then(Option::as_deref_mut) else { return };
            let bytes = &mut self.incoming.buffer[range];
            let newest_proves = peer.receivers.first().is_some_and(|receiver| receiver.key.has_mac());
            // Without a MAC the bytes are decrypted before anyone knows whose they are.
            let before = if newest_proves { None } else { Some(bytes.to_vec()) };
            let mut outcome = Err(Refused::NotAuthentic);
            for (age, receiver) in peer.receivers.iter_mut().enumerate() {
                if age > 0 && (receiver.until <= now || !receiver.key.verify(bytes)) {
                    continue;
                }
                outcome = receiver.key.open(bytes).and_then(|len| {
                    let number = u32::from_be_bytes(bytes[..NUMBER].try_into().unwrap_or_default());
                    if len < NUMBER || !receiver.window.accept(number) {
                        return Err(Refused::Damaged);
                    }
                    Ok(len)
                });
                if outcome != Err(Refused::NotAuthentic) {
                    break;
                }
            }
            match outcome {
                Ok(len) => {
                    let worn = !peer.worn && peer.receivers.first().is_some_and(|receiver| receiver.worn());
                    peer.worn |= worn;
                    for time in [&peer.counters.last_authentic, &peer.counters.last_opened] {
                        time.store(now, std::sync::atomic::Ordering::Relaxed);
                    }
                    if worn {
                        self.tell(Event::Worn { peer: id });
                    }
                    let origin = self.origin(datagram, socket);
                    if let Some((from, socket)) = origin {
                        self.seen_at(id, from, socket, newest_proves);
                    }
                    let place = Piece { start: datagram.start + NUMBER, len: len - NUMBER };
                    self.legacy_frame(id, place, origin);
                }
                Err(Refused::Damaged) if newest_proves => count(&self.shared.totals.replayed, 1),
                Err(_) => {
                    if let Some(before) = before {
                        self.incoming.buffer[datagram.start..datagram.start + datagram.len].copy_from_slice(&before);
                    }
                    self.unknown(datagram, socket);
                }
            }
        }
    }

    fn legacy_frame(&mut self, id: PeerId, place: Piece, origin: Origin) {
        if !(ETHERNET..=MTU).contains(&place.len) {
            return count(&self.shared.totals.frame_length, 1);
        }
        let kind = [self.incoming.buffer[place.start + 12], self.incoming.buffer[place.start + 13]];
        let from = origin.map(|origin| origin.0);
        if kind == [0, 0] {
            count(&self.shared.totals.probes_in, 1);
            if let Some(from) = from {
                let frame = self.incoming.buffer[place.start..place.start + place.len].to_vec();
                self.tell(Event::Probe { peer: id, from, frame });
            }
            return;
        }
        if self.link == Link::Tap {
            return self.frame(id, place, from);
        }
        let packet = Piece { start: place.start + ETHERNET, len: place.len - ETHERNET };
        self.count_in(id, place.len);
        if self.table.kernel_forwards || self.for_us(id, kind, packet) {
            self.deliver(packet);
        } else {
            let frame = self.incoming.buffer[place.start..place.start + place.len].to_vec();
            self.tell(Event::FromPeer { peer: id, from, frame });
        }
    }

    // Both

    /// A packet as the device carries it, from a peer.
    fn frame(&mut self, id: PeerId, place: Piece, from: Option<SocketAddr>) {
        let packet = &self.incoming.buffer[place.start..place.start + place.len];
        let Some((kind, _)) = network(packet, self.link) else {
            return count(&self.shared.totals.frame_length, 1);
        };
        self.count_in(id, place.len + self.link.missing());
        if self.table.kernel_forwards || self.for_us(id, kind, place) {
            return self.deliver(place);
        }
        let packet = &self.incoming.buffer[place.start..place.start + place.len];
        let frame = match self.link {
            Link::Tun => with_header(packet),
            Link::Tap => packet.to_vec(),
        };
        self.tell(Event::FromPeer { peer: id, from, frame });
    }

    /// Whether a packet from a peer simply goes to the own device; then its MSS is lowered as need be.
    fn for_us(&mut self, id: PeerId, kind: [u8; 2], place: Piece) -> bool {
        let range = place.start..place.start + place.len;
        let index = match self.table.mode {
            Mode::Router if self.link == Link::Tun => {
                let buffer = std::mem::take(&mut self.incoming.buffer);
                let index = self.ip_lane(kind, &buffer[range.clone()]);
                self.incoming.buffer = buffer;
                index
            }
            Mode::Switch if self.link == Link::Tap => {
                self.incoming.buffer[range.clone()].get(..6).and_then(|mac| self.table.mac(mac.try_into().ok()?))
            }
            _ => None,
        };
        let Some(lane) = index.and_then(|index| self.table.lanes.get(index as usize)) else { return false };
        if !lane.mine() {
            return false;
        }
        if lane.clamp {
            let mtu = self.peers.get(id as usize).and_then(Option::as_deref).map_or(MTU, |peer| peer.path.mtu);
            clamp_packet(&mut self.incoming.buffer[range], self.link, mtu);
        }
        true
    }

    fn deliver(&mut self, place: Piece) {
        let mut device = Device { io: &mut self.io, totals: &self.shared.totals, missing: self.link.missing() };
        if device.io.virtio() {
            self.coalescer.push(&mut self.incoming.buffer, place, &mut device);
        } else {
            crate::packet::coalesce::Sink::write(&mut device, &self.incoming.buffer, &Default::default(), &[place]);
        }
    }

    fn count_in(&mut self, id: PeerId, frame: usize) {
        if let Some(peer) = self.peer(id) {
            count(&peer.counters.packets_in, 1);
            count(&peer.counters.bytes_in, frame as u64);
        }
    }

    /// An authentic direct datagram came from this address. `proves` says whether it can only be the peer's.
    fn seen_at(&mut self, id: PeerId, from: SocketAddr, socket: usize, proves: bool) {
        let Some(peer) = self.peer(id) else { return };
        if peer.path.address == Some(from) {
            peer.path.socket = socket;
        } else if proves && peer.reported != Some(from) {
            peer.reported = Some(from);
            self.tell(Event::AddressSeen { peer: id, from, socket });
        }
    }

    /// Remember that the peer sends from this address.
    pub(super) fn heard(&mut self, id: PeerId, from: SocketAddr, socket: usize) {
        let Some(peer) = self.peers.get_mut(id as usize).and_then(Option::as_deref_mut) else { return };
        peer.sources.retain(|source| source.0 != from);
        peer.sources.push((from, socket));
        if peer.path.address == Some(from) {
            peer.path.socket = socket;
        }
        if peer.sources.len() > MAX_SOURCES {
            let (oldest, _) = peer.sources.remove(0);
            if peer.path.address != Some(oldest) && self.sources.get(&oldest) == Some(&id) {
                self.sources.remove(&oldest);
            }
        }
        self.sources.insert(from, id);
    }

    /// Open a record without ids that came by TCP; `handshake` says which kind is expected.
    pub(super) fn open_from_tcp(&mut self, id: PeerId, datagram: &[u8], handshake: bool) {
        if datagram.len() < SHORTEST || datagram.len() > REGION {
            return count(&self.shared.totals.short, 1);
        }
        self.incoming.received.clear();
        self.incoming.buffer[..datagram.len()].copy_from_slice(datagram);
        let number = u32::from_be_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]);
        let mut jobs = [Job::new(number, NUMBER, datagram.len() - NUMBER - TAG)];
        let Some(session) = self.open(id, &mut jobs)[0] else {
            if handshake {
                count(&self.shared.totals.handshake, 1);
                return self.doubt(id);
            }
            return self.not_opened(id, number, 0, datagram.len(), None);
        };
        if !self.take(id, session, number, false) {
            return;
        }
        let kind = self.incoming.buffer[NUMBER];
        if (kind == HANDSHAKE) != handshake {
            return count(&self.shared.totals.bad_record, 1);
        }
        if !handshake && kind != PROBE {
            self.relayed_packet(id, true);
        }
        self.record(id, session, NUMBER, jobs[0].len, None, false);
        self.flush_device();
    }
}
