"""Mode = router: frames go by the IP address of their destination (topology 9.2, 9.3, 9.7).

Not here: what all modes share, see `forwarder`.
"""

from __future__ import annotations

from gmesh.route import ethernet, neighbours, ttl, verdicts
from gmesh.route.forwarder import IPV4_FLOOR, IPV6_FLOOR, Forwarder, MtuOf, Path
from gmesh.route.icmp import Trouble
from gmesh.route.mss import may_carry_mss
from gmesh.route.subnets import EVERYBODY, SubnetTable
from gmesh.route.verdicts import Drop, ToDevice, ToNode, Verdict
from gmesh.values import ETHERNET_HEADER, SubnetKind

CACHE_SIZE = 4096
"""Destinations remembered per address family. When full, all are forgotten: a scan must not cost memory."""

_IPV4_BROADCAST = b"\xff\xff\xff\xff"


class RouterMode:
    """Decides on frames by IP address. One per snapshot."""

    def __init__(self, forwarder: Forwarder, table: SubnetTable) -> None:
        self._forwarder = forwarder
        self._table = table
        self._me = forwarder.me
        settings = forwarder.settings
        self._tap = settings.tap
        self._direct_only = settings.direct_only
        self._decrement_ttl = settings.decrement_ttl
        self._forwarding_off = settings.forwarding == "off"
        self._kernel_forwards = settings.forwarding == "kernel"
        self._broadcasts = settings.broadcast != "no"
        self._ipv4_paths: dict[bytes, Path | None] = {}
        self._ipv6_paths: dict[bytes, Path | None] = {}

    def decide(self, frame: bytes, source: str, mtus: MtuOf, now: float) -> list[Verdict]:
        """What happens to ``frame`` that came from the node ``source`` (the own name means the device)."""
        if source != self._me:
            if len(frame) < ETHERNET_HEADER:
                return [Drop(verdicts.TOO_SHORT)]
            if self._kernel_forwards:
                return [ToDevice(frame)]
        kind = frame[12:14]
        if kind == ethernet.IPV4:
            return self._ipv4(frame, source, mtus, now)
        if kind == ethernet.IPV6:
            return self._ipv6(frame, source, mtus, now)
        if kind == ethernet.ARP:
            return self._resolve(neighbours.arp_request(frame), source)
        return [Drop(verdicts.UNKNOWN_TYPE if len(frame) >= ETHERNET_HEADER else verdicts.TOO_SHORT)]

    def straight(self, address: bytes) -> Path | None:
        """The path of whole IP packets to ``address`` (4 or 16 bytes), where it holds for all of them; else None.

        It is the own node's: then they go to the device, whichever other node they come from. Or it is another's: then
        it holds for packets from the device. Exceptions are packets too long for ``via``, IPv6's neighbour
        solicitations, and, where ``clamp`` says so, packets with an MSS that is too large.
        """
        ipv4 = len(address) == 4
        if len(address) not in (4, 16) or address[0] >= (224 if ipv4 else 0xFF):
            return None
        kind, paths = (SubnetKind.IPV4, self._ipv4_paths) if ipv4 else (SubnetKind.IPV6, self._ipv6_paths)
        path = paths[address] if address in paths else self._find(kind, address, paths)
        return path if path is not None and (path.mine or path.simple) and not path.everybody else None

    def _ipv4(self, frame: bytes, source: str, mtus: MtuOf, now: float) -> list[Verdict]:
        length = len(frame)
        if length < 34:
            return [Drop(verdicts.TOO_SHORT)]
        destination = frame[30:34]
        if frame[30] >= 224 and self._broadcasts and (frame[30] < 240 or destination == _IPV4_BROADCAST):
            return self._forwarder.broadcast(frame, source)
        try:
            path = self._ipv4_paths[destination]
        except KeyError:
            path = self._find(SubnetKind.IPV4, destination, self._ipv4_paths)
        if (
            path is not None
            and path.simple
            and source == self._me
            and (length <= IPV4_FLOOR or length <= mtus(path.via))
            and not (path.clamp and may_carry_mss(frame))
        ):
            return [ToNode(path.owner, frame)]
        return self._route(IPV4_FLOOR, frame, path, source, mtus=mtus, now=now)

    def _ipv6(self, frame: bytes, source: str, mtus: MtuOf, now: float) -> list[Verdict]:
        length = len(frame)
        if length < 54:
            return [Drop(verdicts.TOO_SHORT)]
        if neighbours.is_solicitation(frame):
            return self._resolve(neighbours.solicitation(frame), source)
        if frame[38] == 0xFF and self._broadcasts:
            return self._forwarder.broadcast(frame, source)
        destination = frame[38:54]
        try:
            path = self._ipv6_paths[destination]
        except KeyError:
            path = self._find(SubnetKind.IPV6, destination, self._ipv6_paths)
        return self._route(IPV6_FLOOR, frame, path, source, mtus=mtus, now=now)

    def _find(self, kind: SubnetKind, address: bytes, cache: dict[bytes, Path | None]) -> Path | None:
        """The path to the owner of ``address``, None where no subnet holds it; remembered in ``cache``."""
        owner = self._table.owner(kind, address, self._forwarder.reachable)
        path = None if owner is None else self._forwarder.path(owner)
        if len(cache) >= CACHE_SIZE:
            cache.clear()
        cache[address] = path
        return path

    def _route(
        self, floor: int, frame: bytes, path: Path | None, source: str, *, mtus: MtuOf, now: float
    ) -> list[Verdict]:
        """The steps of topology 9.2 from the lookup's result on, in their order.

        Frames up to ``floor`` bytes fit everywhere.
        """
        answer = self._forwarder.answer
        if path is None:
            return answer(Trouble.UNKNOWN, frame, source, now)
        if path.everybody:
            return self._forwarder.broadcast(frame, source)
        if path.owner == source:
            return [Drop(verdicts.LOOP)]
        if path.mine:  # none of the steps up to the last can stop it
            return self._forwarder.deliver(frame, path, source, mtus)
        if not path.reachable:
            return answer(Trouble.UNREACHABLE, frame, source, now)
        relayed = source != self._me
        if relayed and self._forwarding_off:
            return answer(Trouble.PROHIBITED, frame, source, now)
        if relayed and self._decrement_ttl:
            hopped = ttl.decremented(frame)
            if hopped is None:
                return answer(Trouble.TIME_EXCEEDED, frame, source, now)
            frame = hopped
        if path.via == source:
            return [Drop(verdicts.LOOP)]
        if self._direct_only and path.detour:
            return answer(Trouble.PROHIBITED, frame, source, now)
        if len(frame) > floor:
            bound = max(mtus(path.via), floor)
            if len(frame) > bound:
                return self._forwarder.too_big(frame, path, source, bound, now)
        return self._forwarder.deliver(frame, path, source, mtus)

    def _resolve(self, request: neighbours.Request | None, source: str) -> list[Verdict]:
        """Answer the own kernel's question for a hardware address, if another node has the address."""
        if request is not None and self._tap and source == self._me:
            owner = self._table.owner(request.kind, request.target, self._forwarder.reachable)
            if owner not in (None, EVERYBODY, self._me):
                return [ToDevice(request.answer)]
        return [Drop(verdicts.NOT_ANSWERED)]
