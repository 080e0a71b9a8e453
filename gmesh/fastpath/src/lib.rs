//! `gmesh._fastpath`: the packet engine as Python sees it.
//!
//! No call waits for the engine but `stop`: commands are queued, events are taken. Not here: any decision.

mod convert;
mod events;

use std::collections::VecDeque;
use std::os::fd::IntoRawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gmesh_core::crypto::fastest;
use gmesh_core::crypto::legacy::LegacyKey;
use gmesh_core::engine::events::Command;
use gmesh_core::engine::peer::{Counters, Path};
use gmesh_core::engine::table::{Lane, Mode, PeerId, Table};
use gmesh_core::engine::Shared;
use gmesh_core::flow::session::{SessionState, Step};
use gmesh_core::flow::window::WindowState;
use gmesh_core::pump::{Pump, Setup};
use gmesh_core::sys::tun;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use convert::{fixed, link, nanoseconds, offloads, seconds, Endpoint};

/// Numbers of removed peers that are not used again yet, as events about them may still wait.
const KEPT_FREE: usize = 4096;

/// What the binding itself remembers.
#[derive(Default)]
struct State {
    pump: Option<Pump>,
    peers: Vec<Option<Arc<Counters>>>,
    free: VecDeque<PeerId>,
}

/// Packets between a tun or tap device and UDP sockets, on a thread of its own.
#[pyclass(frozen, module = "gmesh._fastpath")]
struct Engine {
    me: [u8; 6],
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// A lane as Python gives it: owner, peer to seal for (None: the own device), peers whose paths may carry it, clamp.
type PyLane = (PeerId, Option<PeerId>, Vec<PeerId>, bool);
/// Address (4, 6 or 16 bytes), prefix length, lane (None: hand up).
type PyPrefix<'py> = (Bound<'py, PyBytes>, u32, Option<u32>);

impl Engine {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half changed by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, command: Command) {
        match &self.state().pump {
            Some(pump) => pump.command(command),
            None => self.shared.queues.command(command),
        }
    }
}

#[pymethods]
impl Engine {
    /// `node_id` is the own node's id, 6 bytes.
    #[new]
    fn new(node_id: &[u8]) -> PyResult<Self> {
        Ok(Self { me: fixed(node_id, "node_id")?, shared: Arc::default(), state: Mutex::default() })
    }

    /// Begin to read. The descriptors stay the caller's, who closes them after `stop`; from now on the engine alone
    /// reads them. Raises OSError.
    #[pyo3(signature = (device, sockets, *, tap=false, trains=true))]
    fn start(&self, device: i32, sockets: Vec<i32>, tap: bool, trains: bool) -> PyResult<()> {
        let mut state = self.state();
        if state.pump.is_some() {
            return Err(PyRuntimeError::new_err("the engine was started before"));
        }
        let setup = Setup { me: self.me, link: link(tap), device, sockets, trains };
        let pump = Pump::start(&setup, self.shared.clone())?;
        pump.wake();
        state.pump = Some(pump);
        Ok(())
    }

    /// End the thread, when it has done what it was told before.
    fn stop(&self, py: Python<'_>) {
        let pump = self.state().pump.take();
        py.detach(|| drop(pump));
    }

    /// Whether the thread is at work.
    #[getter]
    fn running(&self) -> bool {
        self.state().pump.as_ref().is_some_and(Pump::is_running)
    }

    /// A descriptor that is readable while there are events; -1 before `start`.
    fn fileno(&self) -> i32 {
        self.state().pump.as_ref().map_or(-1, Pump::news)
    }

