"""The cryptographic steps of the RSA handshake: meta keys, challenge, reply (meta-legacy 4.2 to 4.4).

Not here: their order, which is the state table of `meta`, and the bytes on the wire.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from gmesh.crypto.digests import digest, digest_available
from gmesh.crypto.nids import SHA256
from gmesh.crypto.rsa import RsaPrivateKey, RsaPublicKey
from gmesh.crypto.stream import STREAM_CIPHERS, MetaStream
from gmesh.errors import PeerError
from gmesh.proto.requests import Challenge, ChallengeReply, MetaKey

Entropy = Callable[[int], bytes]


class LegacyAuth:
    """One handshake's secrets. Each method is called once, in the order of the state table."""

    __slots__ = ("_challenge", "_cipher", "_entropy", "_peer_digest", "_private_key", "_public_key")

    def __init__(self, private_key: RsaPrivateKey, public_key: RsaPublicKey, entropy: Entropy, cipher: int) -> None:
        self._private_key = private_key
        self._public_key = public_key
        self._entropy = entropy
        self._cipher = cipher
        self._challenge = b""
        self._peer_digest = SHA256

    def make_meta_key(self) -> tuple[MetaKey, MetaStream]:
        """Our METAKEY and the stream that encrypts everything we send after it."""
        size = self._public_key.size
        secret = bytearray(self._entropy(size))
        # Cleared bits keep the number below the modulus; one bit is enough for moduli of whole bytes.
        secret[0] &= 0xFF >> (size * 8 - self._public_key.bits + 1)
        material = bytes(secret)
        request = MetaKey(self._cipher, SHA256, 0, 0, self._public_key.encrypt(material))
        return request, MetaStream(self._cipher, material, encrypt=True)

    def read_meta_key(self, request: MetaKey) -> MetaStream:
        """The stream that decrypts what the peer sends after its METAKEY. Raises PeerError."""
        if request.cipher not in STREAM_CIPHERS:
            raise PeerError(f"bad METAKEY: cipher {request.cipher} cannot encrypt a meta connection")
        if not digest_available(request.digest):
            raise PeerError(f"bad METAKEY: digest {request.digest} is unknown or none")
        if len(request.key) != self._private_key.size:
            raise PeerError(f"bad METAKEY: a key of {len(request.key)} bytes, ours has {self._private_key.size}")
        try:
            material = self._private_key.decrypt(request.key)
        except ValueError as error:
            raise PeerError(f"bad METAKEY: {error}") from None
        if _is_fixed_point(material, self._private_key.public.modulus):
            raise PeerError("bad METAKEY: the key is one that everybody knows")
        self._peer_digest = request.digest
        return MetaStream(request.cipher, material, encrypt=False)

    def make_challenge(self) -> Challenge:
        """Our CHALLENGE: as many random bytes as the peer's modulus has."""
        self._challenge = self._entropy(self._public_key.size)
        return Challenge(self._challenge)

    def check_challenge(self, request: Challenge) -> None:
        """Raises PeerError unless the peer's challenge is as long as our modulus."""
        if len(request.data) != self._private_key.size:
            raise PeerError(f"bad CHALLENGE: {len(request.data)} bytes instead of {self._private_key.size}")

    def answer(self, request: Challenge) -> ChallengeReply:
        """Our CHAL_REPLY, with the digest that the challenger named in its METAKEY."""
        return ChallengeReply(digest(self._peer_digest, request.data))

    def verify(self, reply: ChallengeReply) -> None:
        """Raises PeerError unless ``reply`` answers our challenge."""
        if not hmac.compare_digest(reply.digest, digest(SHA256, self._challenge)):
            raise PeerError("bad CHAL_REPLY: the peer does not hold the private key of its name")


def _is_fixed_point(material: bytes, modulus: int) -> bool:
    # 0, 1 and -1 are their own powers, so these need no key; the other plain patterns are as easy to guess.
    return len(set(material[1:-1])) <= 1 or int.from_bytes(material, "big") == modulus - 1
