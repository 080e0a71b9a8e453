//! What the engine is told to do.

use super::events::{Command, Event};
use super::outbox::{Sealing, Target, Unit};
use super::peer::{count, Installed, Path, Peer, MAX_SESSIONS};
use super::send::Way;
use super::table::PeerId;
use super::Engine;
use crate::crypto::{Job, TAG};
use crate::flow::legacy::{LegacyReceiver, LegacySender};
use crate::flow::session::{Session, SessionState, Step, HANDSHAKE, NUMBER};
use crate::io::Io;
use crate::packet::coalesce::Sink;
use crate::packet::headers::{Link, ETHERNET};

impl<I: Io> Engine<I> {
    /// Do what waits to be done, up to some commands; whether there may be more.
    pub fn perform(&mut self) -> bool {
        const AT_ONCE: usize = 256;
        for _ in 0..AT_ONCE {
            let Some(command) = self.shared.queues.next_command() else {
                self.flush();
                return false;
            };
            self.command(command);
            if self.outbox.is_full() {
                self.flush();
            }
        }
        self.flush();
        true
    }

    fn command(&mut self, command: Command) {
        if !command.is_packet() {
            // What was sealed so far was for the state so far.
            self.flush();
        }
        let now = self.now;
        match command {
            Command::SetTable(table) => {
                self.table = table;
                self.cache.clear();
            }
            Command::AddPeer { peer, id, counters } => {
                let index = peer as usize;
                if self.peers.len() <= index {
                    self.peers.resize_with(index + 1, || None);
                }
                self.peers[index] = Some(Box::new(Peer { counters, ..Peer::new(id) }));
                self.ids.insert(id, peer);
            }
            Command::RemovePeer { peer } => {
                self.forget(peer);
                if let Some(slot) = self.peers.get_mut(peer as usize) {
                    if let Some(peer_state) = slot.take() {
                        if self.ids.get(&peer_state.id) == Some(&peer) {
                            self.ids.remove(&peer_state.id);
                        }
                    }
                }
            }
            Command::Forget { peer } => self.forget(peer),
            Command::SetSender { peer, key } => {
                if let Some(peer) = self.peer(peer) {
                    peer.sender = key.map(|key| LegacySender::new(*key));
                }
            }
            Command::AddReceiver { peer, key, replay_window } => {
                if let Some(peer) = self.peer(peer) {
                    peer.add_receiver(LegacyReceiver::new(*key, replay_window), now);
                }
            }
            Command::Install { peer, session, state } => self.install(peer, session, &state),
            Command::Use { peer, session } => {
                if let Some(peer) = self.peer(peer) {
                    if peer.installed(session).is_some() {
                        peer.sending = Some(session);
                    }
                }
            }
            Command::Drop { peer, session } => {
                if let Some(peer) = self.peer(peer) {
                    peer.sessions.retain(|installed| installed.number != session);
                    if peer.sending == Some(session) {
                        peer.sending = None;
                    }
                }
            }
            Command::Step { peer, session, step } => self.step(peer, session, &step),
            Command::Export { peer, session } => {
                let state = self.peer(peer).and_then(|peer| peer.installed(session)).map(|i| i.session.state(now));
                if let Some(state) = state {
                    self.tell(Event::SessionState { peer, session, state: Box::new(state) });
                }
            }
            Command::SetPath { peer, path } => self.set_path(peer, path),
            Command::Heard { peer, from, socket } => self.heard(peer, from, socket),
            Command::OpenHandshake { peer, datagram } => self.open_from_tcp(peer, &datagram, true),
            Command::OpenFromTcp { peer, datagram } => self.open_from_tcp(peer, &datagram, false),
            Command::SealForTcp { peer, token, kind, data } => {
                let sending = self.peer(peer).and_then(|peer| peer.sending);
                match sending.and_then(|session| self.seal_one(peer, session, kind, &data)) {
                    Some(datagram) => self.tell(Event::Sealed { peer, token, datagram }),
                    None => self.key_needed(peer),
                }
            }
            Command::Datagram { from, socket, datagram } => self.again(from, socket, &datagram),
            Command::Send { owner, seal, hop, to, ttl, kind, frame } => {
                self.send_frame(owner, seal, hop, to, ttl, kind, &frame);
            }
            Command::Forward { hop, datagram } => self.forward_one(hop, &datagram),
            Command::Write { frame } => self.write(&frame),
            Command::ForgetMac { mac } => {
                self.macs.remove(&mac);
                if let Ok(mut macs) = self.shared.macs.lock() {
                    macs.remove(&mac);
                }
            }
        }
    }

