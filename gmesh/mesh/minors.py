"""From which minor protocol version on a node can do what (meta-sptps 2)."""

from __future__ import annotations

SPTPS = 2
"""Sessions of SPTPS for VPN packets."""
SHORT_REPLIES = 3
"""Answers to probes that name a size instead of having it."""
NODE_IDS = 4
"""Node ids in datagrams."""
UDP_INFO = 5
MTU_INFO = 6
SPTPS_PACKET = 7
"""Datagrams raw on meta connections."""
