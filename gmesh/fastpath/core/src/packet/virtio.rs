//! The header that a tun device with IFF_VNET_HDR puts before each packet: 10 bytes in the machine's order.

pub const SIZE: usize = 10;
/// The checksum is not finished: the field holds the sum of the pseudo header.
pub const NEEDS_CSUM: u8 = 1;

pub const GSO_NONE: u8 = 0;
pub const GSO_TCPV4: u8 = 1;
pub const GSO_TCPV6: u8 = 4;
pub const GSO_UDP_L4: u8 = 5;
/// A bit beside the type: the first segment alone bears CWR.
pub const GSO_ECN: u8 = 0x80;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioHeader {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
}

impl VirtioHeader {
    /// Read the header and what follows it; None where the bytes do not reach.
    #[must_use]
    pub fn split(bytes: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (head, packet) = bytes.split_at_mut_checked(SIZE)?;
        let word = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let header = Self {
            flags: head[0],
            gso_type: head[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        };
        Some((header, packet))
    }

    #[must_use]
    pub fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        for (at, word) in [(2, self.hdr_len), (4, self.gso_size), (6, self.csum_start), (8, self.csum_offset)] {
            bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back() {
        let header = VirtioHeader {
            flags: 1,
            gso_type: 4,
            hdr_len: 0x102,
            gso_size: 0x304,
            csum_start: 0x506,
            csum_offset: 0x708,
        };
        let mut bytes = header.bytes().to_vec();
        bytes.push(9);
        let (read, rest) = VirtioHeader::split(&mut bytes).unwrap();
        assert_eq!((read, &*rest), (header, &[9u8][..]));
        assert!(VirtioHeader::split(&mut [0; 9]).is_none());
    }
}
