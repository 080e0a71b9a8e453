"""What a datagram is: from whom, and which frame is in it (data-legacy 5, 7).

Nothing that a stranger sends changes anything here but counters: addresses follow only datagrams that were
authentic and new. Everything else costs a bounded number of MACs and no line in any log.

Not here: what happens to the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from gmesh.dataplane.contract import PlaneEvent
from gmesh.dataplane.endpoints import Endpoint, address_of, normal_endpoint
from gmesh.dataplane.flows import Flow, FlowTable, ReceiveKey
from gmesh.dataplane.sealed_receiver import SealedReceiver
from gmesh.dataplane.strangers import StrangerSearch
from gmesh.errors import DatagramError
from gmesh.mesh.events import AddressSeen, ProbeReceived, ReceiveKeyWorn
from gmesh.proto.packet import NotAuthentic
from gmesh.proto.probe import PROBE_TYPE
from gmesh.proto.sptps_packet import HEAD_SIZE, ID_SIZE
from gmesh.values import ETHERNET_HEADER, MTU


class Receiver:
    """Opens datagrams and hands their frames to ``deliver(frame, node, now)``."""

    def __init__(
        self,
        flows: FlowTable,
        events: list[PlaneEvent],
        tally: MutableMapping[str, int],
        deliver: Callable[[bytes, str, float], None],
        sealed: SealedReceiver | None = None,
    ) -> None:
        """``sealed`` takes what bears the ids of nodes; it is left out where all is legacy."""
        self._names: Mapping[bytes, str] = {} if sealed is None else sealed.ids.names
        self._sealed = sealed
        self._flows = flows
        self._by_source = flows.by_source
        self.strangers = StrangerSearch(flows)
        self._events = events
        self._tally = tally
        self._deliver = deliver
        self.packets = 0
        """Datagrams received, whoever sent them, and below their bytes."""
        self.bytes = 0

    def receive(self, datagram: bytes, source: Endpoint, sock: Any, now: float) -> None:
        """Take one datagram that ``sock`` received from ``source``. Never raises for what is in it."""
        self.packets += 1
        self.bytes += len(datagram)
        name = self._names.get(datagram[ID_SIZE:HEAD_SIZE])
        if name is not None and self._sealed is not None:
            self._sealed.receive(name, datagram, source, sock, now)
            return
        flow = self._by_source.get(source)
        if flow is None:
            source = normal_endpoint(source)
            flow = self._by_source.get(source)
        frame: bytes | None = None
        if flow is not None and flow.sessions.all and self._takes_bare(flow, datagram, source, sock, now):
            return
        if flow is not None and flow.receive_keys:
            key = flow.receive_keys[0]
            try:
                frame = key.opener.open(datagram)
            except NotAuthentic:
                pass
            except DatagramError as error:
                if key.identifies:
                    self._refuse(error)
                    return
        if frame is None or flow is None:
            found = self._search(datagram, source, now, flow)
            if found is None:
                return
            flow, frame = found
            if self._by_source.get(source) is not flow:
                self._flows.heard(flow, source, sock)
        if source != flow.endpoint:
            self._seen_elsewhere(flow, source)
        elif sock is not flow.socket:
            flow.socket = sock
        counters = flow.counters
        counters.last_authentic = now
        if not flow.worn and flow.receive_keys[0].opener.worn:
            flow.worn = True
            self._events.append(ReceiveKeyWorn(flow.name))
        size = len(frame)
        if not ETHERNET_HEADER <= size <= MTU:
            self._tally["drop frame length"] += 1
        elif frame[12:14] == PROBE_TYPE:
            self._tally["probes in"] += 1
            self._events.append(ProbeReceived(flow.name, frame, address_of(source)))
        else:
            counters.packets_in += 1
            counters.bytes_in += size
            self._deliver(frame, flow.name, now)

    def _takes_bare(self, flow: Flow, datagram: bytes, source: Endpoint, sock: Any, now: float) -> bool:
        return self._sealed is not None and self._sealed.receive_bare(flow, datagram, source, sock, now)

    def _search(self, datagram: bytes, source: Endpoint, now: float, flow: Flow | None) -> tuple[Flow, bytes] | None:
        """What the newest key of the node at ``source`` did not open: find the key that does."""
        key: ReceiveKey | None = None
        if flow is not None:
            older = flow.receive_keys[1:]
            key = next((key for key in older if key.until > now and key.opener.verify(datagram)), None)
        if key is None:
            found = self.strangers.find(datagram, source, now, flow)
            if found is None:
                self._tally["drop stranger" if flow is None else "drop not authentic"] += 1
                return None
            flow, key = found
        assert flow is not None
        try:
            return flow, key.opener.open(datagram)
        except DatagramError as error:
            self._refuse(error)
            return None

    def _refuse(self, error: DatagramError) -> None:
        """Count an authentic datagram that cannot be taken; details of the reason would make too many counters."""
        self._tally[f"drop {str(error).partition(':')[0]}"] += 1

    def _seen_elsewhere(self, flow: Flow, source: Endpoint) -> None:
        """Tell the mesh once where else the node is, if the datagram proves that it is."""
        if flow.reported != source and flow.receive_keys[0].identifies:
            flow.reported = source
            self._events.append(AddressSeen(flow.name, address_of(source)))
