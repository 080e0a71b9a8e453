//! The last steps of sending: seal what the outbox holds, give it to the kernel, and see what the kernel refuses.

use std::io::{Error, ErrorKind};

use super::events::Event;
use super::outbox::{Sealing, Target, Unit};
use super::peer::count;
use super::table::PeerId;
use super::Engine;
use crate::crypto::{Job, TAG};
use crate::flow::session;
use crate::io::{Io, Message};
use crate::packet::headers::{ether_type, Link, ETHERNET};

/// Bytes of the two node ids before a record.
pub(super) const IDS: usize = 12;

/// Whose packet, with whose keys, by whose path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub owner: PeerId,
    pub seal: PeerId,
    pub target: Target,
}

/// Errors by which the kernel says that it cannot cut up trains here; they may come at any time.
fn refuses_trains(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::ENOPROTOOPT | libc::EOPNOTSUPP))
}

fn is(error: &Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}

impl<I: Io> Engine<I> {
    /// Write a packet into the outbox: `prefix` and then `len` bytes that `write` fills in. False where there is no
    /// key or number left.
    pub(super) fn put(&mut self, way: &Way, prefix: &[u8], len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        let plain = prefix.len() + len;
        let me = self.me;
        let Some(hop_ids) = self.peer(way.target.hop).map(|hop| hop.path.ids) else { return false };
        let Some(peer) = self.peers.get_mut(way.seal as usize).and_then(Option::as_deref_mut) else { return false };
        let id = peer.id;
        let (sealing, number, head, wire, sealed) = if peer.sending.is_some() {
            let sending = peer.sending;
            let installed = peer.sessions.iter_mut().find(|installed| Some(installed.number) == sending);
            let Some((installed, number)) = installed.and_then(|installed| {
                let number = installed.session.take_number()?;
                Some((installed, number))
            }) else {
                peer.sending = None;
                return false;
            };
            if !installed.worn && installed.session.worn() {
                installed.worn = true;
                self.shared.queues.tell(Event::Worn { peer: way.seal });
            }
            let head = if hop_ids { IDS } else { 0 } + session::NUMBER;
            (Sealing::Session, number, head, head + plain + TAG, plain)
        } else if let Some(sender) = &mut peer.sender {
            let Some(number) = sender.next_number() else {
                peer.sender = None;
                return false;
            };
            let sealed = session::NUMBER + plain;
            (Sealing::Legacy, number, session::NUMBER, sender.key.sealed_len(sealed), sealed)
        } else {
            return false;
        };
        let room = self.outbox.room(&way.target, wire).or_else(|| {
            self.flush();
            self.outbox.room(&way.target, wire)
        });
        let Some((train, start)) = room else { return false };
        let bytes = &mut self.outbox.buffer[start..start + wire];
        if sealing == Sealing::Session && hop_ids {
            let direct = way.seal == way.target.hop;
            bytes[..6].copy_from_slice(&if direct { super::table::NOBODY } else { id });
            bytes[6..IDS].copy_from_slice(&me);
        }
        bytes[head - session::NUMBER..head].copy_from_slice(&number.to_be_bytes());
        bytes[head..head + prefix.len()].copy_from_slice(prefix);
        write(&mut bytes[head + prefix.len()..head + plain]);
        let data = start + if sealing == Sealing::Session { head } else { 0 };
        self.outbox.units.push(Unit {
            train,
            owner: way.owner,
            seal: way.seal,
            sealing,
            number,
            start,
            wire,
            data,
            plain: sealed,
        });
        true
    }

    /// Seal and send everything in the outbox.
    pub(super) fn flush(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        self.seal();
        let mut trains = std::mem::take(&mut self.outbox.trains);
        let buffer = std::mem::take(&mut self.outbox.buffer);
        for train in &mut trains {
            if train.count == 1 {
                train.message.segment = 0;
            }
        }
        let mut failed = Vec::new();
        let mut at = 0;
        while at < trains.len() {
            let socket = trains[at].socket;
            let end = trains[at..].iter().position(|train| train.socket != socket).map_or(trains.len(), |n| at + n);
            let messages: Vec<Message> = trains[at..end].iter().map(|train| train.message).collect();
            self.transmit(socket, &buffer, &messages, |index| trains[at + index].hop, &mut failed);
            at = end;
        }
        self.outbox.trains = trains;
        self.outbox.buffer = buffer;
        for train in &self.outbox.trains {
            if let Some(hop) = self.peers.get(train.hop as usize).and_then(Option::as_deref) {
                count(&hop.counters.udp_out, train.count as u64);
            }
        }
        for (hop, message, error) in failed {
            self.refused(hop, &message, error);
        }
        self.outbox.clear();
    }

