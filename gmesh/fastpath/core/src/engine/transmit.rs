//! From the device to UDP.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::events::Event;
use super::peer::{count, Peer};
use super::send::{with_header, Prefix, Way};
use super::table::{Lane, Mode};
use super::{Engine, MTU};
use crate::io::Io;
use crate::packet::headers::{ether_type, payload, traffic_class, Link, ETHERNET, ICMPV6, IPV4, IPV6};
use crate::packet::mss::clamp;
use crate::packet::segment::{outgoing, Outgoing};
use crate::packet::virtio::VirtioHeader;

/// Packets of the device that are read in a row.
const READS: usize = 16;
const SOLICITATION: u8 = 135;
/// Addresses behind the own device that are remembered, as many as the mesh does.
const MAX_MACS: usize = 4096;

/// EtherType and start of the IP packet of what the device carries.
pub(super) fn network(packet: &[u8], link: Link) -> Option<([u8; 2], usize)> {
    match link {
        Link::Tun => ether_type(packet).map(|kind| (kind, 0)),
        Link::Tap => payload(packet).filter(|(_, start)| *start <= packet.len()),
    }
}

impl<I: Io> Engine<I> {
    /// Read what the device has, up to some packets, and send it. False where the device has failed for good.
    pub fn device_readable(&mut self) -> bool {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let mut alive = true;
        for _ in 0..READS {
            match self.io.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    count(&self.shared.totals.device_reads, 1);
                    self.take_packet(&mut buffer[..len]);
                    if self.outbox.is_full() {
                        self.flush();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.tell(Event::DeviceFailed { error: error.raw_os_error().unwrap_or(libc::EIO) });
                    alive = false;
                    break;
                }
            }
        }
        self.read_buffer = buffer;
        self.flush();
        alive
    }

    /// Take a packet of the device, its virtio header included where there is one.
    pub(super) fn take_packet(&mut self, bytes: &mut [u8]) {
        let discard = |engine: &Self| count(&engine.shared.totals.device_discarded, 1);
        let (header, packet) = if self.io.virtio() {
            match VirtioHeader::split(bytes) {
                Some(split) => split,
                None => return discard(self),
            }
        } else {
            (VirtioHeader::default(), bytes)
        };
        if packet.len() < if self.link == Link::Tap { ETHERNET } else { 1 } {
            return discard(self);
        }
        if self.link == Link::Tun && ether_type(packet).is_none() {
            return discard(self);
        }
        let link = self.link;
        let Ok(outgoing) = outgoing(&header, packet, link) else { return discard(self) };
        match outgoing {
            Outgoing::One(packet) => self.one(packet),
            Outgoing::Many(many) => {
                let lane = self.lane_of(many.headers());
                let longest = many.len(0) + link.missing();
                let way = lane.and_then(|lane| self.way(&lane, longest, many.headers()));
                for index in 0..many.count() {
                    let len = many.len(index);
                    if let Some((way, prefix)) = &way {
                        self.count_read(len);
                        if self.put(way, prefix.bytes(), len, |out| many.write(index, out)) {
                            self.count_out(way, len);
                            continue;
                        }
                    }
                    let mut packet = vec![0; len];
                    many.write(index, &mut packet);
                    if way.is_none() {
                        // Nothing is known of it, so it is as if it had come alone.
                        self.one(&mut packet);
                    } else {
                        self.hand_up(&packet);
                    }
                }
            }
        }
    }

    fn one(&mut self, packet: &mut [u8]) {
        let frame = packet.len() + self.link.missing();
        if frame > MTU {
            return count(&self.shared.totals.device_discarded, 1);
        }
        self.count_read(packet.len());
        if self.table.mode == Mode::Switch {
            self.learn(packet);
        }
        if let Some(lane) = self.lane_of(packet) {
            if lane.clamp {
                let mtu = lane.hops[0].and_then(|hop| self.peer(hop)).map_or(MTU, |peer| peer.path.mtu);
                clamp_packet(packet, self.link, mtu);
            }
            if let Some((way, prefix)) = self.way(&lane, frame, packet) {
                if self.put(&way, prefix.bytes(), packet.len(), |out| out.copy_from_slice(packet)) {
                    return self.count_out(&way, packet.len());
                }
                self.key_needed(way.seal);
            }
        }
        self.hand_up(packet);
    }

    fn hand_up(&mut self, packet: &[u8]) {
        let frame = match self.link {
            Link::Tun => with_header(packet),
            Link::Tap => packet.to_vec(),
        };
        self.tell(Event::Frame { frame });
    }

    /// The lane for a packet of the own device. Its beginning is enough.
    fn lane_of(&mut self, packet: &[u8]) -> Option<Lane> {
        let index = match self.table.mode {
            Mode::Switch if self.link == Link::Tap => self.table.mac(packet[..6].try_into().ok()?),
            Mode::Router if self.link == Link::Tun => self.ip_lane(ether_type(packet)?, packet),
            _ => None,
        }?;
        let lane = self.table.lanes.get(index as usize)?;
        // What is for the own device does not come from it.
        (!lane.mine()).then_some(*lane)
    }

    /// The lane of an IP packet's destination.
    pub(super) fn ip_lane(&mut self, kind: [u8; 2], packet: &[u8]) -> Option<u32> {
        match kind {
            IPV4 => self.cache.ipv4(&self.table, packet.get(16..20)?.try_into().ok()?),
            IPV6 => {
                let address = packet.get(24..40)?.try_into().ok()?;
                if packet[6] == ICMPV6 && packet.get(40).is_some_and(|kind| *kind == SOLICITATION) {
                    return None;
                }
                self.cache.ipv6(&self.table, address)
            }
            _ => None,
        }
    }

    /// How a frame of so many bytes goes along a lane now, and what comes before its packet.
    fn way(&mut self, lane: &Lane, frame: usize, packet: &[u8]) -> Option<(Way, Prefix)> {
        let seal = lane.seal?;
        let hop = lane.hops.into_iter().flatten().find(|hop| {
            let peer = self.peers.get(*hop as usize).and_then(Option::as_deref);
            // Without ids nobody could tell whom a relayed datagram is for.
            peer.is_some_and(|peer| peer.carries(frame) && (*hop == seal || peer.path.ids))
        })?;
        let peer = self.peer(seal)?;
        if !peer.can_seal() {
            return None;
        }
        let session = peer.sending.is_some();
        let (kind, start) = network(packet, self.link).unwrap_or(([0, 0], 0));
        let class = self.table.inherit.then(|| traffic_class(kind, packet.get(start..).unwrap_or(&[])));
        let target = self.target(hop, class)?;
        let prefix = self.prefix(session, kind);
        Some((Way { owner: lane.owner, seal, target }, prefix))
    }

    fn count_read(&self, len: usize) {
        count(&self.shared.totals.device_packets_in, 1);
        count(&self.shared.totals.device_bytes_in, (len + self.link.missing()) as u64);
    }

    fn count_out(&mut self, way: &Way, len: usize) {
        let frame = (len + self.link.missing()) as u64;
        if let Some(owner) = self.peer(way.owner) {
            count(&owner.counters.packets_out, 1);
            count(&owner.counters.bytes_out, frame);
        }
        if let Some(hop) = self.peer(way.target.hop) {
            count(&hop.counters.wanted, 1);
        }
        if way.seal != way.target.hop {
            if let Some(seal) = self.peer(way.seal) {
                count(&seal.counters.wanted, 1);
            }
        }
    }

    pub(super) fn key_needed(&mut self, peer: u32) {
        let now = self.now;
        if self.peer(peer).is_some_and(|peer| Peer::due(&mut peer.key_needed_at, now)) {
            self.tell(Event::KeyNeeded { peer });
        }
    }

    /// Note the source address of a frame of the own device.
    fn learn(&mut self, frame: &[u8]) {
        let Some(mac) = frame.get(6..12).and_then(|mac| <[u8; 6]>::try_from(mac).ok()) else { return };
        if let Some(seen) = self.macs.get(&mac) {
            seen.store(self.now, Ordering::Relaxed);
        } else if mac[0] & 1 == 0 && mac != [0; 6] && self.macs.len() < MAX_MACS {
            let seen = Arc::new(AtomicU64::new(self.now));
            self.macs.insert(mac, seen.clone());
            if let Ok(mut macs) = self.shared.macs.lock() {
                macs.insert(mac, seen);
            }
            self.tell(Event::MacSeen { mac });
        }
    }
}

/// Lower the MSS in what the device carries to what fits frames of `mtu` bytes.
pub(super) fn clamp_packet(packet: &mut [u8], link: Link, mtu: usize) {
    if let Some((kind, start)) = network(packet, link) {
        let before = if link == Link::Tun { ETHERNET } else { start };
        clamp(kind, &mut packet[start..], mtu.saturating_sub(before));
    }
}
