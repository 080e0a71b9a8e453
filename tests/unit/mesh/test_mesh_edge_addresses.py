"""What edges say of NATs."""

from __future__ import annotations

import pytest

from gmesh.mesh.edge_addresses import in_the_open
from gmesh.mesh.registry import Bounds, Registry
from gmesh.values import Address


def mesh(seen: str | None, local: str | None, other: str = "203.0.113.9", *, also: str | None = None) -> Registry:
    """a - me - other: me says that it is at ``local``, a sees it at ``seen``, and b at ``also``."""
    db = Registry("me", Bounds(100, 100, 100, 1_000_000), 0.0)
    for name, sight in (("a", seen), ("b", also)):
        node = db.ensure_node(name, 0.0)
        here = None if local is None else Address(local, "655")
        db.put_edge(db.me, node, address=Address("1.1.1.1", "655"), options=0, weight=1, local=here)
        if sight is not None:
            db.put_edge(node, db.me, address=Address(sight, "655"), options=0, weight=1)
    a, far = db.nodes["a"], db.ensure_node("other", 0.0)
    db.put_edge(a, far, address=Address(other, "655"), options=0, weight=1)
    db.put_edge(far, a, address=Address("1.1.1.1", "655"), options=0, weight=1)
    return db


@pytest.mark.parametrize(
    ("seen", "local", "other", "also", "open_"),
    [
        ("8.8.8.8", "8.8.8.8", "9.9.9.9", None, True),
        ("2001:4860::8", "2001:4860::8", "9.9.9.9", None, True),
        ("10.1.0.2", "10.1.0.2", "10.3.0.2", None, True),
        ("8.8.8.8", "10.1.0.2", "9.9.9.9", None, False),
        # A neighbour in the same private network sees no NAT.
        ("10.1.0.2", "10.1.0.2", "9.9.9.9", None, False),
        ("10.1.0.2", "10.1.0.2", "10.3.0.2", "10.9.0.1", False),
        (None, "8.8.8.8", "9.9.9.9", None, False),
        ("8.8.8.8", None, "9.9.9.9", None, False),
        ("nonsense", "nonsense", "9.9.9.9", None, False),
    ],
)
def test_who_is_seen_where_it_says_it_is_has_no_nat(
    seen: str | None, local: str | None, other: str, also: str | None, open_: bool
) -> None:
    db = mesh(seen, local, other, also=also)
    assert in_the_open(db, db.me, db.nodes["other"]) is open_
    assert not in_the_open(db, db.nodes["other"], db.me), "it says nothing of itself"
