"""A body in parts: pulled by its put alone, held as pieces that nobody else can change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import TrailingDataError, TruncatedError

__all__ = ["Part", "Supply", "check_size", "rest_of"]

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

    __slots__ = ("_body", "_has_ended", "_rest", "_taken")

    def __init__(self, body: Chunks) -> None:
        self._body = body
        self._rest: bytes | memoryview | None = None
        self._has_ended = False
        self._taken: Part | None = None

    async def peek(self, size: int) -> Part:
        """The part that the next `take` gives, whatever size it asks for."""
        if self._taken is None:
            self._taken = await self.take(size)
        return self._taken

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
        if self._rest is None:
            self._rest = await self._next()
        return Part(pieces, length, self._rest is None)

    async def _next(self) -> bytes | memoryview | None:
        rest, self._rest = self._rest, None
        if rest is not None:
            return rest
        if self._has_ended:
            return None
        chunk = await anext(self._body, None)
        if chunk is None:
            self._has_ended = True
            return None
        return _owned(chunk)


def rest_of(pieces: list[bytes | memoryview], done: int) -> list[bytes | memoryview]:
    """Without the first ``done`` bytes."""
    left: list[bytes | memoryview] = []
    for piece in pieces:
        if done >= len(piece):
            done -= len(piece)
        elif done:
            left.append(memoryview(piece)[done:])
            done = 0
        else:
            left.append(piece)
    return left


def check_size(size: int, declared: int | None) -> None:
    if declared is not None and size != declared:
        kind = TruncatedError if size < declared else TrailingDataError
        raise kind(f"the body has {size} bytes, {declared} were declared")
