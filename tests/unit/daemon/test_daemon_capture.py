"""Captures: several receivers, and a data plane that knows of none when there is none."""

from __future__ import annotations

import struct

from gmesh.cli.commands.pcap import file_header, record
from gmesh.daemon.capture import Capture, Receiver


class Plane:
    capture: Receiver | None = None

    def set_capture(self, capture: Receiver | None) -> None:
        self.capture = capture


def test_each_receiver_sees_each_frame_until_it_leaves() -> None:
    plane = Plane()
    capture = Capture(plane)
    assert plane.capture is None
    first: list[bytes] = []
    second: list[bytes] = []
    one, other = capture.watch(first.append), capture.watch(second.append)
    assert plane.capture is not None
    plane.capture(b"a")
    one.close()
    one.close()
    plane.capture(b"b")
    assert (first, second) == ([b"a"], [b"a", b"b"])
    other.close()
    assert plane.capture is None


def test_a_capture_file() -> None:
    assert file_header(100) == struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 100, 1)
    assert record(b"xyz", 5_000_007) == struct.pack("=IIII", 5, 7, 3, 3) + b"xyz"
