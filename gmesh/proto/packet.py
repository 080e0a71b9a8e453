"""Legacy data packets: key, seal and open, replay window (data-legacy 2 to 5).

Not here: who a datagram is from, and where frames go; that is the data plane's.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PacketKey:
    """Everything one direction of a legacy flow needs (data-legacy 3): NIDs, MAC bytes, level, key || IV.

    ``material`` is K + V bytes for the cipher, a single byte for cipher none. It never shows in a repr.
    """

    cipher: int
    digest: int
    mac_length: int
    compression: int
    material: bytes = field(repr=False)
