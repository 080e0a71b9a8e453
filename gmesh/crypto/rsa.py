"""Raw RSA as tinc's handshake uses it, and RSA keys as text: PEM and hexadecimal (meta-legacy 4.2, config 5).

Not here: files, and any padding: the protocol has none.
"""

from __future__ import annotations

import re

from Crypto.Math import Primality
from Crypto.Math.Numbers import Integer
from Crypto.PublicKey import RSA

from gmesh.errors import KeyFileError

MIN_BITS = 512
MAX_BITS = 8192
"""More does not fit a line of the meta protocol (meta-legacy 1)."""

HEX_EXPONENT = 0xFFFF
"""The public exponent of keys given in hex. It is the number 65535, not the prime 65537."""

DEFAULT_EXPONENT = 65537
_PYCRYPTODOME_MIN_BITS = 1024

_PUBLIC_LABELS = ("RSA PUBLIC KEY", "PUBLIC KEY")
_PRIVATE_LABELS = ("RSA PRIVATE KEY", "PRIVATE KEY")
_HEX = re.compile(r"[0-9A-Fa-f]+\Z", re.ASCII)


def find_pem(text: str, labels: tuple[str, ...]) -> str | None:
    """The first PEM block of ``text`` whose label is one of ``labels``, markers included; None where there is none."""
    pattern = "|".join(re.escape(label) for label in labels)
    match = re.search(rf"^-----BEGIN ({pattern})-----[ \t]*\r?$.*?^-----END \1-----", text, re.MULTILINE | re.DOTALL)
    return None if match is None else match[0]


class RsaPublicKey:
    """A public key. ``size`` is that of the modulus in bytes."""

    __slots__ = ("_key", "size")

    def __init__(self, key: RSA.RsaKey) -> None:
        bits = key.size_in_bits()
        if not MIN_BITS <= bits <= MAX_BITS:
            raise KeyFileError(f"an RSA key of {bits} bits is not between {MIN_BITS} and {MAX_BITS}")
        if key.e < 3 or key.e % 2 == 0 or key.n % 2 == 0:
            raise KeyFileError("the numbers of the RSA key are impossible")
        self._key = key
        self.size = int(key.size_in_bytes())

    @property
    def bits(self) -> int:
        """Size of the modulus in bits."""
        return int(self._key.size_in_bits())

    @property
    def modulus(self) -> int:
        return int(self._key.n)

    @property
    def exponent(self) -> int:
        return int(self._key.e)

    @classmethod
    def from_pem(cls, text: str) -> RsaPublicKey:
        """Read the first PKCS#1 or SubjectPublicKeyInfo block of ``text``. Raises KeyFileError."""
        block = find_pem(text, _PUBLIC_LABELS)
        if block is None:
            raise KeyFileError("no RSA public key in PEM form")
        key = _import(block)
        if key.has_private():
            raise KeyFileError("a private key where a public one belongs")
        return cls(key)

    @classmethod
    def from_hex(cls, modulus: str) -> RsaPublicKey:
        """Read the value of the option PublicKey: the modulus, with the fixed exponent 0xFFFF. Raises KeyFileError."""
        return cls(_construct((_from_hex("PublicKey", modulus), HEX_EXPONENT)))

    def to_pem(self) -> str:
        """PKCS#1 in PEM, with a newline at the end."""
        body = self._key.public_key().export_key("DER")
        return _pem("RSA PUBLIC KEY", _pkcs1_from_spki(body))

    def encrypt(self, message: bytes) -> bytes:
        """``message ** e mod n``, both `size` bytes, big endian. Raises ValueError if it is not below the modulus."""
        number = int.from_bytes(message, "big")
        if len(message) != self.size or number >= self.modulus:
            raise ValueError("message is not a number below the modulus, of its length")
        return pow(number, self.exponent, self.modulus).to_bytes(self.size, "big")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RsaPublicKey) and (self.modulus, self.exponent) == (other.modulus, other.exponent)

    def __hash__(self) -> int:
        return hash((self.modulus, self.exponent))

    def __repr__(self) -> str:
        return f"RsaPublicKey({self.bits} bits)"


