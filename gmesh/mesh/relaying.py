"""Key lines of other nodes, on their way through us (data-legacy 3, meta-sptps 7.1, 7.2).

They go on byte for byte, but only where they parse, between nodes that are known and reachable, and in a form that
their reader expects: what has another form ends stock daemons wherever it arrives (requirements 25, 27). Not here:
lines for ourselves (`channels.py`), and data on its way over TCP, which the data plane relays.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from gmesh.crypto.nids import CIPHERS, DIGESTS, NONE
from gmesh.errors import PeerError
from gmesh.mesh import minors
from gmesh.mesh.actions import Action, DatagramByTcp, Log, SendLine
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.registry import Node, Registry
from gmesh.mesh.udp import UdpPath
from gmesh.proto.requests import AnsKey, ReqKey
from gmesh.proto.requests_11 import SessionData, handshake_datagram, sub_request

CIRCLE_SECONDS = 1.0
"""A line that comes again over another connection within this time goes round in a circle. That takes nodes that
disagree on the next hop, as they may while gossip is on its way, and then it would go round until they agree. Shorter
than the first wait of those who repeat a line unchanged (`sptps_channel.RETRIES`), whose way may have changed."""
MAX_LATELY = 1000
RELAY_BURST, RELAY_RATE = 1000, 200.0
"""So many key lines (and per second) of one connection are passed on: so much a flood of one neighbour costs others."""
MAX_BUCKETS = 1000


class Relay:
    """``path_of`` gives the UDP path of a node that has one. ``takes_data``: whether we relay data of SPTPS nodes
    ourselves; otherwise such lines go on like others, as with tinc 1.0."""

    def __init__(self, registry: Registry, path_of: Callable[[str], UdpPath | None], takes_data: bool) -> None:
        self._registry = registry
        self._path_of = path_of
        self._takes_data = takes_data
        self._lately: OrderedDict[int, tuple[int, float]] = OrderedDict()
        """Hashes of lines that were passed on: where each came from, and when."""
        self._buckets: OrderedDict[int, TokenBucket] = OrderedDict()

    def req_key(self, connection: int, request: ReqKey, line: str, now: float) -> list[Action]:
        ends = self._ends(request.source, request.target)
        if ends is None:
            return [ignored("REQ_KEY", f"{request.source} and {request.target}")]
        try:
            content = sub_request(request)
        except PeerError as error:
            return [ignored(str(error), request.source)]
        if isinstance(content, SessionData) and self._takes_data:
            return data_by_tcp(self._registry, connection, request, content)
        if not request.extra and all(_speaks_sptps(end) for end in ends):
            return [ignored("a legacy REQ_KEY between SPTPS nodes", request.source)]
        return self._pass_on(connection, ends[1], line, now, limited=not isinstance(content, SessionData))

    def ans_key(self, connection: int, request: AnsKey, line: str, now: float) -> list[Action]:
        """With the address at which we see its writer, unless a node before us has put one in."""
        ends = self._ends(request.source, request.target)
        if ends is None:
            return [ignored("ANS_KEY", f"{request.source} and {request.target}")]
        if request.is_sptps:
            if not all(_speaks_sptps(end) for end in ends):
                return [ignored("an SPTPS record from or for a legacy node", request.source)]
            try:
                handshake_datagram(request)
            except PeerError as error:
                return [ignored(str(error), request.source)]
        elif all(_speaks_sptps(end) for end in ends):
            return [ignored("a legacy key between SPTPS nodes", request.source)]
        elif ends[1].minor >= 1 and not _known_to_1_1(request):
            return [ignored("a legacy key with algorithms that tinc 1.1 does not know", request.source)]
        if ends[1].minor >= 1 and request.digest == NONE and request.mac_length > 0 and not request.is_sptps:
            # What tinc 1.0 sends with Digest = none, and 1.1 refuses for a length beyond the digest's.
            line = replace(request, mac_length=0).format()
        if request.address is None:
            line += self._reflexive_address(*ends)
        return self._pass_on(connection, ends[1], line, now)

    def _ends(self, source: str, target: str) -> tuple[Node, Node] | None:
        nodes = self._registry.node(source), self._registry.node(target)
        if nodes[0] is None or nodes[1] is None or not nodes[0].reachable or not nodes[1].reachable:
            return None
        if nodes[0] is self._registry.me:
            # What we sent has come back.
            return None
        return nodes[0], nodes[1]

    def _may_pass(self, connection: int, now: float) -> bool:
        bucket = self._buckets.get(connection)
        if bucket is None:
            bucket = self._buckets[connection] = TokenBucket(RELAY_BURST, RELAY_RATE, now)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        return bucket.take(now)

    def _pass_on(self, connection: int, target: Node, line: str, now: float, *, limited: bool = True) -> list[Action]:
        """Never back where it came from, nor round in a circle."""
        onwards = self._registry.next_connection(target)
        if onwards is None or onwards.id == connection:
            return []
        key = hash(line)
        first, since = self._lately.get(key, (connection, now))
        if first != connection and now - since < CIRCLE_SECONDS:
            return [ignored("a key line that goes round in a circle", target.name)]
        if limited and not self._may_pass(connection, now):
            return [ignored("too many key lines", target.name)]
        self._lately[key] = connection, now
        self._lately.move_to_end(key)
        if len(self._lately) > MAX_LATELY:
            self._lately.popitem(last=False)
        return [SendLine(onwards.id, line)]

    def _reflexive_address(self, source: Node, target: Node) -> str:
        """Where we see the creator, if both ends are proved to be reached by UDP."""
        creator, reader = self._path_of(source.name), self._path_of(target.name)
        if creator is None or reader is None or not creator.confirmed or not reader.confirmed:
            return ""
        address = creator.address
        if address is None or address.endpoint is None or "%" in address.host:
            return ""
        return f" {address.host} {address.port}"


def data_by_tcp(registry: Registry, connection: int, request: ReqKey, content: SessionData) -> list[Action]:
    """A datagram that came inside a REQ_KEY, whomever it is for."""
    known = registry.connections.get(connection)
    if known is None:
        return []
    return [DatagramByTcp(known.name, request.source, request.target, content.datagram)]


def ignored(what: str, who: str) -> Log:
    return Log(logging.DEBUG, 3, f"Ignoring {what} of {who}", f"ignored {what[:20]}")


def _speaks_sptps(node: Node) -> bool:
    return node.minor >= minors.SPTPS


def _known_to_1_1(answer: AnsKey) -> bool:
    """Whether cipher and digest are known, and the MAC is no longer than the digest. A 1.1 node ends the connection
    over anything else, which would be ours. Without a digest the length is put right."""
    digest = DIGESTS.get(answer.digest)
    if answer.cipher not in CIPHERS or digest is None:
        return False
    return answer.digest == NONE or answer.mac_length <= digest.size
