"""The data plane of a simulated node: keys and sessions as the mesh installs them, and whether a packet would arrive.

There is no UDP in the simulation: probes go nowhere, and packets are only tried, not sent. Not here: the real one
(`gmesh.dataplane`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from gmesh.errors import DatagramError
from gmesh.mesh.actions import (
    Action,
    DropSession,
    ForgetFlow,
    ForgetSendKey,
    InstallReceiveKey,
    InstallSendKey,
    InstallSession,
    OpenHandshake,
    SessionStep,
    UseSession,
)
from gmesh.mesh.events import DataEvent, FlowCounters, HandshakeOpened, HandshakeSealed, SessionConfirmed
from gmesh.proto.packet import PacketKey
from gmesh.proto.sptps_datagram import perform_step
from gmesh.proto.sptps_flow import HANDSHAKE_RECORD, DatagramFlow

Packet = PacketKey | bytes


class SimPlane:
    """Everything is by node name."""

    def __init__(self) -> None:
        self.send_keys: dict[str, PacketKey] = {}
        self.receive_keys: dict[str, list[PacketKey]] = defaultdict(list)
        self.sessions: dict[str, dict[int, DatagramFlow]] = defaultdict(dict)
        self.used: dict[str, int] = {}
        self._confirmed: set[int] = set()
        self._counters: dict[str, FlowCounters] = {}

    # What the mesh reads

    def counters(self, node: str) -> FlowCounters | None:
        return self._counters.get(node)

    def mac_ages(self) -> Mapping[bytes, float]:
        return {}

    # What the mesh asks for

    def perform(self, action: Action, now: float) -> DataEvent | None:
        """Do what is the data plane's; returns what it has to say to that."""
        match action:
            case InstallSendKey(node, key):
                self.send_keys[node] = key
            case InstallReceiveKey(node, key):
                self.receive_keys[node] = [*self.receive_keys[node][-2:], key]
            case ForgetSendKey(node):
                self.send_keys.pop(node, None)
            case ForgetFlow(node):
                for known in (self.send_keys, self.receive_keys, self.sessions, self.used, self._counters):
                    known.pop(node, None)  # type: ignore[attr-defined]
            case InstallSession(node, session, flow):
                self.sessions[node][session] = DatagramFlow(flow)
            case UseSession(node, session):
                self.used[node] = session
            case DropSession(node, session):
                self.sessions[node].pop(session, None)
                if self.used.get(node) == session:
                    del self.used[node]
            case SessionStep(node, session, step):
                flow = self.sessions[node].get(session)
                datagram = None if flow is None else perform_step(flow, step, now)
                return None if datagram is None else HandshakeSealed(node, session, datagram)
            case OpenHandshake(node, datagram):
                return self._open_handshake(node, datagram, now)
        return None

    def _open_handshake(self, node: str, datagram: bytes, now: float) -> DataEvent | None:
        for session, flow in self.sessions[node].items():
            try:
                kind, data, number = flow.open(datagram, now)
            except DatagramError:
                continue
            if kind == HANDSHAKE_RECORD:
                flow.accept(number)
                return HandshakeOpened(node, session, data)
        return None

    # Packets

    def seal(self, node: str, now: float) -> Packet | None:
        """A packet for ``node``, None where there is no key for it."""
        counters = self._counters.setdefault(node, FlowCounters())
        counters.wanted += 1
        if node in self.used:
            return self.sessions[node][self.used[node]].seal(0, b"packet")
        return self.send_keys.get(node)

    def open(self, node: str, packet: Packet, now: float) -> tuple[bool, DataEvent | None]:
        """Whether a packet of ``node`` can be read, and what the mesh is to be told of it."""
        if isinstance(packet, PacketKey):
            return packet in self.receive_keys[node], None
        for session, flow in self.sessions[node].items():
            try:
                _, _, number = flow.open(packet, now)
            except DatagramError:
                continue
            flow.accept(number)
            self._counters.setdefault(node, FlowCounters()).last_authentic = now
            news = None if session in self._confirmed else SessionConfirmed(node, session)
            self._confirmed.add(session)
            return True, news
        return False, None
