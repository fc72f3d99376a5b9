"""A body in parts: pulled by its put alone, held as pieces that nobody else can change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Final

from trove_async._threads import cpu_pool
from trove_async.driver import Bytes, Chunks

__all__ = ["Part", "Supply", "digest_of"]

_SMALL: Final = 16 * 1024
_JOINED: Final = 256 * 1024
_INLINE: Final = 128 * 1024  # bytes hashed on the event loop


@dataclass(frozen=True, slots=True)
class Part:
    pieces: Sequence[bytes | memoryview]
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

    __slots__ = ("_body", "_ended", "_rest", "_taken")

    def __init__(self, body: Chunks) -> None:
        self._body = body
        self._rest: bytes | memoryview | None = None
        self._ended = False
        self._taken: Part | None = None

    def put_back(self, part: Part) -> None:
        """The next `take` gives it, whatever size it asks for."""
        self._taken = part

    async def take(self, size: int) -> Part:
        """Looks at what follows, so that the last part is known to be it."""
        taken, self._taken = self._taken, None
        if taken is not None:
            return taken
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
            if len(chunk) < _SMALL and len(small) < _JOINED:
                small += chunk
                continue
            if small:
                pieces.append(bytes(small))
                small.clear()
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
        chunk = None if self._ended else await anext(self._body, None)
        if chunk is None:
            self._ended = True
            return None
        return _owned(chunk)


def _md5(part: Part) -> bytes:
    hasher = md5(usedforsecurity=False)
    for piece in part.pieces:
        hasher.update(piece)
    return hasher.digest()


async def digest_of(part: Part) -> bytes:
    """Its MD5, which is what the service compares uploads by."""
    if part.size <= _INLINE:
        return _md5(part)
    return await asyncio.get_running_loop().run_in_executor(cpu_pool(), _md5, part)