    /// What the kernel grants: booleans by name.
    fn granted<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.state();
        let pump = state.pump.as_ref().ok_or_else(|| PyRuntimeError::new_err("the engine is not started"))?;
        let dict = offloads(py, &pump.granted.offloads)?;
        dict.set_item("sends_trains", pump.granted.sends_trains)?;
        dict.set_item("receives_trains", pump.granted.receives_trains)?;
        Ok(dict)
    }

    /// The events that wait, at most so many: tuples that begin with a name, see `events.rs`. Where as many come as
    /// were asked for there may be more.
    #[pyo3(signature = (limit=256))]
    fn take<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        if let Some(pump) = &self.state().pump {
            pump.clear_news();
        }
        let list = PyList::empty(py);
        while list.len() < limit {
            let Some(event) = self.shared.queues.next_event() else { return Ok(list) };
            list.append(events::tuple(py, event)?)?;
        }
        if self.shared.queues.has_events() {
            if let Some(pump) = &self.state().pump {
                pump.announce();
            }
        }
        Ok(list)
    }

    /// The number of a new peer. `node_id` may be that of no other peer.
    fn add_peer(&self, node_id: &[u8]) -> PyResult<PeerId> {
        let id = fixed(node_id, "node_id")?;
        let counters = Arc::new(Counters::default());
        let peer = {
            let mut state = self.state();
            let reused = if state.free.len() > KEPT_FREE { state.free.pop_front() } else { None };
            match reused {
                Some(peer) => {
                    state.peers[peer as usize] = Some(counters.clone());
                    peer
                }
                None => {
                    state.peers.push(Some(counters.clone()));
                    state.peers.len() as PeerId - 1
                }
            }
        };
        self.command(Command::AddPeer { peer, id, counters });
        Ok(peer)
    }

    fn remove_peer(&self, peer: PeerId) {
        let known = {
            let mut state = self.state();
            let known = state.peers.get_mut(peer as usize).and_then(Option::take).is_some();
            if known {
                state.free.push_back(peer);
            }
            known
        };
        if known {
            self.command(Command::RemovePeer { peer });
        }
    }

    /// Keys, sessions, path and replay state are void; counters go on.
    fn forget_peer(&self, peer: PeerId) {
        self.command(Command::Forget { peer });
    }

    // Legacy keys

    /// Seal with this key from now on. False, and nothing done, for algorithms that the engine does not have.
    fn set_send_key(&self, peer: PeerId, cipher: u32, digest: u32, mac_length: usize, material: &[u8]) -> bool {
        let Some(key) = LegacyKey::new(cipher, digest, mac_length, material) else { return false };
        self.command(Command::SetSender { peer, key: Some(Box::new(key)) });
        true
    }

    fn clear_send_key(&self, peer: PeerId) {
        self.command(Command::SetSender { peer, key: None });
    }

    /// Open with this key; the ones before are accepted a little longer. False as for `set_send_key`.
    fn add_receive_key(
        &self,
        peer: PeerId,
        cipher: u32,
        digest: u32,
        mac_length: usize,
        material: &[u8],
        replay_window: u32,
    ) -> bool {
        let Some(key) = LegacyKey::new(cipher, digest, mac_length, material) else { return false };
        self.command(Command::AddReceiver { peer, key: Box::new(key), replay_window });
        true
    }

    // Sessions

    /// Take over a session. Keys have 32 bytes. `late` is the window's number, little-endian, `window` bytes of it.
    #[pyo3(signature = (
        peer, session, *, send, next_number, receive, staged=None, previous=None, previous_seconds=0.0,
        window, expected, late, far_future=0,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn install_session(
        &self,
        peer: PeerId,
        session: u64,
        send: &[u8],
        next_number: u64,
        receive: &[u8],
        staged: Option<&[u8]>,
        previous: Option<&[u8]>,
        previous_seconds: f64,
        window: u32,
        expected: u64,
        late: &[u8],
        far_future: u32,
    ) -> PyResult<()> {
        let state = SessionState {
            send: fixed(send, "send")?,
            next_number,
            receive: fixed(receive, "receive")?,
            staged: staged.map(|key| fixed(key, "staged")).transpose()?,
            previous: previous.map(|key| fixed(key, "previous")).transpose()?,
            previous_for: nanoseconds(previous_seconds),
            window: WindowState { size: window, expected, late: late.to_vec(), far_future },
        };
        self.command(Command::Install { peer, session, state: Box::new(state) });
        Ok(())
    }

    /// Seal in this session from now on.
    fn use_session(&self, peer: PeerId, session: u64) {
        self.command(Command::Use { peer, session });
    }

    fn drop_session(&self, peer: PeerId, session: u64) {
        self.command(Command::Drop { peer, session });
    }

    /// What a renewal asks for: `what` is send (`data` is the payload of a handshake record, and comes back sealed),
    /// use_send_key, stage_receive_key (`data` is the key), or confirm_receive_key.
    #[pyo3(signature = (peer, session, what, data=None))]
    fn step(&self, peer: PeerId, session: u64, what: &str, data: Option<&[u8]>) -> PyResult<()> {
        let data = data.unwrap_or_default();
        let step = match what {
            "send" => Step::Send(data.to_vec()),
            "use_send_key" => Step::UseSendKey(fixed(data, "data")?),
            "stage_receive_key" => Step::StageReceiveKey(fixed(data, "data")?),
            "confirm_receive_key" => Step::ConfirmReceiveKey,
            _ => return Err(PyValueError::new_err(format!("there is no step {what:?}"))),
        };
        self.command(Command::Step { peer, session, step });
        Ok(())
    }

    /// Tell the session's state, as a `session_state` event.
    fn export_session(&self, peer: PeerId, session: u64) {
        self.command(Command::Export { peer, session });
    }

    // Where things go

    /// How UDP reaches a peer. `endpoint` is as sockets have it, `socket` an index into those of `start`.
    #[pyo3(signature = (peer, endpoint, *, socket=0, udp, min_mtu, mtu, ids=true))]
    #[allow(clippy::too_many_arguments)]
    fn set_path(
        &self,
        peer: PeerId,
        endpoint: Option<Endpoint>,
        socket: usize,
        udp: bool,
        min_mtu: usize,
        mtu: usize,
        ids: bool,
    ) {
        let address = endpoint.map(|endpoint| endpoint.0);
        let path = Path { address, socket, udp, min_mtu, mtu, ids };
        self.command(Command::SetPath { peer, path });
    }

    /// Datagrams of the peer come from there, too.
    fn heard(&self, peer: PeerId, endpoint: Endpoint, socket: usize) {
        self.command(Command::Heard { peer, from: endpoint.0, socket });
    }

    /// Decide by this from now on. `mode` is router, switch or other. `lanes` are (owner, seal or None for the own
    /// device, hops, clamp); `prefixes` are (address, prefix length, index of the lane or None), each range once;
    /// `relays` are (node id, hops).
    #[pyo3(signature = (mode, lanes, prefixes, relays, *, kernel_forwards=false, inherit=false))]
    fn set_table(
        &self,
        mode: &str,
        lanes: Vec<PyLane>,
        prefixes: Vec<PyPrefix<'_>>,
        relays: Vec<(Bound<'_, PyBytes>, Vec<PeerId>)>,
        kernel_forwards: bool,
        inherit: bool,
    ) -> PyResult<()> {
        let mode = match mode {
            "router" => Mode::Router,
            "switch" => Mode::Switch,
            "other" => Mode::Other,
            _ => return Err(PyValueError::new_err(format!("there is no mode {mode:?}"))),
        };
        let mut table = Box::new(Table::new(mode));
        table.kernel_forwards = kernel_forwards;
        table.inherit = inherit;
        for (owner, seal, hops, clamp) in lanes {
            let hops = [hops.first().copied(), hops.get(1).copied()];
            table.lanes.push(Lane { owner, seal, hops, clamp });
        }
        for (address, prefix, lane) in prefixes {
            if !table.add(address.as_bytes(), prefix, lane) {
                return Err(PyValueError::new_err("a prefix or its lane is impossible"));
            }
        }
        for (id, hops) in relays {
            table.relays.insert(fixed(id.as_bytes(), "node id")?, hops);
        }
        self.command(Command::SetTable(table));
        Ok(())
    }

    // Packets

    /// Open a handshake record that came by ANS_KEY.
    fn open_handshake(&self, peer: PeerId, datagram: &[u8]) {
        self.command(Command::OpenHandshake { peer, datagram: datagram.to_vec() });
    }

    /// Open a record, without node ids, that came by TCP.
    fn open_from_tcp(&self, peer: PeerId, datagram: &[u8]) {
        self.command(Command::OpenFromTcp { peer, datagram: datagram.to_vec() });
    }

    /// Seal a record that will go by TCP; it comes back with the token as a `sealed` event.
    fn seal_for_tcp(&self, peer: PeerId, token: u64, kind: u8, data: &[u8]) {
        self.command(Command::SealForTcp { peer, token, kind, data: data.to_vec() });
    }

    /// Look at a datagram again that was handed up.
    fn datagram(&self, endpoint: Endpoint, socket: usize, datagram: &[u8]) {
        self.command(Command::Datagram { from: endpoint.0, socket, datagram: datagram.to_vec() });
    }

    /// Seal a frame in the flow of `seal` and send it by UDP to `hop`, or to `endpoint`. `kind` is the type of the
    /// record that bears `frame` as it is; without it the type is chosen by the frame, and a tun frame loses its link
    /// header. Counts nothing for `owner` but gives it back with a frame that the kernel refuses.
    #[pyo3(signature = (owner, seal, hop, frame, *, endpoint=None, socket=0, ttl=0, kind=None))]
    #[allow(clippy::too_many_arguments)]
    fn send(
        &self,
        owner: PeerId,
        seal: PeerId,
        hop: PeerId,
        frame: &[u8],
        endpoint: Option<Endpoint>,
        socket: usize,
        ttl: u8,
        kind: Option<u8>,
    ) {
        let to = endpoint.map(|endpoint| (endpoint.0, socket));
        self.command(Command::Send { owner, seal, hop, to, ttl, kind, frame: frame.to_vec() });
    }

    /// Send a datagram between others, node ids and all, on to `hop` by UDP.
    fn forward(&self, hop: PeerId, datagram: &[u8]) {
        self.command(Command::Forward { hop, datagram: datagram.to_vec() });
    }

    /// Write a frame to the own device.
    fn write(&self, frame: &[u8]) {
        self.command(Command::Write { frame: frame.to_vec() });
    }

    // What can be read meanwhile

    /// Packets and bytes in, packets and bytes out, wanted, UDP packets out, last authentic, last opened (seconds
    /// of the monotonic clock); None for a peer that is not there.
    fn counters<'py>(&self, py: Python<'py>, peer: PeerId) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(counters) = self.state().peers.get(peer as usize).cloned().flatten() else { return Ok(None) };
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let values = (
            read(&counters.packets_in),
            read(&counters.bytes_in),
            read(&counters.packets_out),
            read(&counters.bytes_out),
            read(&counters.wanted),
            read(&counters.udp_out),
            seconds(read(&counters.last_authentic)),
            seconds(read(&counters.last_opened)),
        );
        values.into_pyobject(py).map(Some)
    }

    /// Counters of the whole engine by name.
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.shared.totals.all() {
            dict.set_item(name, value)?;
        }
        let queues = &self.shared.queues;
        dict.set_item("drop packets handed up", queues.dropped_packets.load(Ordering::Relaxed))?;
        dict.set_item("drop events", queues.dropped_events.load(Ordering::Relaxed))?;
        dict.set_item("drop packets handed down", queues.dropped_injected.load(Ordering::Relaxed))?;
        Ok(dict)
    }

    /// When each MAC address behind the own device was last seen, in seconds of the monotonic clock.
    fn mac_ages<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let macs = self.shared.macs.lock().unwrap_or_else(PoisonError::into_inner);
        for (mac, seen) in macs.iter() {
            dict.set_item(PyBytes::new(py, mac), seconds(seen.load(Ordering::Relaxed)))?;
        }
        Ok(dict)
    }

    /// The next frame that bears this address is news again.
    fn forget_mac(&self, mac: &[u8]) -> PyResult<()> {
        self.command(Command::ForgetMac { mac: fixed(mac, "mac")? });
        Ok(())
    }
}

