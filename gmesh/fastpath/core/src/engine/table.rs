//! Where packets belong: an immutable picture that Python makes and the engine reads (topology 5.1, 9.2, 9.8).
//!
//! It holds the simple cases only; what is not in it is handed up. Not here: keys and addresses of peers.

use std::collections::HashMap;
use std::hash::Hash;

/// A peer, by the number that the engine gave it.
pub type PeerId = u32;
/// A node's id on the wire.
pub type NodeId = [u8; 6];

/// Whom a direct datagram is for.
pub const NOBODY: NodeId = [0; 6];

/// Where frames for one owner go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Whose addresses these are; counts the packets.
    pub owner: PeerId,
    /// With whose keys packets are sealed; the own device, if nobody's.
    pub seal: Option<PeerId>,
    /// Whose paths may carry them, the best first.
    pub hops: [Option<PeerId>; 2],
    /// Whether an MSS that is too large is lowered.
    pub clamp: bool,
}

impl Lane {
    /// Whether frames of other nodes simply go to the own device.
    #[must_use]
    pub fn mine(&self) -> bool {
        self.seal.is_none()
    }
}

/// What addresses are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// IP addresses.
    Router,
    /// MAC addresses.
    Switch,
    /// None: every frame is handed up.
    Other,
}

/// Owners by longest prefix: one hash table per prefix length, so that their number hardly matters.
struct Prefixes<A> {
    /// How many bits do not count, and the lanes by those that do; the longest prefix first.
    levels: Vec<(u32, HashMap<A, Option<u32>>)>,
}

impl<A: Copy + Eq + Hash + std::ops::Shr<u32, Output = A> + Default> Prefixes<A> {
    fn new() -> Self {
        Self { levels: Vec::new() }
    }

    fn add(&mut self, bits: u32, prefix: u32, address: A, lane: Option<u32>) {
        let shift = bits - prefix;
        let index = match self.levels.binary_search_by_key(&shift, |level| level.0) {
            Ok(index) => index,
            Err(index) => {
                self.levels.insert(index, (shift, HashMap::new()));
                index
            }
        };
        self.levels[index].1.insert(shifted(address, shift, bits), lane);
    }

    fn find(&self, bits: u32, address: A) -> Option<u32> {
        self.levels.iter().find_map(|(shift, lanes)| lanes.get(&shifted(address, *shift, bits))).copied().flatten()
    }
}

/// A shift that may be by all bits.
fn shifted<A: std::ops::Shr<u32, Output = A> + Default>(address: A, shift: u32, bits: u32) -> A {
    if shift >= bits {
        A::default()
    } else {
        address >> shift
    }
}

/// Everything that decisions are made by, but for the peers' own state.
pub struct Table {
    pub mode: Mode,
    /// Whatever comes from other nodes goes to the device.
    pub kernel_forwards: bool,
    /// The priority of inner packets is that of outer ones.
    pub inherit: bool,
    pub lanes: Vec<Lane>,
    ipv4: Prefixes<u32>,
    ipv6: Prefixes<u128>,
    macs: HashMap<[u8; 6], Option<u32>>,
    /// Through whom datagrams for a node go on.
    pub relays: HashMap<NodeId, Vec<PeerId>>,
}

impl Table {
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            kernel_forwards: false,
            inherit: false,
            lanes: Vec::new(),
            ipv4: Prefixes::new(),
            ipv6: Prefixes::new(),
            macs: HashMap::new(),
            relays: HashMap::new(),
        }
    }

    /// Say where addresses with a prefix belong, None: to be handed up. The address has 4, 6 or 16 bytes. Returns
    /// whether it could be understood.
    #[must_use]
    pub fn add(&mut self, address: &[u8], prefix: u32, lane: Option<u32>) -> bool {
        if lane.is_some_and(|lane| lane as usize >= self.lanes.len()) || prefix as usize > 8 * address.len() {
            return false;
        }
        if let Ok(bytes) = <[u8; 4]>::try_from(address) {
            self.ipv4.add(32, prefix, u32::from_be_bytes(bytes), lane);
        } else if let Ok(bytes) = <[u8; 16]>::try_from(address) {
            self.ipv6.add(128, prefix, u128::from_be_bytes(bytes), lane);
        } else if let Ok(bytes) = <[u8; 6]>::try_from(address) {
            self.macs.insert(bytes, lane);
        } else {
            return false;
        }
        true
    }

    fn ipv4(&self, address: [u8; 4]) -> Option<u32> {
        // Groups and everybody are not for one owner.
        (address[0] < 224).then(|| self.ipv4.find(32, u32::from_be_bytes(address))).flatten()
    }

    fn ipv6(&self, address: [u8; 16]) -> Option<u32> {
        (address[0] < 0xff).then(|| self.ipv6.find(128, u128::from_be_bytes(address))).flatten()
    }

    /// The lane of a MAC address.
    #[must_use]
    pub fn mac(&self, address: [u8; 6]) -> Option<u32> {
        if address[0] & 1 == 1 {
            return None;
        }
        self.macs.get(&address).copied().flatten()
    }
}

