//! Datagrams on their way out: written into one buffer back to back, sealed together, sent in trains.
//!
//! A train is datagrams of one size to one address, of which the last may be shorter; the kernel cuts it up. Datagrams
//! for one peer leave in the order of their numbers.
//!
//! Not here: whose keys seal, and what becomes of what the kernel refuses.

use std::net::SocketAddr;

use super::table::PeerId;
use crate::io::Message;

/// Bytes and number of a train: what UDP carries at most, and what old kernels cut up.
const MAX_TRAIN: usize = 65_000;
const MAX_SEGMENTS: usize = 64;
const REGION: usize = 1 << 16;
const TRAINS: usize = if cfg!(fuzzing) { 4 } else { 12 };
/// Bytes that may wait before they are sent: more would fall out of the processor's cache.
const FULL: usize = 40_000;

/// How a datagram is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    Session,
    Legacy,
    /// It goes as it is.
    None,
}

/// One datagram: `start` and `wire` are all of it, `data` and `plain` what is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    pub train: usize,
    pub owner: PeerId,
    pub seal: PeerId,
    pub sealing: Sealing,
    pub number: u32,
    pub start: usize,
    pub wire: usize,
    pub data: usize,
    pub plain: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Train {
    pub hop: PeerId,
    pub socket: usize,
    pub message: Message,
    pub count: usize,
    closed: bool,
    single: bool,
}

/// Where a datagram is to go.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub hop: PeerId,
    pub socket: usize,
    pub to: SocketAddr,
    pub class: Option<u8>,
    /// Whether it may be part of a train.
    pub trains: bool,
}

pub struct Outbox {
    pub buffer: Vec<u8>,
    pub units: Vec<Unit>,
    pub trains: Vec<Train>,
    waiting: usize,
}

impl Outbox {
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: vec![0; REGION * TRAINS],
            units: Vec::with_capacity(512),
            trains: Vec::with_capacity(TRAINS),
            waiting: 0,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Whether it is time to send.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting >= FULL || self.trains.len() + 2 > TRAINS
    }

    /// Room for a datagram of so many bytes: its train and its start. None until the outbox is cleared.
    pub fn room(&mut self, target: &Target, wire: usize) -> Option<(usize, usize)> {
        if wire > MAX_TRAIN {
            return None;
        }
        let last = self.trains.iter().rposition(|train| train.hop == target.hop && train.socket == target.socket);
        if let Some(index) = last {
            let train = &mut self.trains[index];
            let message = &mut train.message;
            if target.trains
                && !train.single
                && !train.closed
                && message.to == target.to
                && message.class == target.class
                && wire <= message.segment
                && message.len + wire <= MAX_TRAIN
                && train.count < MAX_SEGMENTS
            {
                let start = message.start + message.len;
                message.len += wire;
                train.count += 1;
                train.closed = wire < message.segment;
                self.waiting += wire;
                return Some((index, start));
            }
        }
        if self.trains.len() == TRAINS {
            return None;
        }
        let index = self.trains.len();
        let start = index * REGION;
        self.trains.push(Train {
            hop: target.hop,
            socket: target.socket,
            message: Message { to: target.to, start, len: wire, segment: wire, class: target.class },
            count: 1,
            closed: false,
            single: !target.trains,
        });
        self.waiting += wire;
        Some((index, start))
    }

    /// Everything was sent, or is lost.
    pub fn clear(&mut self) {
        self.units.clear();
        self.trains.clear();
        self.waiting = 0;
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(hop: PeerId) -> Target {
        Target { hop, socket: 0, to: SocketAddr::from(([127, 0, 0, 1], 655)), class: None, trains: true }
    }

    #[test]
    fn a_shorter_one_closes_a_train_and_a_longer_one_begins_the_next() {
        let mut outbox = Outbox::new();
        let sizes = [100, 100, 60, 60, 100];
        let trains: Vec<usize> = sizes.iter().map(|size| outbox.room(&target(1), *size).unwrap().0).collect();
        assert_eq!(trains, [0, 0, 0, 1, 2]);
        assert_eq!(outbox.trains[0].message.len, 260);
        assert_eq!(outbox.trains[0].message.segment, 100);
    }

    #[test]
    fn peers_have_trains_of_their_own() {
        let mut outbox = Outbox::new();
        let starts: Vec<(usize, usize)> =
            [1, 2, 1, 2].iter().map(|hop| outbox.room(&target(*hop), 100).unwrap()).collect();
        assert_eq!(starts, [(0, 0), (1, REGION), (0, 100), (1, REGION + 100)]);
    }

    #[test]
    fn trains_end() {
        let mut outbox = Outbox::new();
        for _ in 0..MAX_SEGMENTS {
            assert_eq!(outbox.room(&target(1), 100).unwrap().0, 0);
        }
        assert_eq!(outbox.room(&target(1), 100).unwrap().0, 1);
        let single = Target { trains: false, ..target(1) };
        for train in 2..TRAINS {
            assert_eq!(outbox.room(&single, 100).unwrap().0, train);
        }
        assert!(outbox.room(&single, 100).is_none());
        outbox.clear();
        assert!(outbox.room(&single, 100).is_some());
    }

    #[test]
    fn long_datagrams_make_short_trains() {
        let mut outbox = Outbox::new();
        let count = (0..60).filter(|_| outbox.room(&target(1), 1472).unwrap().0 == 0).count();
        assert_eq!(count, MAX_TRAIN / 1472);
    }
}
