"""Keys from passphrases: scrypt with a bounded, recorded cost; and a small sealed document.

sealed  "TROVEKR1" | u8 log2(n) | u8 r | u8 p | u8 0 | 16-byte salt | 12-byte nonce
        | AES-256-GCM(scrypt(passphrase, salt), nonce, document, aad = the 40 bytes before)
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async.errors import EnvelopeError, InvalidConfigError, KeyUnwrapError

__all__ = ["ScryptCost", "derive", "is_sealed", "seal", "unseal"]

_MAGIC = b"TROVEKR1"
_HEADER = 40
_MiB = 1024 * 1024
_MOST_MEMORY = 1024 * _MiB
_MOST_WORK = 1 << 24


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """RFC 7914. The default takes 128 MiB and about 0.4 s, once for each keyring that is opened
    (OWASP's recommendation of 2024). InvalidConfigError beyond 1 GiB, or about 8 s: a file
    must not order more than that."""

    n: int = 1 << 17
    """Iterations: a power of two. Memory is 128 * n * r bytes."""
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        n, r, p = self.n, self.r, self.p
        if not (n > 1 and n & (n - 1) == 0 and 0 < r < 256 and 0 < p < 256):
            raise InvalidConfigError(f"scrypt cannot run with n={n}, r={r}, p={p}")
        if 128 * n * r > _MOST_MEMORY or n * r * p > _MOST_WORK:
            raise InvalidConfigError(f"scrypt with n={n}, r={r}, p={p} costs more than is allowed")


def derive(passphrase: str | bytes, salt: bytes, cost: ScryptCost) -> bytes:
    """A 32-byte key. Text is taken as UTF-8 of its NFC form, so that it does not matter how a
    keyboard composes an accent. Blocks: 0.4 s with the default cost."""
    if isinstance(passphrase, str):
        passphrase = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    if not passphrase:
        raise InvalidConfigError("an empty passphrase protects nothing")
    if len(salt) < 8:
        raise InvalidConfigError(f"a salt of {len(salt)} bytes; 16 random ones are right")
    n, r, p = cost.n, cost.r, cost.p
    room = 128 * r * (n + p + 2) + _MiB
    return hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, maxmem=room, dklen=32)


def is_sealed(data: bytes) -> bool:
    return data.startswith(_MAGIC)


def seal(document: bytes, passphrase: str | bytes, cost: ScryptCost) -> bytes:
    salt, nonce = os.urandom(16), os.urandom(12)  # a new key each time: no nonce is used twice
    numbers = bytes((cost.n.bit_length() - 1, cost.r, cost.p, 0))
    header = b"".join((_MAGIC, numbers, salt, nonce))
    return header + AESGCM(derive(passphrase, salt, cost)).encrypt(nonce, document, header)


def unseal(data: bytes, passphrase: str | bytes) -> bytes:
    """EnvelopeError for what `seal` does not give, KeyUnwrapError for another passphrase; a
    changed byte is one of the two."""
    if not is_sealed(data) or len(data) < _HEADER + 16 or data[11]:
        raise EnvelopeError("this is no sealed keyring, or a part of one")
    try:
        cost = ScryptCost(1 << data[8], data[9], data[10])
    except InvalidConfigError as exc:
        raise EnvelopeError("the sealed keyring asks for an impossible scrypt cost") from exc
    header, body = data[:_HEADER], data[_HEADER:]
    key = derive(passphrase, header[12:28], cost)
    try:
        return AESGCM(key).decrypt(header[28:], body, header)
    except InvalidTag as exc:
        raise KeyUnwrapError(
            "the keyring does not open: another passphrase, or the file was changed"
        ) from exc
