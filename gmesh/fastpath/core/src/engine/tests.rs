//! Packets from device to device, and whatever can come between.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::events::{Command, Event};
use super::peer::Path;
use super::testing::*;
use super::*;
use crate::crypto::legacy::LegacyKey;
use crate::flow::session::Step;
use crate::packet::checksum::{field, fold, pseudo, sum};
use crate::packet::headers::{Link, TCP};

#[test]
fn packets_arrive_in_both_protocols() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        net.read(0, vec![packet(0, 1, 100), packet(0, 2, 1439), packet(0, 1, 40)]);
        net.deliver();
        let at = |net: &mut Net, node| net.written(node).into_iter().map(|(_, packet)| packet).collect::<Vec<_>>();
        assert_eq!(at(&mut net, 1), [bare(0, 1, 100), bare(0, 1, 40)]);
        assert_eq!(at(&mut net, 2), [bare(0, 2, 1439)]);
        assert!(!net.events(0).iter().any(Event::is_packet));
        assert_eq!(net.counter(0, 1, |c| &c.packets_out), 2);
        assert_eq!(net.counter(0, 1, |c| &c.bytes_out), 168);
        assert_eq!(net.counter(0, 1, |c| &c.udp_out), 2);
        assert_eq!(net.counter(1, 0, |c| &c.packets_in), 2);
        assert_eq!(net.counter(1, 0, |c| &c.bytes_in), 168);
        assert_eq!(net.counter(1, 0, |c| &c.last_authentic), 1_000_000_000);
    }
}

#[test]
fn a_large_packet_is_a_train_and_then_a_large_packet() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        let sent = large(1, 50_000, 1399);
        net.read(0, vec![sent.clone()]);
        assert_eq!(net.engines[0].io.trains, [36], "one train");
        net.deliver();
        let written = net.written(1);
        assert_eq!(written.len(), 1);
        let (header, packet) = &written[0];
        let mut whole = header.bytes().to_vec();
        whole.extend(packet);
        assert_eq!(whole, sent);
        assert_eq!(net.total(1, "device packets out"), 36);
        assert_eq!(net.total(0, "device bytes in"), net.total(1, "device bytes out"));
    }
}

#[test]
fn a_bare_device_gets_single_packets() {
    let mut net = Net::new(true);
    net.engines[1].io.bare = true;
    net.read(0, vec![large(1, 5000, 1000)]);
    net.deliver();
    let written = net.written(1);
    assert_eq!(written.len(), 5);
    assert!(written.iter().all(|(_, packet)| packet.len() == 1040));
}

#[test]
fn refused_trains_go_singly_from_then_on() {
    for error in [libc::EIO, libc::EINVAL, libc::ENOPROTOOPT] {
        let mut net = Net::new(true);
        net.engines[0].io.no_trains = Some(error);
        net.read(0, vec![large(1, 5000, 1000)]);
        assert_eq!(net.engines[0].io.trains, [1; 5]);
        assert_eq!(net.total(0, "engine trains refused"), 1);
        net.read(0, vec![large(1, 3000, 1000)]);
        net.deliver();
        assert_eq!(net.total(0, "engine trains refused"), 1, "it is not tried again");
        assert_eq!(net.written(1).iter().map(|(_, packet)| packet.len()).collect::<Vec<_>>(), [5040, 3040]);
        // A new address is another route.
        net.engines[0].io.no_trains = None;
        let elsewhere = Path { address: Some(address(2)), ..path(1) };
        net.command(0, Command::SetPath { peer: 1, path: elsewhere });
        net.engines[0].io.trains.clear();
        net.read(0, vec![large(1, 3000, 1000)]);
        assert_eq!(net.engines[0].io.trains, [3]);
    }
}

#[test]
fn what_is_too_big_comes_back_as_it_was() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        net.engines[0].io.longest = Some(1000);
        net.read(0, vec![packet(0, 1, 1200), packet(0, 1, 200)]);
        let events = net.events(0);
        let frames: Vec<&Vec<u8>> = events
            .iter()
            .filter_map(|event| match event {
                Event::Refused { owner: 1, hop: 1, frame } => Some(frame),
                _ => None,
            })
            .collect();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0][12..14], [8, 0]);
        assert_eq!(frames[0][14..], bare(0, 1, 1200));
        net.deliver();
        assert_eq!(net.written(1).len(), 1);
        // The next one of that size is not even tried.
        net.read(0, vec![packet(0, 1, 1200)]);
        assert!(matches!(&net.events(0)[..], [Event::Frame { frame }] if frame[14..] == bare(0, 1, 1200)));
        assert_eq!(net.counter(0, 1, |c| &c.udp_out), 1);
    }
}

