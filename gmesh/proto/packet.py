"""Legacy data packets: key, seal and open, replay window (data-legacy 2 to 5).

Not here: compression (`compression.py`); who a datagram is from, and where frames go, which are the data plane's.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from gmesh.crypto.digests import digest_problem
from gmesh.crypto.nids import CIPHERS, DIGESTS, NONE
from gmesh.crypto.packet_cipher import cipher_problem, make_decryptor, make_encryptor, make_mac
from gmesh.errors import DatagramError, GmeshError, PeerError
from gmesh.proto.compression import compression_problem, make_compressor, make_decompressor
from gmesh.values import MTU

SEQUENCE_BYTES = 4
MAX_SEQUENCE = 2**32 - 1
WORN_SEQUENCE = 2**30
"""Past this number the receiver makes new keys (data-legacy 3.4)."""


class NotAuthentic(DatagramError):
    """The datagram was not made with the key it was tried with, as its MAC or its size shows."""


def unusable(cipher: int, digest: int, mac_length: int, compression: int) -> str:
    """Why packets cannot be sealed and opened with these algorithms; empty where they can.

    A MAC length is not looked at with digest none.
    """
    problem = cipher_problem(cipher)
    if not problem and digest != NONE:
        problem = digest_problem(digest)
        if not problem and not 0 <= mac_length <= DIGESTS[digest].size:
            problem = f"MAC length {mac_length} is not between 0 and {DIGESTS[digest].size}"
    return problem or compression_problem(compression)


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

    @classmethod
    def generate(
        cls, *, cipher: int, digest: int, mac_length: int, compression: int, entropy: Callable[[int], bytes]
    ) -> PacketKey:
        """A new key for packets to us. Raises GmeshError where the algorithms cannot be used."""
        problem = unusable(cipher, digest, mac_length, compression)
        if problem:
            raise GmeshError(problem)
        while True:
            material = entropy(CIPHERS[cipher].material_size)
            key = cls(cipher, digest, mac_length if digest != NONE else 0, compression, material)
            if key._accepted():
                return key

    @classmethod
    def from_answer(cls, key: str, cipher: int, digest: int, mac_length: int, compression: int) -> PacketKey:
        """The key of an ANS_KEY, ``key`` in hex. Raises PeerError with the reason why we cannot send with it.

        tinc 1.0 announces a MAC length with digest none too; it means 0.
        """
        problem = unusable(cipher, digest, mac_length, compression)
        if problem:
            raise PeerError(problem)
        try:
            material = bytes.fromhex(key)
        except ValueError:
            raise PeerError("the key is not hexadecimal") from None
        if len(material) != CIPHERS[cipher].material_size or len(key) != 2 * len(material):
            raise PeerError(f"a key of {len(key)} digits does not fit cipher {cipher}")
        answer = cls(cipher, digest, mac_length if digest != NONE else 0, compression, material)
        if not answer._accepted():
            raise PeerError(f"cipher {cipher} refuses the key")
        return answer

    @property
    def text(self) -> str:
        """The material as ANS_KEY carries it: upper-case hex."""
        return self.material.hex().upper()

    @property
    def has_mac(self) -> bool:
        """Whether packets can prove that they were made with this key."""
        return self.digest != NONE and self.mac_length > 0

    def _accepted(self) -> bool:
        # Triple DES has degenerate keys that one library refuses.
        try:
            make_encryptor(self.cipher, self.material)
        except ValueError:
            return False
        return True


class ReplayWindow:
    """Which sequence numbers are new (data-legacy 5). ``size_bytes`` is the option ReplayWindow; 0 accepts all."""

    __slots__ = ("_far_future", "_far_limit", "_late", "_size", "last")

    def __init__(self, size_bytes: int) -> None:
        self.last = 0
        self._size = 8 * size_bytes
        self._far_limit = size_bytes // 4
        self._far_future = 0
        self._late = bytearray(self._size)

    def accept(self, sequence: int) -> bool:
        """Whether the packet of an authentic ``sequence`` is to be taken; remembers the answer."""
        last, size = self.last, self._size
        if size:
            if sequence != last + 1 and not self._accept_other(sequence, last, size):
                return False
            self._late[sequence % size] = 0
            self._far_future = 0
        if sequence > last:
            self.last = sequence
        return True

    def _accept_other(self, sequence: int, last: int, size: int) -> bool:
        if sequence >= last + size:
            # A few wild numbers may be accidents; a row of them means that we lost the sender's count.
            if self._far_future < self._far_limit:
                self._far_future += 1
                return False
            self._late = bytearray(size)
            return True
        if sequence <= last:
            return (sequence > last - size or last < size) and self._late[sequence % size] == 1
        for missing in range(last + 1, sequence):
            self._late[missing % size] = 1
        return True


class PacketSealer:
    """Makes datagrams of one sending key. ``sequence`` is the number of the last one, 0 before the first."""

    __slots__ = ("_compress", "_encrypt", "_mac", "key", "sequence")

    def __init__(self, key: PacketKey) -> None:
        self.key = key
        self.sequence = 0
        self._encrypt = make_encryptor(key.cipher, key.material)
        self._mac = make_mac(key.digest, key.material, key.mac_length)
        self._compress = make_compressor(key.compression)

    def seal(self, frame: bytes) -> bytes:
        """The datagram for ``frame``. Raises DatagramError when the numbers are used up: they never start again."""
        sequence = self.sequence + 1
        if sequence > MAX_SEQUENCE:
            raise DatagramError("the sequence numbers of the sending key are used up")
        self.sequence = sequence
        if self._compress is not None:
            frame = self._compress(frame)
        body = self._encrypt(sequence.to_bytes(SEQUENCE_BYTES, "big") + frame)
        return body if self._mac is None else body + self._mac(body)


class PacketOpener:
    """Opens datagrams of one receiving key. ``replay_window`` is the option ReplayWindow, in bytes."""

    __slots__ = ("_decompress", "_decrypt", "_mac", "_mac_length", "_shortest", "key", "window")

    def __init__(self, key: PacketKey, replay_window: int) -> None:
        self.key = key
        self.window = ReplayWindow(replay_window)
        self._decrypt = make_decryptor(key.cipher, key.material)
        self._mac = make_mac(key.digest, key.material, key.mac_length)
        self._mac_length = key.mac_length if self._mac is not None else 0
        self._shortest = SEQUENCE_BYTES + self._mac_length
        self._decompress = make_decompressor(key.compression)

    @property
    def worn(self) -> bool:
        """Whether so many numbers were used that a new key is due."""
        return self.window.last > WORN_SEQUENCE

    def verify(self, datagram: bytes) -> bool:
        """Whether the MAC proves that ``datagram`` was made with our key, whatever is in it.

        Always False for keys without a MAC, which cannot prove anything.
        """
        if self._mac is None or len(datagram) < self._shortest:
            return False
        split = len(datagram) - self._mac_length
        return hmac.compare_digest(self._mac(datagram[:split]), datagram[split:])

    def open(self, datagram: bytes) -> bytes:
        """The frame of a datagram. Raises NotAuthentic, or DatagramError for one that is replayed or damaged.

        Without a MAC nothing is ever found to be not authentic but what is too short.
        """
        if len(datagram) < self._shortest:
            raise NotAuthentic("too short")
        if self._mac is None:
            body = datagram
        else:
            split = len(datagram) - self._mac_length
            body = datagram[:split]
            if not hmac.compare_digest(self._mac(body), datagram[split:]):
                raise NotAuthentic("wrong MAC")
        try:
            plain = self._decrypt(body)
        except ValueError as error:
            raise DatagramError(str(error)) from None
        if len(plain) < SEQUENCE_BYTES:
            raise DatagramError("too short")
        if not self.window.accept(int.from_bytes(plain[:SEQUENCE_BYTES], "big")):
            raise DatagramError("replayed or far out of order")
        payload = plain[SEQUENCE_BYTES:]
        if self._decompress is not None:
            payload = self._decompress(payload)
        if len(payload) > MTU:
            raise DatagramError("longer than the largest frame")
        return payload