    /// Seal packets in place, those of one peer in a row by one call.
    fn seal(&mut self) {
        let units = std::mem::take(&mut self.outbox.units);
        let mut ranges = Vec::new();
        for run in units.chunk_by(|a, b| a.seal == b.seal && a.sealing == b.sealing) {
            let Some(peer) = self.peers.get_mut(run[0].seal as usize).and_then(Option::as_deref_mut) else { continue };
            match run[0].sealing {
                Sealing::Session => {
                    self.jobs.clear();
                    self.jobs.extend(run.iter().map(|unit| Job::new(unit.number, unit.data, unit.plain)));
                    if let Some(session) = peer.sending() {
                        self.cipher.seal(session.send_key(), &mut self.outbox.buffer, &mut self.jobs);
                    }
                }
                Sealing::Legacy => {
                    ranges.clear();
                    ranges.extend(run.iter().map(|unit| unit.data..unit.data + unit.plain));
                    if let Some(sender) = &peer.sender {
                        sender.key.seal(&mut self.outbox.buffer, &ranges);
                    }
                }
                Sealing::None => {}
            }
        }
        self.outbox.units = units;
    }

    /// Give messages to the kernel, in order. What it refuses is told by datagram, with its error number.
    pub(super) fn transmit(
        &mut self,
        socket: usize,
        buffer: &[u8],
        messages: &[Message],
        hop: impl Fn(usize) -> PeerId,
        failed: &mut Vec<(PeerId, Message, i32)>,
    ) {
        let mut at = 0;
        let mut tries = 0;
        while at < messages.len() {
            count(&self.shared.totals.send_calls, 1);
            let error = match self.io.send(socket, buffer, &messages[at..]) {
                Ok(taken) => {
                    for message in &messages[at..at + taken] {
                        self.count_sent(message);
                    }
                    at += taken;
                    tries = 0;
                    continue;
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            tries += 1;
            let message = &messages[at];
            if tries == 1 {
                // It may be what ICMP said of an earlier datagram, to whomever that was; or the buffer is full.
                match error.kind() {
                    ErrorKind::WouldBlock => self.io.wait_to_send(socket),
                    _ if is(&error, libc::EMSGSIZE) => self.read_errors(socket),
                    _ => {}
                }
                continue;
            }
            if message.segment != 0 && (refuses_trains(&error) || is(&error, libc::EMSGSIZE)) {
                let before = failed.len();
                self.send_singly(socket, buffer, message, hop(at), failed);
                // Some kernels call a train whose datagrams are too big invalid.
                let too_big = failed[before..].iter().any(|failure| failure.2 == libc::EMSGSIZE);
                if !too_big && refuses_trains(&error) {
                    count(&self.shared.totals.trains_refused, 1);
                    if let Some(peer) = self.peer(hop(at)) {
                        peer.trains = false;
                    }
                }
            } else {
                failed.push((hop(at), *message, error.raw_os_error().unwrap_or(libc::EIO)));
            }
            at += 1;
            tries = 0;
        }
    }

    fn send_singly(
        &mut self,
        socket: usize,
        buffer: &[u8],
        train: &Message,
        hop: PeerId,
        failed: &mut Vec<(PeerId, Message, i32)>,
    ) {
        let end = train.start + train.len;
        for start in (train.start..end).step_by(train.segment) {
            let single = Message { start, len: train.segment.min(end - start), segment: 0, ..*train };
            self.transmit(socket, buffer, &[single], |_| hop, failed);
        }
    }

    fn count_sent(&self, message: &Message) {
        let datagrams = if message.segment == 0 { 1 } else { message.len.div_ceil(message.segment) };
        count(&self.shared.totals.udp_packets_out, datagrams as u64);
        count(&self.shared.totals.udp_bytes_out, message.len as u64);
    }

    /// The kernel did not take these datagrams. Those that are too big come back as frames, as they can still go
    /// another way.
    fn refused(&mut self, hop: PeerId, message: &Message, error: i32) {
        let range = message.start..message.start + message.len;
        let units: Vec<Unit> = self.outbox.units.iter().filter(|unit| range.contains(&unit.start)).copied().collect();
        if let Some(peer) = self.peer(hop) {
            let out = &peer.counters.udp_out;
            out.store(
                out.load(std::sync::atomic::Ordering::Relaxed).saturating_sub(units.len() as u64),
                std::sync::atomic::Ordering::Relaxed,
            );
        }
        for unit in units {
            if error != libc::EMSGSIZE {
                self.count_failed(error);
                continue;
            }
            count(&self.shared.totals.too_big, 1);
            if let Some(frame) = self.unseal(&unit) {
                if let Some(peer) = self.peer(hop) {
                    peer.path.min_mtu = peer.path.min_mtu.min(frame.len().saturating_sub(1));
                }
                self.tell(Event::Refused { owner: unit.owner, hop, frame });
            }
        }
    }

    pub(super) fn count_failed(&self, error: i32) {
        let totals = &self.shared.totals;
        let counter = match error {
            libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM => &totals.queue_full,
            libc::EMSGSIZE => &totals.too_big,
            _ => &totals.send_errors,
        };
        count(counter, 1);
    }

    /// The frame that was sealed.
    fn unseal(&mut self, unit: &Unit) -> Option<Vec<u8>> {
        let cipher = self.cipher;
        let peer = self.peers.get_mut(unit.seal as usize)?.as_deref_mut()?;
        let buffer = &mut self.outbox.buffer;
        match unit.sealing {
            Sealing::Session => {
                let key = peer.sending()?;
                cipher.apply(key.send_key(), buffer, &[Job::new(unit.number, unit.data, unit.plain)]);
                let (kind, data) = buffer[unit.data..unit.data + unit.plain].split_first()?;
                Some(if *kind == 0 { with_header(data) } else { data.to_vec() })
            }
            Sealing::Legacy => {
                let key = &peer.sender.as_ref()?.key;
                let body = &mut buffer[unit.start..unit.start + unit.wire - key.mac_len()];
                let plain = key.decrypt(body).ok()?;
                Some(body.get(session::NUMBER..plain)?.to_vec())
            }
            Sealing::None => None,
        }
    }

    /// Read what routers said of datagrams that were sent by this socket.
    pub fn read_errors(&mut self, socket: usize) {
        const AT_ONCE: usize = 16;
        for _ in 0..AT_ONCE {
            let Some(error) = self.io.path_error(socket) else { return };
            count(&self.shared.totals.errors_heard, 1);
            if let Some((to, datagram)) = error {
                self.tell(Event::PathTooNarrow { to, datagram });
            }
        }
    }

    /// The target of data for a peer.
    pub(super) fn target(&mut self, hop: PeerId, class: Option<u8>) -> Option<Target> {
        let peer = self.peer(hop)?;
        Some(Target { hop, socket: peer.path.socket, to: peer.path.address?, class, trains: peer.trains })
    }

    /// What comes before the bytes of a packet of this device, once sealed for the peer.
    pub(super) fn prefix(&self, session: bool, kind: [u8; 2]) -> Prefix {
        let mut prefix = Prefix { bytes: [0; ETHERNET], len: 0 };
        prefix.len = match (session, self.link) {
            (true, Link::Tun) => 1,
            (true, Link::Tap) => {
                prefix.bytes[0] = super::receive::WITH_MAC;
                1
            }
            (false, Link::Tun) => {
                prefix.bytes[12..].copy_from_slice(&kind);
                ETHERNET
            }
            (false, Link::Tap) => 0,
        };
        prefix
    }
}

/// A record's type, or an Ethernet header.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    bytes: [u8; ETHERNET],
    len: usize,
}

impl Prefix {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// An IP packet as a frame with zero addresses.
pub(super) fn with_header(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET];
    frame[12..].copy_from_slice(&ether_type(packet).unwrap_or([0, 0]));
    frame.extend_from_slice(packet);
    frame
}
