"""How a frame gets to a node: by UDP, or as PACKET over a meta connection (data-legacy 6).

Not here: where a frame belongs, which `gmesh.route` says.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial

from gmesh.dataplane.contract import FrameForPeer, PlaneEvent
from gmesh.dataplane.endpoints import endpoint_of
from gmesh.dataplane.flows import Flow, FlowTable
from gmesh.dataplane.path_errors import PathErrors
from gmesh.dataplane.sealed_sender import SealedSender
from gmesh.dataplane.sockets import UdpSockets
from gmesh.dataplane.traffic_class import traffic_class
from gmesh.dataplane.transmitter import Transmitter
from gmesh.errors import GmeshError
from gmesh.mesh.actions import SendProbe
from gmesh.mesh.events import KeyNeeded, TooBig
from gmesh.route.snapshot import RouteNode, RouteSnapshot
from gmesh.values import OPTION_TCPONLY

# An intermediate hop may be tried after the node itself, and that hop is always its own next hop.
_MAX_DETOURS = 2


class Sender:
    """Sends frames to nodes. ``events`` takes what has to be handed up, ``tally`` counts by reason."""

    def __init__(
        self,
        *,
        name: str,
        flows: FlowTable,
        sockets: UdpSockets,
        events: list[PlaneEvent],
        tally: MutableMapping[str, int],
        clock: Callable[[], float],
        errors: PathErrors,
    ) -> None:
        self._name = name
        self._flows = flows
        self._sockets = sockets
        self._events = events
        self._tally = tally
        self._clock = clock
        self.transmitter = Transmitter(sockets, tally, errors)
        self.sealed = SealedSender(
            name=name,
            flows=flows,
            sockets=sockets,
            events=events,
            tally=tally,
            clock=clock,
            transmitter=self.transmitter,
        )
        self._nodes: Mapping[str, RouteNode] = {}
        self._options = 0
        self._inherit = False

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        self._nodes = snapshot.nodes
        self._options = snapshot.options
        self._inherit = snapshot.settings.priority_inheritance
        self.sealed.set_routes(snapshot)
        for name in self.sealed.waiting_for():
            node = snapshot.nodes.get(name)
            if node is None or not node.reachable or not node.sptps:
                self.sealed.forget(name)
            elif node.neighbour:
                self.sealed.send_waiting(self._flow(name))

    def send(self, target: str, frame: bytes, *, exact: bool = False, tcp_only: bool = False) -> None:
        """Send a frame to the reachable node ``target`` in the way its path allows; never fails aloud.

        ``exact`` addresses the node itself even where relays lie before it. ``tcp_only`` marks a frame that came by
        TCP and has to go on so.
        """
        nodes = self._nodes
        node = nodes.get(target)
        if node is None or not node.reachable:
            self._tally["drop unreachable"] += 1
            return
        target_flow = flow = self._flow(target)
        counters = flow.counters
        counters.packets_out += 1
        counters.bytes_out += len(frame)
        if node.sptps:
            self.sealed.send(node, frame, by_tcp=tcp_only)
            return
        for _ in range(_MAX_DETOURS):
            if tcp_only or (node.via == self._name and not exact):
                via = nodes.get(node.next_hop)
            elif exact:
                via = node
            else:
                via = nodes.get(node.via)
            if via is None:
                break
            if via.sptps and not tcp_only:
                # It opens what is for another, and sends it on.
                self.sealed.send(via, frame)
                return
            flow = target_flow if via.name == target else self._flow(via.name)
            flow.counters.wanted += 1
            if tcp_only or (self._options | via.options) & OPTION_TCPONLY:
                # The originals want via to be a neighbour here, which odd mixes of options do not make true.
                self._by_tcp(via.name if via.neighbour else via.next_hop, frame)
                return
            if flow.sealer is None:
                self._ask_for_key(flow)
                self._by_tcp(via.next_hop, frame)
                return
            if not flow.fits(len(frame), via, self._clock):
                if via.next_hop == via.name:
                    self._by_tcp(via.name, frame)
                    return
                hop = nodes.get(via.next_hop)
                if hop is None:
                    break
                node, exact = hop, False
                continue
            self.by_udp(flow, via, frame)
            return
        self._tally["drop no way"] += 1

    def send_probe(self, probe: SendProbe) -> None:
        """Seal and send a probe by UDP. Without a sending key, or an address for it, it is counted and dropped."""
        flow = self._flows.by_name.get(probe.node)
        node = self._nodes.get(probe.node)
        sealed = node is not None and node.sptps
        if flow is None or (flow.sessions.sending if sealed else flow.sealer) is None:
            self._tally["drop probe without key"] += 1
            return
        if sealed and flow.held is not None and self.sealed.waits(flow, partial(self.send_probe, probe)):
            return
        if probe.address is None:
            endpoint, sock = flow.endpoint, flow.socket
        else:
            endpoint = endpoint_of(probe.address)
            sock = flow.sources.get(endpoint) if endpoint is not None else None
            if endpoint == flow.endpoint:
                sock = flow.socket
            if sock is None and endpoint is not None:
                sock = self._sockets.for_endpoint(endpoint)
        if endpoint is None or sock is None:
            self._tally["drop probe without address"] += 1
            return
        datagram = self._seal_probe(flow, probe.frame, by_session=sealed)
        if datagram is None:
            return
        with_ttl = self._sockets.set_ttl(sock, probe.ttl) if probe.ttl else False
        try:
            error = self.transmitter.send(sock, endpoint, datagram)
        finally:
            if with_ttl:
                self._sockets.set_ttl(sock, -1)
        if error == 0:
            self._tally["probes out"] += 1
        elif error == errno.EMSGSIZE:
            self._events.append(TooBig(flow.name, len(probe.frame)))

    def by_udp(self, flow: Flow, via: RouteNode, frame: bytes) -> None:
        """Send a frame by UDP to a legacy node with a key; what the system refuses as too big goes by TCP."""
        endpoint, sock = flow.endpoint, flow.socket
        if endpoint is None or sock is None:
            self._tally["no UDP address"] += 1
            self._by_tcp(via.next_hop, frame)
            return
        if self._inherit:
            self._sockets.set_traffic_class(sock, traffic_class(frame))
        sealer = flow.sealer
        assert sealer is not None
        try:
            datagram = sealer.seal(frame)
        except GmeshError:
            self._sealer_is_worn(flow)
            self._by_tcp(via.next_hop, frame)
            return
        error = self.transmitter.send(sock, endpoint, datagram)
        if error == 0:
            flow.counters.udp_out += 1
        elif error == errno.EMSGSIZE:
            # Known to be lost, so it can still go the other way.
            if flow.refuse(len(frame), self._clock()):
                self._events.append(TooBig(flow.name, len(frame)))
            self._by_tcp(via.next_hop, frame)

    def _seal_probe(self, flow: Flow, probe: bytes, *, by_session: bool) -> bytes | None:
        """The datagram of a probe, None where keys are worn."""
        if by_session:
            return self.sealed.seal_probe(flow, probe)
        assert flow.sealer is not None
        try:
            return flow.sealer.seal(probe)
        except GmeshError:
            self._sealer_is_worn(flow)
            return None

    def _sealer_is_worn(self, flow: Flow) -> None:
        """Its sequence numbers are used up: as good as no key."""
        flow.sealer = None
        self._ask_for_key(flow)

    def _by_tcp(self, neighbour: str, frame: bytes) -> None:
        self._tally["TCP packets out"] += 1
        self._events.append(FrameForPeer(neighbour, frame))

    def _ask_for_key(self, flow: Flow) -> None:
        if flow.wants_key(self._clock()):
            self._events.append(KeyNeeded(flow.name))

    def _flow(self, name: str) -> Flow:
        """The flow of a node of the snapshot; its number is bounded by the snapshot's."""
        flow = self._flows.by_name.get(name)
        return self._flows.get_or_add(name) if flow is None else flow
