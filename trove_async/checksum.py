"""Names of digests and what computes them. The only home of blake3 and xxhash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final, Literal, Protocol

import blake3
import xxhash

from trove_async.errors import InvalidInputError

__all__ = ["Algorithm", "Hasher", "digest_of", "is_digest", "new_hasher", "parse_digest"]

Algorithm = Literal["blake3", "sha256", "xxh3"]
"""``xxh3`` (128 bit) finds accidents only; it is no identity and no defence."""

Bytes = bytes | bytearray | memoryview


class Hasher(Protocol):
    def update(self, data: Bytes, /) -> object: ...
    def hexdigest(self) -> str: ...
    def digest(self) -> bytes: ...


_HASHERS: Final[dict[str, Callable[[], Hasher]]] = {
    "blake3": blake3.blake3,
    "sha256": hashlib.sha256,
    "xxh3": xxhash.xxh3_128,
}
_DIGEST: Final = re.compile(r"(?:(?:blake3|sha256):[0-9a-fA-F]{64}|xxh3:[0-9a-fA-F]{32})")

INLINE_LIMIT: Final = {"blake3": 8 << 20, "xxh3": 64 << 20, "sha256": 1 << 20}
"""Bytes hashed on the event loop in one go: under about 2 ms each on one 2-core machine."""


def new_hasher(algorithm: str) -> Hasher:
    try:
        return _HASHERS[algorithm]()
    except KeyError:
        raise InvalidInputError(
            f"unknown checksum algorithm {algorithm!r}; known: {', '.join(_HASHERS)}"
        ) from None


def digest_of(algorithm: str, data: Bytes) -> str:
    """``"<algorithm>:<hex>"`` of the whole of ``data``."""
    if algorithm == "blake3":  # the default, and for small objects a call less counts
        return f"blake3:{blake3.blake3(data).hexdigest()}"
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return f"{algorithm}:{hasher.hexdigest()}"


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def parse_digest(text: str) -> tuple[str, str]:
    """Splits ``"<algorithm>:<hex>"``; InvalidInputError unless both halves are well-formed."""
    if not is_digest(text):
        raise InvalidInputError(f"not a digest of a known algorithm: {text[:100]!r}")
    algorithm, _, value = text.lower().partition(":")
    return algorithm, value
