"""Mode = switch: frames go by the MAC address of their destination (topology 9.8).

Not here: learning the addresses of frames from the own device, which the data plane notes and the mesh announces; and
what all modes share, see `forwarder`.
"""

from __future__ import annotations

from gmesh.route import ethernet, ttl, verdicts
from gmesh.route.forwarder import Forwarder, MtuOf, Path
from gmesh.route.icmp import Trouble
from gmesh.route.mss import may_carry_mss
from gmesh.route.subnets import EVERYBODY, SubnetTable
from gmesh.route.verdicts import Drop, ToDevice, ToNode, Verdict
from gmesh.values import ETHERNET_HEADER, SubnetKind

CACHE_SIZE = 4096
"""Destinations remembered. When full, all are forgotten: made-up addresses must not cost memory."""

_EVERYBODY = b"\xff\xff\xff\xff\xff\xff"
_FLOORS = {ethernet.IPV4: 576, ethernet.IPV6: 1280}
"""IP packets up to this size fit everywhere, at worst by TCP: the least that IP lets a sender be told."""


class SwitchMode:
    """Decides on frames by MAC address. One per snapshot."""

    def __init__(self, forwarder: Forwarder, table: SubnetTable) -> None:
        self._forwarder = forwarder
        self._table = table
        self._me = forwarder.me
        settings = forwarder.settings
        self._direct_only = settings.direct_only
        self._decrement_ttl = settings.decrement_ttl
        self._forwarding_off = settings.forwarding == "off"
        self._kernel_forwards = settings.forwarding == "kernel"
        # Nobody can own the address of everybody, whatever a peer announces.
        self._paths: dict[bytes, Path | None] = {_EVERYBODY: None}

    def decide(self, frame: bytes, source: str, mtus: MtuOf, now: float) -> list[Verdict]:
        """What happens to ``frame`` that came from the node ``source`` (the own name means the device)."""
        length = len(frame)
        if length < ETHERNET_HEADER:
            return [Drop(verdicts.TOO_SHORT)]
        if source != self._me and self._kernel_forwards:
            return [ToDevice(frame)]
        destination = frame[0:6]
        try:
            path = self._paths[destination]
        except KeyError:
            path = self._find(destination)
        if path is None:
            return self._forwarder.broadcast(frame, source)
        if (
            path.simple
            and source == self._me
            and length <= mtus(path.via)
            and not (path.clamp and may_carry_mss(frame))
        ):
            return [ToNode(path.owner, frame)]
        return self._switch(frame, path, source, mtus, now)

    def _find(self, address: bytes) -> Path | None:
        """The path to the owner of ``address``, None where it has none; remembered."""
        owner = self._table.owner(SubnetKind.MAC, address, self._forwarder.reachable)
        path = None if owner is None or owner == EVERYBODY else self._forwarder.path(owner)
        if len(self._paths) >= CACHE_SIZE:
            self._paths.clear()
            self._paths[_EVERYBODY] = None
        self._paths[address] = path
        return path

    def _switch(self, frame: bytes, path: Path, source: str, mtus: MtuOf, now: float) -> list[Verdict]:
        """The steps of topology 9.8 from the lookup's result on, in their order."""
        if path.owner == source:
            return [Drop(verdicts.LOOP)]
        if path.mine:  # none of the steps up to the last can stop it
            return self._forwarder.deliver(frame, path, source, mtus)
        if not path.reachable:
            return [Drop(Trouble.UNREACHABLE.value)]
        relayed = source != self._me
        if relayed and self._forwarding_off:
            return [Drop(Trouble.PROHIBITED.value)]
        if relayed and self._decrement_ttl:
            hopped = ttl.decremented(frame)
            if hopped is None:
                return self._forwarder.answer(Trouble.TIME_EXCEEDED, frame, source, now)
            frame = hopped
        if path.via == source:
            return [Drop(verdicts.LOOP)]
        if self._direct_only and path.detour:
            return [Drop(Trouble.PROHIBITED.value)]
        mtu = mtus(path.via)
        if len(frame) > mtu:
            kind, start = ethernet.payload(frame)
            floor = _FLOORS.get(kind)
            # What is no IP, and what is small, has nobody to be told, and goes as it is: by TCP if need be.
            if floor is not None and len(frame) > start + floor:
                return self._forwarder.too_big(frame, path, source, max(mtu, start + floor), now)
        return self._forwarder.deliver(frame, path, source, mtus)