#[test]
fn a_train_that_is_invalid_for_its_size_is_not_held_against_trains() {
    let mut net = Net::new(true);
    net.engines[0].io.no_trains = Some(libc::EINVAL);
    net.engines[0].io.longest = Some(1000);
    net.read(0, vec![large(1, 5000, 1300)]);
    assert_eq!(net.events(0).iter().filter(|e| matches!(e, Event::Refused { .. })).count(), 4);
    assert_eq!(net.total(0, "engine trains refused"), 0);
    net.engines[0].io.no_trains = None;
    net.engines[0].io.trains.clear();
    net.read(0, vec![large(1, 3000, 500)]);
    assert_eq!(net.engines[0].io.trains, [6]);
}

#[test]
fn an_error_of_something_earlier_costs_nothing() {
    let mut net = Net::new(true);
    for error in [libc::ECONNREFUSED, libc::EMSGSIZE, libc::EAGAIN, libc::EHOSTUNREACH] {
        net.engines[0].io.refuse.push_back(error);
        net.engines[0].io.path_errors.push_back(Some((address(1), 1400)));
        net.read(0, vec![packet(0, 1, 100)]);
        net.deliver();
        assert_eq!(net.written(1).len(), 1, "{error}");
    }
    assert!(net.events(0).iter().any(|e| matches!(e, Event::PathTooNarrow { datagram: 1400, .. })));
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut net = Net::new(true);
    net.engines[0].io.refuse.extend([libc::EAGAIN, libc::EAGAIN]);
    net.read(0, vec![packet(0, 1, 100)]);
    assert_eq!(net.total(0, "drop UDP queue full"), 1);
    assert_eq!(net.counter(0, 1, |c| &c.udp_out), 0);
}

#[test]
fn what_has_no_lane_is_handed_up() {
    let mut net = Net::new(true);
    let mut group = bare(0, 1, 100);
    group[16] = 224;
    let mut stranger = bare(0, 1, 100);
    stranger[16] = 11;
    let mine = bare(0, 0, 100);
    let long = bare(0, 1, 1445);
    for ip in [group, stranger, mine, long] {
        let mut bytes = VirtioHeader::default().bytes().to_vec();
        bytes.extend(&ip);
        net.read(0, vec![bytes]);
        let events = net.events(0);
        assert!(matches!(&events[..], [Event::Frame { frame }] if frame[14..] == ip));
    }
    assert!(net.engines[0].io.sent.is_empty());
}

#[test]
fn frames_for_others_are_handed_up_with_their_sender() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        // Node 0 thinks that 10.0.2 is behind node 1.
        net.command(0, Command::SetTable(table(0, |_| [Some(1), None])));
        if !sptps {
            // Legacy packets are sealed for the hop.
            let mut hop_by_hop = table(0, |_| [Some(1), None]);
            hop_by_hop.lanes[2].seal = Some(1);
            net.command(0, Command::SetTable(hop_by_hop));
        }
        net.read(0, vec![packet(0, 2, 100)]);
        net.deliver();
        if sptps {
            // Node 1 does not even open it.
            assert_eq!(net.written(2).len(), 1);
            assert_eq!(net.total(1, "relayed"), 1);
            assert!(net.events(2).iter().any(|e| matches!(e, Event::Relayed { peer: 0, by_tcp: false })));
        } else {
            let events = net.events(1);
            assert!(events
                .iter()
                .any(|e| matches!(e, Event::FromPeer { peer: 0, frame, .. } if frame[14..] == bare(0, 2, 100))));
        }
    }
}

#[test]
fn a_train_is_relayed_as_a_train() {
    let mut net = Net::new(true);
    net.command(0, Command::SetTable(table(0, |_| [Some(1), None])));
    net.read(0, vec![large(2, 40_000, 1399)]);
    net.deliver();
    assert_eq!(net.engines[1].io.trains, [29]);
    assert_eq!(net.written(2).len(), 1);
    assert_eq!(net.total(1, "relayed"), 29);
    // From an unconfirmed address nothing is relayed.
    net.command(1, Command::SetPath { peer: 0, path: Path { udp: false, ..path(0) } });
    net.read(0, vec![packet(0, 2, 100)]);
    net.deliver();
    assert_eq!(net.total(1, "drop relayed from stranger"), 1);
    assert!(net.written(2).is_empty());
}