    fn forget(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id as usize).and_then(Option::as_deref_mut) else { return };
        let counters = peer.counters.clone();
        counters.last_authentic.store(0, std::sync::atomic::Ordering::Relaxed);
        counters.last_opened.store(0, std::sync::atomic::Ordering::Relaxed);
        *peer = Peer { counters, ..Peer::new(peer.id) };
        self.sources.retain(|_, owner| *owner != id);
    }

    fn install(&mut self, id: PeerId, number: u64, state: &SessionState) {
        let now = self.now;
        let Some(peer) = self.peer(id) else { return };
        peer.sessions.retain(|installed| installed.number != number);
        if peer.sessions.len() >= MAX_SESSIONS {
            let sending = peer.sending;
            if let Some(oldest) = peer.sessions.iter().position(|installed| Some(installed.number) != sending) {
                peer.sessions.remove(oldest);
            }
        }
        let session = Session::new(state, now);
        peer.sessions.push(Installed { number, session, confirmed: false, worn: false });
    }

    fn step(&mut self, id: PeerId, number: u64, step: &Step) {
        let now = self.now;
        if let Step::Send(data) = step {
            if let Some(datagram) = self.seal_one(id, number, HANDSHAKE, data) {
                self.tell(Event::HandshakeSealed { peer: id, session: number, datagram });
            }
        } else if let Some(installed) = self.peer(id).and_then(|peer| peer.installed(number)) {
            installed.session.step(step, now);
        }
    }

    /// A record without ids.
    fn seal_one(&mut self, id: PeerId, number: u64, kind: u8, data: &[u8]) -> Option<Vec<u8>> {
        let cipher = self.cipher;
        let session = &mut self.peer(id)?.installed(number)?.session;
        let record = session.take_number()?;
        let mut datagram = record.to_be_bytes().to_vec();
        datagram.push(kind);
        datagram.extend_from_slice(data);
        let mut jobs = [Job::new(record, NUMBER, datagram.len() - NUMBER)];
        datagram.resize(datagram.len() + TAG, 0);
        cipher.seal(session.send_key(), &mut datagram, &mut jobs);
        Some(datagram)
    }

    fn set_path(&mut self, id: PeerId, path: Path) {
        let Some(peer) = self.peers.get_mut(id as usize).and_then(Option::as_deref_mut) else { return };
        let before = peer.path;
        peer.path = path;
        // Where the peer was heard on another socket it is answered by that one.
        if before.address == path.address {
            peer.path.socket = before.socket;
        } else if let Some((_, socket)) = peer.sources.iter().find(|source| Some(source.0) == path.address) {
            peer.path.socket = *socket;
        }
        if before.address == path.address && before.udp == path.udp {
            return;
        }
        peer.trains = true;
        // Told again if it still differs: what the mesh refused then it may want now.
        peer.reported = None;
        if let Some(address) = path.address {
            // An address from which another peer was heard stays that one's: this is hearsay until proved.
            self.sources.entry(address).or_insert(id);
        }
        if let Some(old) = before.address.filter(|old| Some(*old) != path.address) {
            // What is on its way from the old address is still recognised.
            if self.sources.get(&old) == Some(&id) {
                self.heard(id, old, before.socket);
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn send_frame(
        &mut self,
        owner: PeerId,
        seal: PeerId,
        hop: PeerId,
        to: Option<(std::net::SocketAddr, usize)>,
        ttl: u8,
        kind: Option<u8>,
        frame: &[u8],
    ) {
        let totals = self.shared.clone();
        let totals = &totals.totals;
        let Some(session) = self.peer(seal).filter(|peer| peer.can_seal()).map(|peer| peer.sending.is_some()) else {
            return count(&totals.no_key, 1);
        };
        let Some(trains) = self.peer(hop).map(|peer| peer.trains) else { return count(&totals.no_address, 1) };
        let class = self.table.inherit.then_some(0);
        let target = match to {
            Some((to, socket)) => Some(Target { hop, socket, to, class, trains }),
            None => self.target(hop, class),
        };
        let Some(target) = target else { return count(&totals.no_address, 1) };
        let probe = frame.get(12..ETHERNET) == Some(&[0, 0]);
        let (prefix, data): (Vec<u8>, &[u8]) = match (session, kind) {
            (false, _) => (vec![], frame),
            (true, Some(kind)) => (vec![kind], frame),
            (true, None) if probe => (vec![4], frame),
            (true, None) if self.link == Link::Tap => (vec![super::receive::WITH_MAC], frame),
            (true, None) => (vec![0], frame.get(ETHERNET..).unwrap_or(&[])),
        };
        let socket = target.socket;
        let with_ttl = ttl != 0 && {
            self.flush();
            self.io.set_ttl(socket, Some(ttl))
        };
        if self.put(&Way { owner, seal, target }, &prefix, data.len(), |out| out.copy_from_slice(data)) {
            if probe {
                count(&totals.probes_out, 1);
            }
        } else {
            self.key_needed(seal);
        }
        if with_ttl {
            self.flush();
            self.io.set_ttl(socket, None);
        }
    }

    fn forward_one(&mut self, hop: PeerId, datagram: &[u8]) {
        let Some(target) = self.target(hop, None) else { return };
        let room = self.outbox.room(&target, datagram.len()).or_else(|| {
            self.flush();
            self.outbox.room(&target, datagram.len())
        });
        let Some((train, start)) = room else { return };
        self.outbox.buffer[start..start + datagram.len()].copy_from_slice(datagram);
        self.outbox.units.push(Unit {
            train,
            owner: hop,
            seal: hop,
            sealing: Sealing::None,
            number: 0,
            start,
            wire: datagram.len(),
            data: start,
            plain: 0,
        });
        count(&self.shared.totals.relayed, 1);
    }

    fn write(&mut self, frame: &[u8]) {
        let packet = match self.link {
            Link::Tun => frame.get(ETHERNET..).unwrap_or(&[]),
            Link::Tap => frame,
        };
        let mut device = super::Device { io: &mut self.io, totals: &self.shared.totals, missing: self.link.missing() };
        let whole = crate::packet::coalesce::Piece { start: 0, len: packet.len() };
        device.write(packet, &Default::default(), &[whole]);
    }
}
