"""A body in parts: pulled by its put alone, held as pieces that nobody else can change."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import Final

from trove_async.driver import Bytes, Chunks

__all__ = ["Part", "Supply", "Sums", "crc_combined"]

_SMALL: Final = 16 * 1024
_JOINED: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    pieces: list[bytes | memoryview]
    size: int
    is_last: bool


def _owned(chunk: Bytes) -> bytes | memoryview:
    """A chunk that stays as it is: its producer may use a buffer again."""
    if type(chunk) is bytes:
        return chunk
    if isinstance(chunk, memoryview) and type(chunk.obj) is bytes and chunk.contiguous:
        return chunk
    return bytes(chunk)


class Supply:
    """Parts of exactly the size asked for, but for the last one."""

    __slots__ = ("_body", "_ended", "_rest")

    def __init__(self, body: Chunks) -> None:
        self._body = body
        self._rest: bytes | memoryview | None = None
        self._ended = False

    async def take(self, size: int) -> Part:
        """Looks at what follows, so that the last part is known to be it."""
        pieces: list[bytes | memoryview] = []
        small = bytearray()  # many tiny chunks cost more in objects than in bytes
        length = 0
        while length < size:
            chunk = await self._next()
            if chunk is None:
                break
            if length + len(chunk) > size:
                view = memoryview(chunk)
                chunk, self._rest = view[: size - length], view[size - length :]
            length += len(chunk)
            if len(chunk) < _SMALL:
                small += chunk
                if len(small) < _JOINED:
                    continue
                chunk = b""
            if small:
                pieces.append(bytes(small))
                small.clear()
            if chunk:
                pieces.append(chunk)
        if small:
            pieces.append(bytes(small))
        if self._rest is None and not self._ended:
            self._rest = await self._next()
        return Part(pieces, length, self._rest is None)

    async def _next(self) -> bytes | memoryview | None:
        rest, self._rest = self._rest, None
        if rest is not None:
            return rest
        if self._ended:
            return None
        chunk = await anext(self._body, None)
        if chunk is None:
            self._ended = True
            return None
        return _owned(chunk)


@dataclass(slots=True)
class Sums:
    """What is told, or compared, of a body that was sent."""

    crc: int = 0
    sha256: str | None = None

    @classmethod
    def of(cls, part: Part, *, with_sha256: bool) -> Sums:
        sums = cls()
        hasher = sha256() if with_sha256 else None
        for piece in part.pieces:
            sums.crc = zlib.crc32(piece, sums.crc)
            if hasher is not None:
                hasher.update(piece)
        if hasher is not None:
            sums.sha256 = hasher.hexdigest()
        return sums


def md5_of(part: Part) -> str:
    hasher = md5(usedforsecurity=False)
    for piece in part.pieces:
        hasher.update(piece)
    return hasher.hexdigest()


_POLYNOMIAL: Final = 0xEDB88320


def _times(a: int, b: int) -> int:
    """a * b modulo the CRC's polynomial, bits reflected."""
    product = 0
    mask = 1 << 31
    while True:
        if a & mask:
            product ^= b
        mask >>= 1
        if not mask:
            return product
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1


def crc_combined(first: int, second: int, length: int) -> int:
    """The CRC32 of two bodies one after the other, the second of ``length`` bytes.

    As zlib's crc32_combine: the first is shifted by x^(8 * length)."""
    power, square = 1 << 31, 1 << 23  # x^0, x^8
    while length:
        if length & 1:
            power = _times(power, square)
        square = _times(square, square)
        length >>= 1
    return _times(power, first) ^ second