#[test]
fn what_the_kernel_does_not_relay_goes_by_tcp() {
    let mut net = Net::new(true);
    net.command(0, Command::SetTable(table(0, |_| [Some(1), None])));
    net.engines[1].io.longest = Some(900);
    net.read(0, vec![packet(0, 2, 1000), packet(0, 2, 500)]);
    let sealed = net.engines[0].io.sent[0].1.clone();
    net.deliver();
    let events = net.events(1);
    assert!(events.iter().any(|e| matches!(e, Event::TooBig { peer: 2, size: 1000 })));
    assert!(events.iter().any(|e| matches!(e, Event::Relay { sender: 0, datagram } if *datagram == sealed)));
    assert_eq!(net.written(2).len(), 1);
}

#[test]
fn what_does_not_fit_is_relayed_by_tcp() {
    let mut net = Net::new(true);
    net.command(0, Command::SetTable(table(0, |_| [Some(1), None])));
    net.command(1, Command::SetPath { peer: 2, path: Path { min_mtu: 500, ..path(2) } });
    net.read(0, vec![packet(0, 2, 501), packet(0, 2, 500)]);
    net.deliver();
    let events = net.events(1);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Relay { sender: 0, .. })).count(), 1);
    assert_eq!(net.written(2).len(), 1);
}

#[test]
fn replays_and_garbage_are_counted() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        net.read(0, vec![packet(0, 1, 100)]);
        let (_, datagram) = net.engines[0].io.sent[0].clone();
        net.deliver();
        assert_eq!(net.written(1).len(), 1);
        let mut damaged = datagram.clone();
        damaged[30] ^= 1;
        for bytes in [datagram, damaged] {
            net.engines[1].io.arriving.push_back((address(0), bytes));
            net.engines[1].socket_readable(0);
        }
        assert!(net.written(1).is_empty());
        assert_eq!(net.total(1, "drop replayed or far out of order"), 1);
        let events = net.events(1);
        if sptps {
            assert_eq!(net.total(1, "drop not authentic"), 1);
            assert!(events.iter().any(|e| matches!(e, Event::Doubted { peer: 0 })));
            let unopened = events.iter().filter(|e| matches!(e, Event::Unopened { peer: 0, from: Some(_), .. }));
            assert_eq!(unopened.count(), 1, "its key may come");
        } else {
            assert!(events.iter().any(|e| matches!(e, Event::Datagram { .. })));
        }
    }
}

#[test]
fn a_new_address_is_told_once_and_followed_when_the_mesh_says_so() {
    let mut net = Net::new(true);
    let elsewhere = SocketAddr::from(([203, 0, 113, 9], 4000));
    for _ in 0..2 {
        net.read(0, vec![packet(0, 1, 100)]);
        let (_, datagram) = net.engines[0].io.sent.pop().unwrap();
        net.engines[1].io.arriving.push_back((elsewhere, datagram));
        net.engines[1].socket_readable(0);
    }
    assert_eq!(net.written(1).len(), 2);
    let seen: Vec<Event> = net.events(1).into_iter().filter(|e| matches!(e, Event::AddressSeen { .. })).collect();
    assert!(matches!(&seen[..], [Event::AddressSeen { peer: 0, from, socket: 0 }] if *from == elsewhere));
    net.command(1, Command::SetPath { peer: 0, path: Path { address: Some(elsewhere), ..path(0) } });
    net.read(1, vec![packet(1, 0, 100)]);
    assert_eq!(net.engines[1].io.sent[0].0, elsewhere);
}

#[test]
fn a_renewal_loses_nothing() {
    let mut net = Net::new(true);
    let (fresh, session) = ([99; 32], 7);
    net.read(0, vec![packet(0, 1, 100)]);
    net.command(1, Command::Step { peer: 0, session, step: Step::StageReceiveKey(fresh) });
    net.command(0, Command::Step { peer: 1, session, step: Step::Send(vec![]) });
    net.command(0, Command::Step { peer: 1, session, step: Step::UseSendKey(fresh) });
    net.read(0, vec![packet(0, 1, 101)]);
    net.deliver();
    let sealed = net.events(0).into_iter().find_map(|event| match event {
        Event::HandshakeSealed { peer: 1, session: 7, datagram } => Some(datagram),
        _ => None,
    });
    net.command(1, Command::OpenHandshake { peer: 0, datagram: sealed.unwrap() });
    assert!(net
        .events(1)
        .iter()
        .any(|e| matches!(e, Event::HandshakeOpened { peer: 0, session: 7, data } if data.is_empty())));
    net.command(1, Command::Step { peer: 0, session, step: Step::ConfirmReceiveKey });
    net.read(0, vec![packet(0, 1, 102)]);
    net.deliver();
    assert_eq!(net.written(1).iter().map(|(_, p)| p.len()).collect::<Vec<_>>(), [100, 101, 102]);
}

