"""A body in parts, held as pieces that nobody else can change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trove_async.driver import Bytes, Chunks
from trove_async.errors import TrailingDataError, TruncatedError

__all__ = ["Part", "Parts", "check_size", "rest_of"]

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


class Parts:
    """Of exactly the size asked for, but for the last one, which is known to be it."""

    __slots__ = ("_body", "_next", "has_ended")

    def __init__(self, body: Chunks) -> None:
        self._body = body
        self._next: bytes | memoryview | None = None
        self.has_ended = False

    async def take(self, size: int) -> Part:
        pieces: list[bytes | memoryview] = []
        small = bytearray()  # many tiny chunks cost more in objects than in bytes
        length = 0
        while length < size and (chunk := await self._pulled()) is not None:
            if length + len(chunk) > size:
                view = memoryview(chunk)
                chunk, self._next = view[: size - length], view[size - length :]
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
        self._next = await self._pulled()
        return Part(pieces, length, self._next is None)

    async def _pulled(self) -> bytes | memoryview | None:
        held, self._next = self._next, None
        if held is not None or self.has_ended:
            return held
        chunk = await anext(self._body, None)
        if chunk is None:
            self.has_ended = True
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