const CACHED: usize = 1024;

/// The lanes of some addresses.
type Found<const N: usize> = Box<[Option<([u8; N], Option<u32>)>; CACHED]>;

/// What was found for the addresses of late, at most so many; it belongs to one table.
pub struct Cache {
    ipv4: Found<4>,
    ipv6: Found<16>,
}

/// Some bits of an address that differ between neighbours.
fn place(low: u32) -> usize {
    (low.wrapping_mul(0x9e37_79b1) >> 22) as usize % CACHED
}

impl Cache {
    #[must_use]
    pub fn new() -> Self {
        Self { ipv4: Box::new([None; CACHED]), ipv6: Box::new([None; CACHED]) }
    }

    /// Forget everything: there is another table.
    pub fn clear(&mut self) {
        self.ipv4.fill(None);
        self.ipv6.fill(None);
    }

    pub fn ipv4(&mut self, table: &Table, address: [u8; 4]) -> Option<u32> {
        let slot = &mut self.ipv4[place(u32::from_be_bytes(address))];
        match slot {
            Some((cached, lane)) if *cached == address => *lane,
            _ => {
                let lane = table.ipv4(address);
                *slot = Some((address, lane));
                lane
            }
        }
    }

    pub fn ipv6(&mut self, table: &Table, address: [u8; 16]) -> Option<u32> {
        let mut low = 0u32;
        for chunk in address.chunks_exact(4) {
            low = low.rotate_left(7) ^ u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        let slot = &mut self.ipv6[place(low)];
        match slot {
            Some((cached, lane)) if *cached == address => *lane,
            _ => {
                let lane = table.ipv6(address);
                *slot = Some((address, lane));
                lane
            }
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(lanes: usize) -> Table {
        let mut table = Table::new(Mode::Router);
        table.lanes =
            (0..lanes).map(|i| Lane { owner: i as u32, seal: Some(i as u32), hops: [None; 2], clamp: false }).collect();
        table
    }

    proptest! {
        #[test]
        fn the_longest_prefix_wins(
            prefixes in prop::collection::vec((any::<u32>(), 0u32..=32, prop::option::of(0u32..5)), 0..30),
            addresses in prop::collection::vec(any::<u32>(), 1..30),
            bits in 0u32..31,
        ) {
            let mut table = table(5);
            // Few different bits, so that prefixes meet.
            let thin = |address: u32| address & 0x7000_0000 >> (bits / 4) & 0x7fff_ffff;
            for (address, prefix, lane) in &prefixes {
                prop_assert!(table.add(&thin(*address).to_be_bytes(), *prefix, *lane));
            }
            let mut cache = Cache::new();
            for address in addresses.iter().map(|address| thin(*address)) {
                let mut best: Option<(u32, Option<u32>)> = None;
                for (other, prefix, lane) in &prefixes {
                    let mask = (u64::from(u32::MAX) << (32 - prefix)) as u32;
                    if (address ^ thin(*other)) & mask == 0 && best.is_none_or(|(longest, _)| *prefix >= longest) {
                        best = Some((*prefix, *lane));
                    }
                }
                for _ in 0..2 {
                    prop_assert_eq!(cache.ipv4(&table, address.to_be_bytes()), best.and_then(|best| best.1));
                }
            }
        }
    }

    #[test]
    fn six_and_sixteen_bytes() {
        let mut table = table(2);
        assert!(table.add(&[0xfd; 16], 64, Some(0)));
        assert!(table.add(&[0; 16], 0, Some(1)));
        assert!(table.add(&[2, 0, 0, 0, 0, 9], 48, Some(1)));
        assert!(!table.add(&[0; 5], 0, Some(1)));
        assert!(!table.add(&[0; 4], 33, Some(1)));
        assert!(!table.add(&[0; 4], 3, Some(2)));
        let mut cache = Cache::new();
        let mut address = [0xfd; 16];
        address[15] = 1;
        assert_eq!(cache.ipv6(&table, address), Some(0));
        address[3] = 1;
        assert_eq!(cache.ipv6(&table, address), Some(1));
        address[0] = 0xff;
        assert_eq!(cache.ipv6(&table, address), None);
        assert_eq!(table.mac([2, 0, 0, 0, 0, 9]), Some(1));
        assert_eq!(table.mac([3, 0, 0, 0, 0, 9]), None);
    }
}