#[test]
fn records_by_tcp_share_the_window() {
    let mut net = Net::new(true);
    net.command(0, Command::SealForTcp { peer: 1, token: 5, kind: 0, data: bare(0, 1, 200) });
    let datagram = net.events(0).into_iter().find_map(|event| match event {
        Event::Sealed { peer: 1, token: 5, datagram } => Some(datagram),
        _ => None,
    });
    let datagram = datagram.unwrap();
    for _ in 0..2 {
        net.command(1, Command::OpenFromTcp { peer: 0, datagram: datagram.clone() });
    }
    assert_eq!(net.written(1).len(), 1);
    assert_eq!(net.total(1, "drop replayed or far out of order"), 1);
    assert!(net.events(1).iter().any(|e| matches!(e, Event::Relayed { peer: 0, by_tcp: true })));
}

#[test]
fn probes_go_with_their_ttl_and_are_told() {
    for sptps in [true, false] {
        let mut net = Net::new(sptps);
        let mut frame = vec![0; 14];
        frame.resize(600, 3);
        let send = Command::Send { owner: 1, seal: 1, hop: 1, to: None, ttl: 3, kind: None, frame: frame.clone() };
        net.command(0, send);
        assert_eq!(net.engines[0].io.ttls, [Some(3), None]);
        net.deliver();
        let events = net.events(1);
        assert!(events.iter().any(|e| matches!(e, Event::Probe { peer: 0, frame: got, .. } if *got == frame)));
        assert!(net.written(1).is_empty());
    }
}

#[test]
fn sessions_side_by_side() {
    let mut net = Net::new(true);
    let mut second = state(0, 1);
    second.send = [77; 32];
    let mut other = state(1, 0);
    other.receive = [77; 32];
    net.command(1, Command::Install { peer: 0, session: 8, state: other });
    net.command(0, Command::Install { peer: 1, session: 8, state: second });
    net.read(0, vec![packet(0, 1, 100)]);
    net.command(0, Command::Use { peer: 1, session: 8 });
    net.read(0, vec![packet(0, 1, 100)]);
    net.deliver();
    assert_eq!(net.written(1).len(), 2);
    let confirmed: Vec<u64> = net
        .events(1)
        .iter()
        .filter_map(|e| if let Event::Confirmed { session, .. } = e { Some(*session) } else { None })
        .collect();
    assert_eq!(confirmed, [7, 8]);
    net.command(1, Command::Export { peer: 0, session: 8 });
    assert!(net
        .events(1)
        .iter()
        .any(|e| matches!(e, Event::SessionState { session: 8, state, .. } if state.window.expected == 3)));
}

#[test]
fn old_legacy_keys_open_for_a_while() {
    let mut net = Net::new(false);
    net.read(0, vec![packet(0, 1, 100)]);
    let key = Box::new(LegacyKey::new(427, 672, 4, &[200; 48]).unwrap());
    net.command(1, Command::AddReceiver { peer: 0, key, replay_window: 16 });
    net.deliver();
    assert_eq!(net.written(1).len(), 1);
    net.engines[1].set_time(12_000_000_000);
    net.read(0, vec![packet(0, 1, 100)]);
    net.deliver();
    assert!(net.written(1).is_empty());
    assert!(net.events(1).iter().any(|e| matches!(e, Event::Datagram { .. })));
}

#[test]
fn an_mss_is_lowered() {
    let mut net = Net::new(true);
    let mut syn = bare(0, 1, 44);
    syn[9] = TCP;
    syn[20..44].copy_from_slice(&[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 1, 0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4]);
    let check = field(pseudo(&syn[12..20], TCP, 24) + sum(&syn[20..]));
    syn[36..38].copy_from_slice(&check);
    let mut bytes = VirtioHeader::default().bytes().to_vec();
    bytes.extend(syn);
    net.read(0, vec![bytes]);
    net.deliver();
    let (_, got) = net.written(1).remove(0);
    // 1453 - 14 - 20 - 20
    assert_eq!(got[42..44], 1399u16.to_be_bytes());
    assert_eq!(fold(pseudo(&got[12..20], TCP, 24) + sum(&got[20..])), 0xffff);
}

