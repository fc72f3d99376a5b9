"""The bytes an object has in place of its content, and the names by which content is owned.

    reference : "TROVE\\0D1" | u8 1 sha256, 2 blake3 | u8 0 | u16 lead | u64 size | 32 bytes digest
    lead      : "TROVE\\0DS" | 32 bytes sha256("trove/dedup/space/1\\0" + the space's name)

Little-endian. The content is the blob with this digest, less the ``lead`` bytes at its start,
which tell one address space from another; ``size`` is without them. An owner is
``dedup:<bucket>/<id>/<key>``, where the id begins with its time.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Self

from trove_async.driver.base import Bytes
from trove_async.errors import FormatLimitError, TruncatedError, UnsupportedFormatError

__all__ = [
    "ENCODING",
    "HINT",
    "LENGTH",
    "Reference",
    "age_of",
    "lead_of",
    "new_id",
    "owner_prefix",
    "owner_text",
    "parse_owner",
]

ENCODING: Final = "dedup"
HINT: Final = "o"
_MAGIC: Final = b"TROVE\0D1"
_SPACE: Final = b"TROVE\0DS"
_FIELDS: Final = struct.Struct("<8sBBHQ32s")
LENGTH: Final = _FIELDS.size
"""Bytes of every reference."""
_ALGORITHMS: Final = {"sha256": 1, "blake3": 2}
_NAMES: Final = {number: name for name, number in _ALGORITHMS.items()}
_ID: Final = 32


@dataclass(frozen=True, slots=True)
class Reference:
    digest: str
    """Of the whole blob, as its storage names it."""
    size: int
    """Bytes of the content."""
    lead: int
    """Bytes of the blob before it."""

    def encode(self) -> bytes:
        algorithm, _, text = self.digest.partition(":")
        number = _ALGORITHMS.get(algorithm)
        if number is None:
            raise UnsupportedFormatError(f"content named by {algorithm!r} cannot be referred to")
        return _FIELDS.pack(_MAGIC, number, 0, self.lead, self.size, bytes.fromhex(text))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """IntegrityError of some kind for everything that `encode` does not give."""
        if len(data) < LENGTH:
            raise TruncatedError(f"a reference has {LENGTH} bytes, not {len(data)}")
        if len(data) > LENGTH:
            raise FormatLimitError(f"a reference has {LENGTH} bytes, this has more")
        magic, number, reserved, lead, size, raw = _FIELDS.unpack(data)
        name = _NAMES.get(number)
        if magic != _MAGIC or name is None or reserved or lead not in (0, len(_SPACE) + 32):
            raise UnsupportedFormatError("not a reference that this version can read")
        return cls(f"{name}:{raw.hex()}", size, lead)

    @classmethod
    async def read(cls, chunks: AsyncIterable[Bytes]) -> Self:
        """From a stream; one byte more than a reference is read, no more."""
        data = b""
        async for chunk in chunks:
            data += bytes(chunk[: LENGTH + 1 - len(data)])
            if len(data) > LENGTH:
                break
        return cls.parse(data)


def lead_of(space: str) -> bytes:
    """What stands before content in the address space of this name; nothing in that of ``""``."""
    if not space:
        return b""
    return _SPACE + sha256(b"trove/dedup/space/1\0" + space.encode()).digest()


def new_id() -> str:
    """32 hex digits: 48 bits of milliseconds since 1970, then 80 random ones."""
    return f"{int(time.time() * 1000):012x}{os.urandom(10).hex()}"


def age_of(id: str, now: datetime) -> float:
    """Seconds since an id was made."""
    return (now - datetime.fromtimestamp(int(id[:12], 16) / 1000, UTC)).total_seconds()


def owner_prefix(bucket: str) -> str:
    return f"dedup:{bucket}/"


def owner_text(bucket: str, key: str, id: str) -> str:
    """By its place too: a copy that others made of the stored bytes owns nothing."""
    return f"dedup:{bucket}/{id}/{key}"


def parse_owner(owner: str, bucket: str) -> tuple[str, str] | None:
    """(id, key), or None for what `owner_text` never gave."""
    rest = owner.removeprefix(owner_prefix(bucket))
    id, slash, key = rest[:_ID], rest[_ID : _ID + 1], rest[_ID + 1 :]
    if slash != "/" or not key or not all(digit in "0123456789abcdef" for digit in id):
        return None
    return id, key