class RsaPrivateKey:
    """A private key. Its numbers never show in a repr."""

    __slots__ = ("_key", "public", "size")

    def __init__(self, key: RSA.RsaKey) -> None:
        self.public = RsaPublicKey(key.public_key())
        self._key = key
        self.size = self.public.size

    @classmethod
    def generate(cls, bits: int) -> RsaPrivateKey:
        """Make a key with the exponent 65537 from the system's random source; ``bits`` is rounded down to whole bytes.

        Raises KeyFileError unless 512 <= bits <= 8192. Sizes below 1024, which pycryptodome does not make itself, are
        built from its primes; they protect nothing and exist for the sake of old directories.
        """
        bits -= bits % 8
        if not MIN_BITS <= bits <= MAX_BITS:
            raise KeyFileError(f"an RSA key of {bits} bits is not between {MIN_BITS} and {MAX_BITS}")
        if bits >= _PYCRYPTODOME_MIN_BITS:
            return cls(RSA.generate(bits, e=DEFAULT_EXPONENT))
        return cls(_generate_small(bits))

    @classmethod
    def from_pem(cls, text: str) -> RsaPrivateKey:
        """Read the first PKCS#1 or PKCS#8 block of ``text``, unencrypted. Raises KeyFileError."""
        block = find_pem(text, _PRIVATE_LABELS)
        if block is None:
            raise KeyFileError("no RSA private key in PEM form")
        key = _import(block)
        if not key.has_private():
            raise KeyFileError("a public key where a private one belongs")
        return cls(key)

    @classmethod
    def from_hex(cls, modulus: str, exponent: str) -> RsaPrivateKey:
        """Read the options PublicKey (the modulus) and PrivateKey (the private exponent). Raises KeyFileError."""
        numbers = (_from_hex("PublicKey", modulus), HEX_EXPONENT, _from_hex("PrivateKey", exponent))
        return cls(_construct(numbers))

    def to_pem(self) -> str:
        """PKCS#1 in PEM, with a newline at the end."""
        return str(self._key.export_key("PEM", pkcs=1).decode("ascii")) + "\n"

    def decrypt(self, ciphertext: bytes) -> bytes:
        """``ciphertext ** d mod n``, both `size` bytes, with CRT and blinding. Raises ValueError where it is no
        number below the modulus, of its length."""
        number = int.from_bytes(ciphertext, "big")
        if len(ciphertext) != self.size or number >= self.public.modulus:
            raise ValueError("ciphertext is not a number below the modulus, of its length")
        return int(self._key._decrypt(number)).to_bytes(self.size, "big")  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return f"RsaPrivateKey({self.public.bits} bits)"


def _import(block: str) -> RSA.RsaKey:
    try:
        return RSA.import_key(block)
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise KeyFileError(f"the RSA key does not decode: {error}") from None


def _construct(numbers: tuple[int, ...]) -> RSA.RsaKey:
    try:
        return RSA.construct(numbers)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise KeyFileError(f"the RSA key is not valid: {error}") from None


def _from_hex(option: str, text: str) -> int:
    if not _HEX.match(text) or len(text) > MAX_BITS // 4 + 1:
        raise KeyFileError(f"{option} is not a hexadecimal number of at most {MAX_BITS} bits")
    return int(text, 16)


def _generate_small(bits: int) -> RSA.RsaKey:
    exponent = Integer(DEFAULT_EXPONENT)
    half = bits // 2
    # Both primes above sqrt(2) * 2**(half - 1), so that the product has exactly the wanted number of bits.
    floor = (Integer(1) << (2 * half - 1)).sqrt()

    def fits(candidate: Integer) -> bool:
        return bool(candidate > floor and (candidate - 1).gcd(exponent) == 1)

    p = Primality.generate_probable_prime(exact_bits=half, prime_filter=fits)
    q = p
    while q == p:
        q = Primality.generate_probable_prime(exact_bits=half, prime_filter=fits)
    d = exponent.inverse((p - 1).lcm(q - 1))
    return _construct((int(p * q), DEFAULT_EXPONENT, int(d), int(p), int(q)))


def _pkcs1_from_spki(spki: bytes) -> bytes:
    """The RSAPublicKey inside a SubjectPublicKeyInfo, both DER."""
    from Crypto.Util.asn1 import DerBitString, DerSequence

    info = DerSequence().decode(spki)
    return bytes(DerBitString().decode(info[1]).value)


def _pem(label: str, der: bytes) -> str:
    import base64

    text = base64.b64encode(der).decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