#[test]
fn forgotten_peers_are_strangers() {
    let mut net = Net::new(true);
    net.read(0, vec![packet(0, 1, 100)]);
    net.command(1, Command::Forget { peer: 0 });
    net.deliver();
    assert!(net.written(1).is_empty());
    assert!(net.events(1).iter().any(|e| matches!(e, Event::Datagram { .. })));
    net.command(0, Command::RemovePeer { peer: 1 });
    net.read(0, vec![packet(0, 1, 100)]);
    assert!(net.events(0).iter().any(|e| matches!(e, Event::Frame { .. })));
}

#[test]
fn a_switch_learns_and_delivers_by_mac() {
    for sptps in [true, false] {
        let mut net = Net::with(sptps, Link::Tap);
        let mut frame = mac(1).to_vec();
        frame.extend(mac(0));
        frame.extend([8, 0]);
        frame.extend(bare(0, 1, 100));
        let mut everybody = frame.clone();
        everybody[..6].fill(0xff);
        let mut tagged = frame.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        for bytes in [&frame, &everybody, &tagged] {
            let mut packet = VirtioHeader::default().bytes().to_vec();
            packet.extend(bytes);
            net.read(0, vec![packet]);
        }
        net.deliver();
        assert_eq!(net.written(1).into_iter().map(|(_, packet)| packet).collect::<Vec<_>>(), [frame, tagged]);
        let events = net.events(0);
        assert!(events.iter().any(|e| matches!(e, Event::MacSeen { mac: seen } if *seen == mac(0))));
        assert!(events.iter().any(|e| matches!(e, Event::Frame { frame } if *frame == everybody)));
        assert_eq!(net.engines[0].shared.macs.lock().unwrap().len(), 1);
        net.command(0, Command::ForgetMac { mac: mac(0) });
        assert!(net.engines[0].shared.macs.lock().unwrap().is_empty());
        // A large packet of the same stream, in a frame.
        let tun = large(1, 20_000, 1300);
        let (mut header, _) = VirtioHeader::split(&mut tun.clone()).map(|(h, p)| (h, p.len())).unwrap();
        header.csum_start += 14;
        header.hdr_len += 14;
        let mut tap = header.bytes().to_vec();
        tap.extend(mac(1));
        tap.extend(mac(0));
        tap.extend([8, 0]);
        tap.extend(&tun[10..]);
        net.read(0, vec![tap.clone()]);
        net.deliver();
        let written = net.written(1);
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].0, header);
        assert_eq!(written[0].1, tap[10..]);
    }
}

#[test]
fn fuzzers_run() {
    // Short runs over made-up bytes: that the targets themselves are right.
    let mut seed = 1u32;
    let mut bytes = Vec::new();
    for length in (0..400).step_by(7) {
        bytes.clear();
        for _ in 0..length {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((seed >> 24) as u8);
        }
        for target in [fuzz::datagram, fuzz::record, fuzz::frame, fuzz::virtio, fuzz::coalesce, fuzz::legacy] {
            target(&bytes);
        }
    }
}

proptest! {
    #[test]
    fn any_datagram(
        sptps in any::<bool>(), known in any::<bool>(), ids in prop::option::of((0usize..3, prop::option::of(0usize..3))),
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut net = Net::new(sptps);
        if let (Some((from, to)), true) = (ids, bytes.len() >= 12) {
            bytes[..6].copy_from_slice(&to.map_or([0; 6], |to| IDS[to]));
            bytes[6..12].copy_from_slice(&IDS[from]);
        }
        let from = if known { address(0) } else { SocketAddr::from(([1, 2, 3, 4], 5)) };
        net.engines[1].io.arriving.push_back((from, bytes.clone()));
        if !bytes.is_empty() {
            net.engines[1].socket_readable(0);
        }
        prop_assert!(net.written(1).is_empty());
    }

    #[test]
    fn any_authentic_record(kind in any::<u8>(), data in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut net = Net::new(true);
        net.command(0, Command::Send { owner: 1, seal: 1, hop: 1, to: None, ttl: 0, kind: Some(kind), frame: data });
        net.deliver();
    }

    #[test]
    fn any_legacy_frame(data in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut net = Net::new(false);
        net.command(0, Command::Send { owner: 1, seal: 1, hop: 1, to: None, ttl: 0, kind: None, frame: data });
        net.deliver();
    }
}
