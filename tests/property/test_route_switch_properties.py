"""What holds of switch and hub mode for any frame."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmesh.route.router import Drop, Router, ToDevice, ToNode
from tests.property.test_route_properties import headed, packets
from tests.unit.route.switch_frames import EVERYBODY, MACS, switched

targets = st.one_of(st.sampled_from([*MACS.values(), EVERYBODY, bytes(6)]), st.binary(min_size=6, max_size=6))


@given(
    target=targets,
    body=st.one_of(packets(), headed, st.binary(max_size=80)),
    source=st.sampled_from(["a", "b", "c", "d", "gone", "stranger"]),
    mtu=st.integers(0, 9018),
    mode=st.sampled_from(["switch", "hub"]),
    forwarding=st.sampled_from(["internal", "off", "kernel"]),
    broadcast=st.sampled_from(["mst", "direct", "no"]),
    switches=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_no_frame_raises(
    target: bytes,
    body: bytes,
    source: str,
    *,
    mtu: int,
    mode: str,
    forwarding: str,
    broadcast: str,
    switches: tuple[bool, bool, bool],
) -> None:
    """Each verdict can be carried out, and no frame goes back to where it came from, but for an answer to it."""
    direct, decrement, tunnel = switches
    frame = (target + body[6:])[: max(len(body), 6)]
    router = Router(
        switched(
            mode=mode,
            forwarding=forwarding,
            broadcast=broadcast,
            direct_only=direct,
            decrement_ttl=decrement,
            tunnel_server=tunnel,
        )
    )
    verdicts = router.decide(frame, source, lambda node: mtu, 0.0)
    assert verdicts
    for verdict in verdicts:
        assert isinstance(verdict, ToDevice | ToNode | Drop)
        if isinstance(verdict, Drop):
            continue
        assert 14 <= len(verdict.frame) <= max(len(frame), 594)
        answer = frame[6:12] + frame[0:6]
        if isinstance(verdict, ToNode):
            assert verdict.node in {"b", "c", "d", source} - {"a"}
            assert verdict.node != source or verdict.frame.startswith(answer)
        elif source == "a":
            assert verdict.frame.startswith(answer), "nothing but answers to its own frames goes back to the device"
