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
        levels: dict[SubnetKind, dict[int, dict[int, tuple[str, ...]]]] = {kind: {} for kind in SubnetKind}
        # Nearly every range has one owner, and a tuple that all ranges of an owner share keeps ten thousand small.
        alone: dict[str, tuple[str, ...]] = {}
        contested: dict[tuple[SubnetKind, int, int], list[tuple[bytes, int, str]]] = {}
        for subnet, owner in self.subnets:
            shift, value = _place(subnet)
            owners = levels[subnet.kind].setdefault(shift, {}).setdefault(value, alone.setdefault(owner, (owner,)))
            if owners != (owner,):
                contested[subnet.kind, shift, value] = []
        for subnet, owner in self.subnets if contested else ():
            entries = contested.get((subnet.kind, *_place(subnet)))
            if entries is not None:
                entries.append((subnet.address, subnet.weight, owner))
        for (kind, shift, value), entries in contested.items():
            # Host bits are kept, so subnets of one range can differ in address: it sorts before the weight.
            levels[kind][shift][value] = tuple(entry[2] for entry in sorted(entries))
        self._levels = {kind: sorted(by_shift.items()) for kind, by_shift in levels.items()}

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


def _place(subnet: Subnet) -> tuple[int, int]:
    """How many bits of an address do not count, and the value of those that do."""
    shift = ADDRESS_BITS[subnet.kind] - subnet.prefix
    return shift, int.from_bytes(subnet.address, "big") >> shift
