//! Datagrams between others: they go on as they came, without a look inside (data-sptps 5.1).

use super::events::Event;
use super::peer::count;
use super::receive::{Datagram, SHORTEST};
use super::send::IDS;
use super::table::{NodeId, PeerId};
use super::Engine;
use crate::io::{Io, Message};

impl<I: Io> Engine<I> {
    /// Send datagrams between others on, as they are: a train stays one.
    pub(super) fn relay(&mut self, sender: PeerId, to: NodeId, run: &[Datagram]) {
        let target_peer = self.ids.get(&to).copied();
        if target_peer == Some(sender) {
            return count(&self.shared.totals.relayed_loop, run.len() as u64);
        }
        count(&self.shared.totals.relayed, run.len() as u64);
        self.want(target_peer, run.len());
        let class = self.table.inherit.then_some(0);
        let mut messages: Vec<(PeerId, usize, Message)> = Vec::new();
        for datagram in run {
            let hop = self.relay_hop(&to, sender, datagram.len);
            let Some(target) = hop.and_then(|hop| self.target(hop, class)) else {
                let datagram = self.incoming.buffer[datagram.start..datagram.start + datagram.len].to_vec();
                self.tell(Event::Relay { sender, datagram });
                continue;
            };
            if target_peer != Some(target.hop) {
                self.want(Some(target.hop), 1);
            }
            if let Some((hop, _, last)) = messages.last_mut() {
                let first = if last.segment == 0 { last.len } else { last.segment };
                if *hop == target.hop
                    && target.trains
                    && last.start + last.len == datagram.start
                    && last.len % first == 0
                    && datagram.len <= first
                    && last.len / first < 64
                {
                    last.segment = first;
                    last.len += datagram.len;
                    continue;
                }
            }
            let (start, len) = (datagram.start, datagram.len);
            let message = Message { to: target.to, start, len, segment: 0, class };
            messages.push((target.hop, target.socket, message));
        }
        self.forward(sender, &messages);
    }

    fn want(&mut self, id: Option<PeerId>, packets: usize) {
        if let Some(peer) = id.and_then(|id| self.peer(id)) {
            count(&peer.counters.wanted, packets as u64);
        }
    }

    /// Who takes a datagram for another node by UDP: the first whose path is wide enough (data-sptps 5).
    fn relay_hop(&self, to: &NodeId, sender: PeerId, datagram: usize) -> Option<PeerId> {
        let data = datagram.checked_sub(IDS + SHORTEST)?;
        self.table.relays.get(to)?.iter().copied().find(|hop| {
            let peer = self.peers.get(*hop as usize).and_then(Option::as_deref);
            *hop != sender && peer.is_some_and(|peer| peer.path.ids && peer.carries(data))
        })
    }

    /// Send messages out of the receive buffer.
    fn forward(&mut self, sender: PeerId, messages: &[(PeerId, usize, Message)]) {
        let buffer = std::mem::take(&mut self.incoming.buffer);
        let mut failed = Vec::new();
        for run in messages.chunk_by(|a, b| a.1 == b.1) {
            let plain: Vec<Message> = run.iter().map(|entry| entry.2).collect();
            for (hop, _, message) in run {
                let datagrams = if message.segment == 0 { 1 } else { message.len.div_ceil(message.segment) };
                if let Some(peer) = self.peer(*hop) {
                    count(&peer.counters.udp_out, datagrams as u64);
                }
            }
            self.transmit(run[0].1, &buffer, &plain, |index| run[index].0, &mut failed);
        }
        for (hop, message, error) in failed {
            self.count_failed(error);
            if error == libc::EMSGSIZE {
                // Known to be lost, so it can still go the other way.
                let size = message.len.saturating_sub(IDS + SHORTEST);
                if let Some(peer) = self.peer(hop) {
                    peer.path.min_mtu = peer.path.min_mtu.min(size.saturating_sub(1));
                }
                self.tell(Event::TooBig { peer: hop, size });
                let datagram = buffer[message.start..message.start + message.len].to_vec();
                self.tell(Event::Relay { sender, datagram });
            }
        }
        self.incoming.buffer = buffer;
    }
}
