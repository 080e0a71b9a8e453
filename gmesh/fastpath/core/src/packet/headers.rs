//! Where the headers of a packet lie.

pub const ETHERNET: usize = 14;
pub const IPV4: [u8; 2] = [0x08, 0x00];
pub const IPV6: [u8; 2] = [0x86, 0xdd];
pub const VLAN: [u8; 2] = [0x81, 0x00];
pub const VLAN_TAG: usize = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// What a device carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
}

impl Link {
    /// Bytes of Ethernet header before the IP packet, without tags.
    #[must_use]
    pub fn header(self) -> usize {
        match self {
            Self::Tun => 0,
            Self::Tap => ETHERNET,
        }
    }

    /// Bytes that a frame of the wire has more than a packet of this device.
    #[must_use]
    pub fn missing(self) -> usize {
        ETHERNET - self.header()
    }
}

/// The EtherType of an IP packet by its first half byte.
#[must_use]
pub fn ether_type(packet: &[u8]) -> Option<[u8; 2]> {
    match packet.first()? >> 4 {
        4 => Some(IPV4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// Two bytes in network order.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// EtherType and start of what an Ethernet frame carries, behind one VLAN tag if there is one.
#[must_use]
pub fn payload(frame: &[u8]) -> Option<([u8; 2], usize)> {
    let kind = [*frame.get(12)?, *frame.get(13)?];
    if kind == VLAN {
        return Some(([*frame.get(16)?, *frame.get(17)?], ETHERNET + VLAN_TAG));
    }
    Some((kind, ETHERNET))
}

/// The priority (DSCP) bits of the IP packet at the end of a frame of this type, 0 for others. The congestion bits
/// stay 0: a mark that the outer packet gets on its way would be lost with it.
#[must_use]
pub fn traffic_class(kind: [u8; 2], packet: &[u8]) -> u8 {
    match (kind, packet) {
        (IPV4, [first, class, ..]) if first >> 4 == 4 => class & 0xfc,
        (IPV6, [first, second, ..]) if first >> 4 == 6 => (first << 4 | second >> 4) & 0xfc,
        _ => 0,
    }
}
