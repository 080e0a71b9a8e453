"""Whose subnet an address lies in (topology 5.1).

Not here: what reachability means, or a cache: both belong to one snapshot, while a table serves as many as share its
subnets.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from gmesh.values import ADDRESS_BITS, Subnet, SubnetKind

EVERYBODY = ""
"""The owner of what is to be broadcast: no node has this name."""


class SubnetTable:
    """Owners by address: one hash table per kind and prefix length, so that their number hardly matters."""

    __slots__ = ("_levels", "subnets")

    def __init__(self, subnets: Iterable[tuple[Subnet, str]]) -> None:
        """``subnets`` are (subnet, owner) pairs in any order."""
        self.subnets = tuple(subnets)
        levels: dict[SubnetKind, dict[int, dict[int, list[tuple[bytes, int, str]]]]] = {kind: {} for kind in SubnetKind}
        for subnet, owner in self.subnets:
            address = subnet.address
            shift = ADDRESS_BITS[subnet.kind] - subnet.prefix
            buckets = levels[subnet.kind].setdefault(shift, {})
            buckets.setdefault(int.from_bytes(address, "big") >> shift, []).append((address, subnet.weight, owner))
        self._levels = {
            kind: [
                (
                    shift,
                    # Host bits are kept, so subnets of one range can differ in address: it sorts before the weight.
                    {value: tuple(entry[2] for entry in sorted(entries)) for value, entries in buckets.items()},
                )
                for shift, buckets in sorted(by_shift.items())
            ]
            for kind, by_shift in levels.items()
        }

    def owner(self, kind: SubnetKind, address: bytes, reachable: Container[str]) -> str | None:
        """The first matching owner that is ``reachable``, else the last matching one, else None.

        ``address`` is 6, 4 or 16 bytes by ``kind``.
        """
        number = int.from_bytes(address, "big")
        last: str | None = None
        for shift, buckets in self._levels[kind]:
            owners = buckets.get(number >> shift)
            if owners is not None:
                for owner in owners:
                    if owner in reachable:
                        return owner
                last = owners[-1]
        return last
