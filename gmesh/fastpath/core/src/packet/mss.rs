//! ClampMSS: TCP is told not to send segments that the path would have to cut (topology 9.4).
//!
//! Not here: whether clamping is wanted, and for which size.

use super::checksum::updated;
use super::headers::{word, IPV4, IPV6, TCP};

const IPV4_IN_IPV4: u8 = 4;

/// Lower the MSS option of the IP packet to what fits `room` bytes from the packet's start on; whether it changed.
///
/// `kind` is the EtherType. Looks behind one IPv4-in-IPv4 header; IPv6 only without extension headers.
pub fn clamp(kind: [u8; 2], packet: &mut [u8], room: usize) -> bool {
    let Some(tcp) = tcp_offset(kind, packet) else { return false };
    let Some(at) = mss_offset(packet, tcp) else { return false };
    let limit = match room.checked_sub(tcp + 20) {
        None | Some(0) => return false,
        Some(limit) => limit.min(0xffff) as u16,
    };
    let mss = word(packet, at);
    if mss <= limit {
        return false;
    }
    let (mut old, mut new) = (mss, limit);
    if (at - tcp) % 2 == 1 {
        // Spread over two words of the sum: adding it with its bytes swapped does the same.
        (old, new) = (old.swap_bytes(), new.swap_bytes());
    }
    let field = tcp + 16;
    let fixed = updated(word(packet, field), old, new);
    packet[field..field + 2].copy_from_slice(&fixed.to_be_bytes());
    packet[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    true
}

/// Where a complete TCP header begins.
fn tcp_offset(kind: [u8; 2], packet: &[u8]) -> Option<usize> {
    match kind {
        IPV6 => (packet.len() >= 60 && packet[6] == TCP).then_some(40),
        IPV4 => {
            let (mut start, mut protocol) = behind_ipv4(packet, 0)?;
            if protocol == IPV4_IN_IPV4 {
                (start, protocol) = behind_ipv4(packet, start)?;
            }
            (protocol == TCP && packet.len() >= start + 20).then_some(start)
        }
        _ => None,
    }
}

/// Start and protocol of what begins behind the IPv4 header at `start`.
fn behind_ipv4(packet: &[u8], start: usize) -> Option<(usize, u8)> {
    let header = packet.get(start..start + 20)?;
    if header[0] >> 4 != 4 || header[0] & 0x0f < 5 || header[6] & 0x1f != 0 || header[7] != 0 {
        return None;
    }
    Some((start + usize::from(header[0] & 0x0f) * 4, header[9]))
}

/// Where the value of the MSS option lies.
fn mss_offset(packet: &[u8], tcp: usize) -> Option<usize> {
    let end = tcp + usize::from(packet[tcp + 12] >> 4) * 4;
    if end > packet.len() {
        return None;
    }
    let mut at = tcp + 20;
    while at + 1 < end {
        match (packet[at], packet[at + 1]) {
            (0, _) => return None,
            (1, _) => at += 1,
            (2, length) => return (length == 4 && at + 4 <= end).then_some(at + 2),
            (_, length) if length < 2 => return None,
            (_, length) => at += usize::from(length),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::checksum::{field, fold, pseudo, sum};
    use super::*;

    fn syn(options: &[u8]) -> Vec<u8> {
        let tcp_len = 20 + options.len();
        let mut packet = vec![0x45, 0, 0, (20 + tcp_len) as u8, 0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([1, 2, 3, 4, 0, 0, 0, 9, 0, 0, 0, 0, (tcp_len as u8 / 4) << 4, 2, 16, 0, 0, 0, 0, 0]);
        packet.extend(options);
        let check = field(pseudo(&packet[12..20], TCP, tcp_len) + sum(&packet[20..]));
        packet[36..38].copy_from_slice(&check);
        packet
    }

    fn right(packet: &[u8]) -> bool {
        fold(pseudo(&packet[12..20], TCP, packet.len() - 20) + sum(&packet[20..])) == 0xffff
    }

    #[test]
    fn large_ones_sink_and_checksums_follow() {
        for before in [&[][..], &[1][..]] {
            let mut options = before.to_vec();
            options.extend([2, 4, 0x05, 0xb4]);
            options.resize(options.len().next_multiple_of(4), 0);
            let mut packet = syn(&options);
            assert!(right(&packet));
            assert!(!clamp(IPV4, &mut packet, 1500));
            assert!(clamp(IPV4, &mut packet, 1425));
            let at = 40 + before.len() + 2;
            assert_eq!(word(&packet, at), 1385);
            assert!(right(&packet));
            assert!(!clamp(IPV4, &mut packet, 1425));
        }
    }

    #[test]
    fn none_where_there_is_none() {
        let mut packet = syn(&[1, 1, 1, 1]);
        assert!(!clamp(IPV4, &mut packet, 100));
        let mut packet = syn(&[2, 4, 5, 0xb4]);
        packet[6] = 0x20;
        packet[7] = 1;
        assert!(!clamp(IPV4, &mut packet, 100), "a later fragment has no TCP header");
    }

    proptest! {
        #[test]
        fn any_bytes(v6 in any::<bool>(), mut packet in prop::collection::vec(any::<u8>(), 0..150), room in 0usize..2000) {
            clamp(if v6 { IPV6 } else { IPV4 }, &mut packet, room);
        }
    }
}
