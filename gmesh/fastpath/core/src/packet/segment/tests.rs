//! Cutting up and putting together, alone and one after the other.

use proptest::prelude::*;

use super::*;
use crate::packet::checksum::fold;
use crate::packet::coalesce::{Coalescer, Piece, Sink};

/// Collects what would be written to the device.
#[derive(Default)]
pub(crate) struct Written(pub Vec<(VirtioHeader, Vec<u8>)>);

impl Sink for Written {
    fn write(&mut self, buffer: &[u8], header: &VirtioHeader, pieces: &[Piece]) {
        let bytes = pieces.iter().flat_map(|piece| &buffer[piece.start..piece.start + piece.len]).copied().collect();
        self.0.push((*header, bytes));
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    link: Link,
    ipv6: bool,
    tcp: bool,
}

pub(crate) fn kinds() -> impl Strategy<Value = Kind> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(tap, ipv6, tcp)| Kind {
        link: if tap { Link::Tap } else { Link::Tun },
        ipv6,
        tcp,
    })
}

/// A large packet as the kernel hands it over.
fn large(kind: Kind, payload: &[u8], size: usize, flags: u8) -> (VirtioHeader, Vec<u8>) {
    let mut packet = vec![];
    if kind.link == Link::Tap {
        packet.extend([2; 12]);
        packet.extend(if kind.ipv6 { [0x86, 0xdd] } else { [8, 0] });
    }
    let network = packet.len();
    let transport_len = if kind.tcp { 32 } else { 8 };
    let protocol = if kind.tcp { TCP } else { UDP };
    let ip_payload = transport_len + payload.len();
    if kind.ipv6 {
        packet.extend([0x60, 1, 2, 3]);
        packet.extend((ip_payload as u16).to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend([0xfd; 16]);
        packet.extend([0xfe; 16]);
    } else {
        packet.extend([0x45, 4]);
        packet.extend(((20 + ip_payload) as u16).to_be_bytes());
        packet.extend([0xff, 0xfe, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    }
    let transport = packet.len();
    packet.extend([0x12, 0x34, 0x43, 0x21]);
    if kind.tcp {
        packet.extend([0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 0x80, flags, 7, 8, 0, 0, 0, 0]);
        packet.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    } else {
        packet.extend((ip_payload as u16).to_be_bytes());
        packet.extend([0, 0]);
    }
    let header_len = packet.len();
    packet.extend(payload);
    let addresses = if kind.ipv6 { network + 8..network + 40 } else { network + 12..network + 20 };
    if !kind.ipv6 {
        let check = field(sum(&packet[network..transport]));
        packet[network + 10..network + 12].copy_from_slice(&check);
    }
    let offset = if kind.tcp { 16 } else { 6 };
    let open = fold(pseudo(&packet[addresses], protocol, ip_payload)).to_ne_bytes();
    packet[transport + offset..transport + offset + 2].copy_from_slice(&open);
    let header = VirtioHeader {
        flags: NEEDS_CSUM,
        gso_type: match (kind.tcp, kind.ipv6) {
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            _ => GSO_UDP_L4,
        },
        hdr_len: header_len as u16,
        gso_size: size as u16,
        csum_start: transport as u16,
        csum_offset: offset as u16,
    };
    (header, packet)
}

/// The segments of a packet, each checked for its checksums and length.
fn segments(kind: Kind, header: &VirtioHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut packet = packet.to_vec();
    let Ok(Outgoing::Many(many)) = outgoing(header, &mut packet, kind.link) else { panic!("not cut") };
    let network = kind.link.header();
    let transport = usize::from(header.csum_start);
    (0..many.count())
        .map(|index| {
            let mut segment = vec![0xee; many.len(index)];
            many.write(index, &mut segment);
            let addresses = if kind.ipv6 { network + 8..network + 40 } else { network + 12..network + 20 };
            let protocol = if kind.tcp { TCP } else { UDP };
            let body = &segment[transport..];
            assert_eq!(fold(pseudo(&segment[addresses], protocol, body.len()) + sum(body)), 0xffff);
            if kind.ipv6 {
                assert_eq!(usize::from(word(&segment, network + 4)), segment.len() - network - 40);
            } else {
                assert_eq!(fold(sum(&segment[network..transport])), 0xffff);
                assert_eq!(usize::from(word(&segment, network + 2)), segment.len() - network);
            }
            segment
        })
        .collect()
}

fn put_together(link: Link, packets: &[Vec<u8>], udp: bool) -> Vec<(VirtioHeader, Vec<u8>)> {
    let mut buffer = Vec::new();
    let mut places = Vec::new();
    for packet in packets {
        buffer.extend([0xaa; 33]);
        places.push(Piece { start: buffer.len(), len: packet.len() });
        buffer.extend(packet);
    }
    let mut coalescer = Coalescer::new(link, udp);
    let mut written = Written::default();
    for place in places {
        coalescer.push(&mut buffer, place, &mut written);
    }
    coalescer.flush(&mut buffer, &mut written);
    written.0
}

proptest! {
    #[test]
    fn what_was_cut_is_put_together(
        kind in kinds(), len in 2usize..20_000, size in 300usize..1460, push in any::<bool>(),
    ) {
        let payload: Vec<u8> = (0..len).map(|i| (i * i / 7) as u8).collect();
        let (header, packet) = large(kind, &payload, size, if push { 0x18 } else { 0x10 });
        let cut = segments(kind, &header, &packet);
        prop_assert_eq!(cut.len(), len.div_ceil(size));
        let written = put_together(kind.link, &cut, true);
        if len > size {
            // One packet again, but for UDP of more than the kernel takes.
            let most = if kind.tcp { 128 } else { 64 };
            if cut.len() <= most {
                prop_assert_eq!(written.len(), 1);
                prop_assert_eq!(&written[0].0, &header);
                prop_assert_eq!(&written[0].1, &packet);
            }
        } else {
            prop_assert_eq!(&written[0].1, &cut[0]);
        }
        let bytes: usize = written.iter().map(|(header, packet)| packet.len() - usize::from(header.hdr_len)).sum();
        prop_assert!(bytes >= len);
    }

    #[test]
    fn damaged_packets_go_alone_and_order_is_kept(
        kind in kinds(), count in 2usize..20, victim in any::<prop::sample::Index>(), bit in 0usize..800,
    ) {
        let payload: Vec<u8> = (0..count * 400).map(|i| (i / 5) as u8).collect();
        let (header, packet) = large(kind, &payload, 400, 0x10);
        let mut cut = segments(kind, &header, &packet);
        let victim = victim.index(cut.len());
        let at = usize::from(header.csum_start) * 8 + 64 + bit;
        // Without a sound header length a packet is of no stream.
        prop_assume!(!kind.tcp || at / 8 != usize::from(header.csum_start) + 12);
        cut[victim][at / 8] ^= 1 << (at % 8);
        let damaged = cut[victim].clone();
        let written = put_together(kind.link, &cut, true);
        prop_assert!(written.iter().any(|(header, packet)| *header == VirtioHeader::default() && *packet == damaged));
        // Cutting up what was written gives the packets, in order.
        let mut again = Vec::new();
        for (header, packet) in &written {
            if header.gso_size == 0 {
                again.push(packet.clone());
            } else {
                again.extend(segments(kind, header, packet));
            }
        }
        prop_assert_eq!(again, cut);
    }

    #[test]
    fn any_device_packet(
        words in any::<[u16; 4]>(), flags in any::<u8>(), kind in 0u8..8, mut packet in prop::collection::vec(any::<u8>(), 0..300),
        tap in any::<bool>(), first in 4u8..7,
    ) {
        if let Some(byte) = packet.first_mut() {
            *byte = first << 4 | 5;
        }
        let header = VirtioHeader {
            flags, gso_type: kind, hdr_len: words[0], gso_size: words[1] % 100, csum_start: words[2] % 120, csum_offset: words[3] % 40,
        };
        if let Ok(Outgoing::Many(many)) = outgoing(&header, &mut packet, if tap { Link::Tap } else { Link::Tun }) {
            for index in 0..many.count() {
                many.write(index, &mut vec![0; many.len(index)]);
            }
        }
    }

    #[test]
    fn any_packets_from_peers(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20), tap in any::<bool>(), shape in any::<bool>(),
    ) {
        let link = if tap { Link::Tap } else { Link::Tun };
        let packets: Vec<Vec<u8>> = packets.into_iter().map(|mut packet| {
            if shape && packet.len() > 30 {
                packet[0] = 0x45;
                packet[9] = 6;
                packet[6] = 0;
                packet[7] = 0;
            }
            packet
        }).collect();
        prop_assert!(put_together(link, &packets, true).len() <= packets.len());
    }
}

#[test]
fn flags_and_numbers_of_segments() {
    let kind = Kind { link: Link::Tun, ipv6: false, tcp: true };
    let (header, packet) = large(kind, &[1; 1000], 400, 0x99);
    let cut = segments(kind, &header, &packet);
    let flags: Vec<u8> = cut.iter().map(|segment| segment[33]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x19], "CWR on the first alone, FIN and PSH on the last");
    let ids: Vec<u16> = cut.iter().map(|segment| word(segment, 4)).collect();
    assert_eq!(ids, [0xfffe, 0xffff, 0]);
    let sequences: Vec<u32> = cut.iter().map(|s| u32::from_be_bytes([s[24], s[25], s[26], s[27]])).collect();
    assert_eq!(sequences, [0xffff_ff00, 0x90, 0x220]);
}

#[test]
fn an_open_checksum_is_finished() {
    let kind = Kind { link: Link::Tun, ipv6: false, tcp: true };
    let (mut header, mut packet) = large(kind, &[5; 33], 400, 0x18);
    header.gso_type = GSO_NONE;
    header.gso_size = 0;
    let Ok(Outgoing::One(whole)) = outgoing(&header, &mut packet, Link::Tun) else { panic!("cut") };
    let body = &whole[20..];
    assert_eq!(fold(pseudo(&whole[12..20], TCP, body.len()) + sum(body)), 0xffff);
}

#[test]
fn streams_do_not_mix() {
    let kind = Kind { link: Link::Tun, ipv6: false, tcp: true };
    let (header, packet) = large(kind, &[1; 1200], 400, 0x10);
    let one = segments(kind, &header, &packet);
    let mut other_packet = packet.clone();
    other_packet[21] = 0x35;
    // The open checksum covers no port, so it stays right.
    let other = segments(kind, &header, &other_packet);
    let mixed: Vec<Vec<u8>> = one.into_iter().zip(other).flat_map(|(a, b)| [a, b]).collect();
    let written = put_together(Link::Tun, &mixed, true);
    assert_eq!(written.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>(), [packet, other_packet]);
}