/// Open a tun or tap interface, non-blocking: descriptor, name, and what it can do, booleans by name. Raises OSError.
#[pyfunction]
#[pyo3(signature = (path, name, *, tap=false, offload=true, multi_queue=false))]
fn open_device<'py>(
    py: Python<'py>,
    path: &str,
    name: &str,
    tap: bool,
    offload: bool,
    multi_queue: bool,
) -> PyResult<(i32, String, Bound<'py, PyDict>)> {
    let opened = tun::open(path, name, link(tap), offload, multi_queue)?;
    let granted = offloads(py, &opened.offloads)?;
    Ok((opened.descriptor.into_raw_fd(), opened.name, granted))
}

/// Whether legacy packets with these algorithms can be sealed and opened here.
#[pyfunction]
fn has_legacy(cipher: u32, digest: u32) -> bool {
    let sizes = [(0, 1), (91, 24), (419, 32), (423, 40), (427, 48)];
    sizes
        .iter()
        .find(|(known, _)| *known == cipher)
        .is_some_and(|(_, size)| LegacyKey::new(cipher, digest, 1, &vec![1; *size]).is_some())
}

/// The name of the record cipher that this machine uses: portable, avx2 or avx512.
#[pyfunction]
fn record_cipher() -> &'static str {
    fastest().name()
}

/// The packet engine of gmesh.
#[pymodule]
fn _fastpath(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(open_device, module)?)?;
    module.add_function(wrap_pyfunction!(has_legacy, module)?)?;
    module.add_function(wrap_pyfunction!(record_cipher, module)?)
}
