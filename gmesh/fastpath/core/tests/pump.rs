//! Whole engines on their threads, with the system's own sockets: datagram sockets take the place of devices.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use gmesh_core::crypto::legacy::LegacyKey;
use gmesh_core::engine::events::{Command, Event};
use gmesh_core::engine::peer::{Counters, Path};
use gmesh_core::engine::table::{Lane, Mode, NodeId, Table};
use gmesh_core::engine::Shared;
use gmesh_core::flow::session::SessionState;
use gmesh_core::flow::window::WindowState;
use gmesh_core::packet::headers::Link;
use gmesh_core::pump::{Pump, Setup};

const IDS: [NodeId; 2] = [*b"alpha1", *b"beta22"];
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    pump: Pump,
    shared: Arc<Shared>,
    host: UnixDatagram,
    device: UnixDatagram,
    socket: UdpSocket,
}

fn node(me: usize, trains: bool, bind: &str) -> Node {
    let (host, device) = UnixDatagram::pair().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = UdpSocket::bind(bind).unwrap();
    let shared = Arc::new(Shared::default());
    let setup =
        Setup { me: IDS[me], link: Link::Tun, device: device.as_raw_fd(), sockets: vec![socket.as_raw_fd()], trains };
    let pump = Pump::start(&setup, shared.clone()).unwrap();
    assert!(!pump.granted.offloads.virtio, "no tun device");
    Node { pump, shared, host, device, socket }
}

fn readable(descriptor: RawFd) -> bool {
    let mut wait = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives through the call.
    unsafe { libc::poll(&mut wait, 1, PATIENCE.as_millis() as i32) == 1 }
}

impl Node {
    fn introduce(&self, me: usize, to: SocketAddr, sptps: bool) {
        let other = 1 - me;
        let commands = [
            Command::AddPeer { peer: 0, id: IDS[other], counters: Arc::new(Counters::default()) },
            Command::SetPath {
                peer: 0,
                path: Path { address: Some(to), udp: true, min_mtu: 1453, mtu: 1453, ..Path::unknown() },
            },
        ];
        commands.into_iter().for_each(|command| self.pump.command(command));
        if sptps {
            let state = SessionState {
                send: [me as u8 + 1; 32],
                next_number: 2,
                receive: [other as u8 + 1; 32],
                staged: None,
                previous: None,
                previous_for: 0,
                window: WindowState { size: 16, expected: 2, late: vec![0; 16], far_future: 0 },
            };
            self.pump.command(Command::Install { peer: 0, session: 1, state: Box::new(state) });
            self.pump.command(Command::Use { peer: 0, session: 1 });
        } else {
            let key = |node: usize| Box::new(LegacyKey::new(427, 672, 8, &[node as u8 + 1; 48]).unwrap());
            self.pump.command(Command::SetSender { peer: 0, key: Some(key(me)) });
            self.pump.command(Command::AddReceiver { peer: 0, key: key(other), replay_window: 16 });
        }
        let mut table = Table::new(Mode::Router);
        for seal in [None, Some(0)] {
            table.lanes.push(Lane { owner: 0, seal, hops: [seal, None], clamp: false });
        }
        assert!(table.add(&[10, 0, me as u8, 0], 24, Some(0)));
        assert!(table.add(&[10, 0, other as u8, 0], 24, Some(1)));
        self.pump.command(Command::SetTable(Box::new(table)));
    }

    /// The next event for which `wanted` finds something.
    fn event<T>(&self, wanted: impl Fn(Event) -> Option<T>) -> T {
        loop {
            assert!(readable(self.pump.news()), "no event came");
            self.pump.clear_news();
            while let Some(event) = self.shared.queues.next_event() {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        }
    }
}

fn packet(to: u8, len: usize, mark: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 77, 1, 10, 0, to, 1];
    ip.resize(len, mark);
    ip
}

fn pair(trains: bool, bind: &str, sptps: bool) -> [Node; 2] {
    let nodes = [node(0, trains, bind), node(1, trains, bind)];
    for me in 0..2 {
        nodes[me].introduce(me, nodes[1 - me].socket.local_addr().unwrap(), sptps);
    }
    nodes
}

#[test]
fn packets_cross_in_both_directions() {
    for (trains, bind, sptps) in [
        (true, "127.0.0.1:0", true),
        (false, "127.0.0.1:0", true),
        (true, "[::1]:0", true),
        (true, "127.0.0.1:0", false),
    ] {
        let nodes = pair(trains, bind, sptps);
        let mut buffer = [0; 2048];
        for round in 0..50u8 {
            for (from, to) in [(0, 1), (1, 0)] {
                // Several of one size, which may become a train, and a shorter one.
                let sizes = [1000, 1000, 1000, 300];
                for size in sizes {
                    nodes[from].host.send(&packet(to as u8, size, round)).unwrap();
                }
                for size in sizes {
                    let len = nodes[to].host.recv(&mut buffer).expect("a packet got lost");
                    assert_eq!(&buffer[..len], packet(to as u8, size, round));
                }
            }
        }
    }
}

#[test]
fn what_is_not_known_is_handed_up_and_can_be_handed_back() {
    let nodes = pair(true, "127.0.0.1:0", true);
    let stranger = packet(9, 100, 3);
    nodes[0].host.send(&stranger).unwrap();
    let frame = nodes[0].event(|event| if let Event::Frame { frame } = event { Some(frame) } else { None });
    assert_eq!(&frame[14..], &stranger[..]);
    nodes[0].pump.command(Command::Send { owner: 0, seal: 0, hop: 0, to: None, ttl: 0, kind: None, frame });
    let frame = nodes[1].event(|event| match event {
        Event::FromPeer { peer: 0, frame, .. } => Some(frame),
        _ => None,
    });
    assert_eq!(&frame[14..], &stranger[..]);
    nodes[1].pump.command(Command::Write { frame });
    let mut buffer = [0; 2048];
    let len = nodes[1].host.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], &stranger[..]);
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    outside.send_to(b"who is there", nodes[1].socket.local_addr().unwrap()).unwrap();
    let (from, datagram) = nodes[1].event(|event| match event {
        Event::Datagram { from, datagram, socket: 0 } => Some((from, datagram)),
        _ => None,
    });
    assert_eq!((from, &datagram[..]), (outside.local_addr().unwrap(), &b"who is there"[..]));
}

#[test]
fn it_stops_when_told_and_says_when_the_device_is_gone() {
    let mut nodes = pair(true, "127.0.0.1:0", true);
    assert!(nodes[0].pump.is_running());
    nodes[0].device.shutdown(std::net::Shutdown::Both).unwrap();
    nodes[0].pump.stop();
    assert!(!nodes[0].pump.is_running());
    assert!(readable(nodes[0].pump.news()), "the end is news");
}
