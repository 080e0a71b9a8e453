"""The door to routing: a snapshot goes in, and every frame gets its verdicts.

Not here: any mode's rules. A mode is a module of its own, listed in `MODES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from gmesh.errors import ConfigError
from gmesh.route.forwarder import Forwarder, LocalAddress, MtuOf, Path
from gmesh.route.hub_mode import HubMode
from gmesh.route.icmp import ErrorLimit
from gmesh.route.router_mode import RouterMode
from gmesh.route.snapshot import RouteSnapshot
from gmesh.route.subnets import EVERYBODY, SubnetTable
from gmesh.route.switch_mode import SwitchMode
from gmesh.route.verdicts import Drop, ToDevice, ToNode, Verdict

__all__ = ["Drop", "LocalAddress", "MtuOf", "Path", "Router", "ToDevice", "ToNode", "Verdict"]


class Mode(Protocol):
    """What a mode has to offer."""

    def decide(self, frame: bytes, source: str, mtus: MtuOf, now: float) -> list[Verdict]: ...


MODES: Mapping[str, Callable[[Forwarder, SubnetTable], Mode]] = {
    "router": RouterMode,
    "switch": SwitchMode,
    "hub": HubMode,
}
_FORWARDING = ("internal", "off", "kernel")
_BROADCAST = ("mst", "yes", "direct", "no")


class Router:
    """Decides by one snapshot. Make a new one for each, with the last as ``previous``.

    ``decide(frame, source, mtus, now)`` returns the verdicts on a frame, in the order in which to perform them, at
    least one. ``source`` is the node that the frame came from, the own name for the device; ``mtus(node)`` the bound on
    frames (bytes, link header included) of that node's path, 1518 where unknown; ``now`` any monotonic clock's seconds.
    It never raises, whatever the frame. A frame that goes on unchanged is the same bytes object.

    ``straight(address)`` is for short cuts, see `RouterMode.straight`; in other modes it knows none.
    """

    __slots__ = ("_limit", "_table", "decide", "snapshot", "straight")

    decide: Callable[[bytes, str, MtuOf, float], list[Verdict]]
    straight: Callable[[bytes], Path | None]
    _limit: ErrorLimit
    _table: SubnetTable

    def __init__(
        self, snapshot: RouteSnapshot, previous: Router | None = None, local_address: LocalAddress | None = None
    ) -> None:
        """Raises ConfigError for a mode, or a value of Forwarding or Broadcast, that does not exist.

        ``previous`` hands on the rate limit and, if the subnets are the same, their tables. ``local_address`` tells the
        sender of time exceeded messages; without it they seem to come from the destination.
        """
        settings = snapshot.settings
        if settings.mode not in MODES:
            raise ConfigError(f"Mode {settings.mode!r} is not supported, only {', '.join(MODES)}", key="Mode")
        if settings.forwarding not in _FORWARDING:
            raise ConfigError(f"Forwarding must be one of {', '.join(_FORWARDING)}", key="Forwarding")
        if settings.broadcast not in _BROADCAST:
            raise ConfigError(f"Broadcast must be one of {', '.join(_BROADCAST)}", key="Broadcast")
        self.snapshot = snapshot
        self._limit = ErrorLimit() if previous is None else previous._limit
        if previous is not None and _same_subnets(previous.snapshot, snapshot):
            self._table = previous._table
        else:
            broadcast = [(subnet, EVERYBODY) for subnet in settings.broadcast_subnets]
            self._table = SubnetTable([*snapshot.subnets, *broadcast])
        mode = MODES[settings.mode](Forwarder(snapshot, self._limit, local_address), self._table)
        self.decide = mode.decide
        self.straight = mode.straight if isinstance(mode, RouterMode) else lambda address: None


def _same_subnets(one: RouteSnapshot, other: RouteSnapshot) -> bool:
    return one.subnets == other.subnets and one.settings.broadcast_subnets == other.settings.broadcast_subnets
