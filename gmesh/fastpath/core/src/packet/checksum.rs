//! The Internet checksum (RFC 1071).
//!
//! Sums are made of words in the machine's own order and folded late, which gives the bytes of the checksum in the
//! right order on any machine.

/// The sum of all 16-bit words, not folded; an odd last byte counts as if a zero followed.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut total = 0;
    for word in &mut words {
        total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total + u64::from(u32::from_ne_bytes(last))
}

/// A sum folded to 16 bits, carries added in, not inverted. Its bytes in the machine's order are those on the wire.
#[must_use]
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The part of a sum that comes from the pseudo header: addresses (8 or 32 bytes), protocol and length.
#[must_use]
pub fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    sum(addresses) + u64::from(u16::from(protocol).to_be()) + u64::from((length as u32).to_be())
}

/// The two bytes of a checksum field for a sum.
#[must_use]
pub fn field(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// The same for UDP, where zero means that there is none.
#[must_use]
pub fn udp_field(sum: u64) -> [u8; 2] {
    match field(sum) {
        [0, 0] => [0xff, 0xff],
        other => other,
    }
}

/// A checksum field after a word under it has changed (RFC 1624); all numbers as read in network order.
#[must_use]
pub fn updated(field: u16, old: u16, new: u16) -> u16 {
    let sum = u64::from(!field) + u64::from(!old) + u64::from(new);
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut total = 0u64;
        for pair in bytes.chunks(2) {
            total += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while total >> 16 != 0 {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_book(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(fold(sum(&bytes)).to_ne_bytes(), by_the_book(&bytes).to_be_bytes());
        }

        #[test]
        fn a_changed_word_changes_the_field(
            mut bytes in prop::collection::vec(any::<u8>(), 8..40), new in any::<u16>(),
        ) {
            let before = u16::from_be_bytes(field(sum(&bytes)));
            let old = u16::from_be_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&new.to_be_bytes());
            let after = u16::from_be_bytes(field(sum(&bytes)));
            let quick = updated(before, old, new);
            // Both forms of zero are right.
            prop_assert!(quick == after || (quick ^ after) == 0xffff && (quick == 0 || after == 0));
        }
    }

    #[test]
    fn a_pseudo_header_is_the_bytes_of_one() {
        let addresses = [10, 0, 0, 1, 10, 77, 3, 255];
        let mut header = addresses.to_vec();
        header.extend([0, 17, 0x12, 0x34]);
        assert_eq!(fold(pseudo(&addresses, 17, 0x1234)), fold(sum(&header)));
    }
}
