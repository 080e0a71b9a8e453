"""What the modes have in common: paths, answers to the sender, packets that do not fit, broadcast.

Not here: reading a destination out of a frame and finding its owner, which is what makes a mode.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.route import ethernet, icmp, ttl, verdicts
from gmesh.route.fragments import fragments
from gmesh.route.icmp import ErrorLimit, Trouble
from gmesh.route.mss import clamped, may_carry_mss
from gmesh.route.snapshot import RouteSnapshot
from gmesh.route.subnets import EVERYBODY
from gmesh.route.verdicts import Drop, ToDevice, ToNode, Verdict
from gmesh.values import MTU, OPTION_CLAMP_MSS

MtuOf = Callable[[str], int]
"""The bound on frames (bytes, link header included) towards a node by name."""

LocalAddress = Callable[[bytes], bytes | None]
"""Which own address the kernel would use towards an address (4 or 16 bytes, the answer likewise), or None."""

IPV4_FLOOR = 590
IPV6_FLOOR = 1294
"""No path counts as narrower than the smallest packet that IP demands of every link, plus the link header."""


class Path:
    """How frames for one owner travel, worked out once per snapshot and owner. Nothing here changes afterwards."""

    __slots__ = ("clamp", "detour", "everybody", "mine", "opener", "owner", "reachable", "simple", "via")

    def __init__(self, snapshot: RouteSnapshot, owner: str) -> None:
        me = snapshot.name
        node = snapshot.nodes.get(owner)
        self.owner = owner
        self.mine = owner == me
        self.everybody = owner == EVERYBODY
        self.via = owner
        if not self.mine:
            self.via = "" if node is None or not node.reachable else node.next_hop if node.via == me else node.via
        self.reachable = self.via != ""
        """Whether there is a way at all."""
        self.detour = self.via != owner
        self.opener = owner if node is not None and node.sptps else self.via
        """Who opens what is sent on this path, and so who fragments have to be addressed to."""
        options = snapshot.options
        if not self.mine:
            via = snapshot.nodes.get(self.via)
            options = 0 if via is None else via.options
        self.clamp = options & OPTION_CLAMP_MSS != 0
        self.simple = self.reachable and not self.mine and not (snapshot.settings.direct_only and self.detour)
        """Whether a frame from the own device that fits may simply go there."""


class Forwarder:
    """One snapshot's answers, for any mode."""

    def __init__(self, snapshot: RouteSnapshot, limit: ErrorLimit, local_address: LocalAddress | None) -> None:
        """``limit`` outlives snapshots. ``local_address`` finds the sender of time exceeded messages."""
        self.me = snapshot.name
        self.settings = snapshot.settings
        self.reachable = frozenset(node.name for node in snapshot.nodes.values() if node.reachable) | {
            self.me,
            EVERYBODY,
        }
        self._snapshot = snapshot
        self._limit = limit
        self._local_address = local_address
        self._paths: dict[str, Path] = {}
        self._tree = [node.name for node in snapshot.nodes.values() if node.tree and node.neighbour]
        self._direct = [
            node.name
            for node in snapshot.nodes.values()
            if node.reachable and node.name != self.me and (node.via == node.name or node.neighbour)
        ]

    def path(self, owner: str) -> Path:
        """The path to ``owner``, reachable or not, known or not."""
        path = self._paths.get(owner)
        if path is None:
            path = self._paths[owner] = Path(self._snapshot, owner)
        return path

    def answer(self, trouble: Trouble, frame: bytes, source: str, now: float, mtu: int = 0) -> list[Verdict]:
        """An ICMP error to where ``frame`` came from; `Drop` if none is allowed now."""
        if not icmp.answerable(frame) or not self._limit.allows(now):
            return [Drop(trouble.value)]
        sender = None
        if trouble is Trouble.TIME_EXCEEDED and self._local_address is not None:
            kind, start = ethernet.payload(frame)
            asker = frame[start + 12 : start + 16] if kind == ethernet.IPV4 else frame[start + 8 : start + 24]
            sender = self._local_address(asker)
        message = icmp.error(trouble, frame, mtu, sender)
        return [ToDevice(message) if source == self.me else ToNode(source, message, True)]

    def too_big(self, frame: bytes, path: Path, source: str, bound: int, now: float) -> list[Verdict]:
        """What becomes of an IP packet longer than ``bound``: fragments to the next node, or an error."""
        kind, start = ethernet.payload(frame)
        if kind == ethernet.IPV4 and not frame[start + 6] & 0x40:
            pieces = fragments(frame, bound)
            if not pieces:
                return [Drop(verdicts.BAD_PACKET)]
            return [ToNode(path.opener, piece, True) for piece in pieces]
        return self.answer(Trouble.TOO_BIG, frame, source, now, bound - start)

    def deliver(self, frame: bytes, path: Path, source: str, mtus: MtuOf) -> list[Verdict]:
        """The last step: clamp the MSS, then to the owner."""
        if path.clamp and may_carry_mss(frame):
            frame = clamped(frame, self._clamp_mtu(path, source, mtus))
        if path.mine:
            return [ToDevice(frame)]
        return [ToNode(path.owner, frame)]

    def _clamp_mtu(self, path: Path, source: str, mtus: MtuOf) -> int:
        mtu = MTU if source == self.me else mtus(source)
        return mtu if path.mine else min(mtu, mtus(path.via))

    def broadcast(self, frame: bytes, source: str) -> list[Verdict]:
        """Copies for everyone who should have one from us (topology 9.6)."""
        copies: list[Verdict] = []
        mine = source == self.me
        if not mine:
            copies.append(ToDevice(frame))
        settings = self.settings
        if settings.broadcast == "no" or settings.tunnel_server:
            return copies or [Drop(verdicts.NO_RECEIVER)]
        receivers = self._tree_without(source) if settings.broadcast != "direct" else self._direct if mine else []
        if receivers:
            copy = ttl.decremented(frame) if settings.decrement_ttl and not mine else frame
            if copy is not None:
                copies.extend([ToNode(name, copy, True) for name in receivers])
        return copies or [Drop(verdicts.NO_RECEIVER)]

    def _tree_without(self, source: str) -> list[str]:
        """The neighbours on the tree but the one that the frame came through: each node gets one copy."""
        if source == self.me:
            return self._tree
        node = self._snapshot.nodes.get(source)
        if node is None or not node.next_hop:  # no telling where it came from, so a copy might go in circles
            return []
        return [name for name in self._tree if name != node.next_hop]
