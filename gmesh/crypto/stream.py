"""The stream cipher of a legacy meta connection: AES in CFB128, one state per direction (meta-legacy 4.2, 7).

It hides and does not protect: a legacy meta connection has no integrity check. Not here: who chooses the key.
"""

from __future__ import annotations

from collections.abc import Callable

from Crypto.Cipher import AES

from gmesh.crypto.nids import CIPHERS, CipherInfo, Mode
from gmesh.errors import PeerError

STREAM_CIPHERS: dict[int, CipherInfo] = {
    nid: info for nid, info in CIPHERS.items() if info.family == "aes" and info.mode is Mode.CFB
}
"""The ciphers that may encrypt a meta connection, by NID."""


class MetaStream:
    """One direction of a meta connection. ``material`` is the meta key, whose end holds IV and key, in this order."""

    __slots__ = ("_left", "_process")

    def __init__(self, nid: int, material: bytes, *, encrypt: bool) -> None:
        info = STREAM_CIPHERS[nid]
        if len(material) < info.material_size:
            raise ValueError("the meta key is too short for the cipher")
        key = material[-info.key_size :]
        iv = material[-info.material_size : -info.key_size]
        cipher = AES.new(key, AES.MODE_CFB, iv=iv, segment_size=128)
        self._process: Callable[[bytes], bytes] = cipher.encrypt if encrypt else cipher.decrypt
        self._left = info.byte_budget

    def process(self, data: bytes) -> bytes:
        """Encrypt or decrypt the next bytes. Raises PeerError when the key has done all it safely can."""
        if len(data) > self._left:
            raise PeerError("the byte budget of the meta connection's key is used up")
        self._left -= len(data)
        return self._process(data)
