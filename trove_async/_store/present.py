"""What presenters insert into what a reader sees: sizes, ranges and streams of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from trove_async._chunks import OneChunk
from trove_async._supply import Supply
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import InvalidInputError, TruncatedError
from trove_async.middleware.base import Context, Edit, RangeSource
from trove_async.middleware.pipeline import Entry

__all__ = ["Shown", "shown"]


class Shown:
    """The bytes below with insertions: a source of the presented bytes."""

    __slots__ = ("_below", "_edits", "size")

    def __init__(self, below: RangeSource, edits: Sequence[Edit]) -> None:
        self._below = below
        self._edits = [edit for edit in edits if edit.data]
        self.size = below.size + sum(len(edit.data) for edit in edits)
        last = 0
        for edit in self._edits:
            if not last <= edit.offset <= below.size:
                raise InvalidInputError("a presenter's insertions are not in rising order")
            last = edit.offset

    def below(self, position: int) -> int:
        """How many of the bytes below stand before that byte of the presented ones."""
        shift = 0
        for edit in self._edits:
            if position <= edit.offset + shift:
                break
            if position <= edit.offset + shift + len(edit.data):
                return edit.offset
            shift += len(edit.data)
        return position - shift

    async def splice(self, chunks: Chunks, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        """The presented bytes ``start`` to ``stop``, given those below them; pulls ``chunks``
        to their end, where they are checked."""
        supply = Supply(chunks)
        position = start
        shift = 0
        for edit in self._edits:
            begins = edit.offset + shift
            ends = begins + len(edit.data)
            while position < min(begins, stop):
                piece = await supply.some(min(begins, stop) - position)
                if piece is None:
                    raise TruncatedError("the body ended before all of it was shown")
                yield piece
                position += len(piece)
            if begins <= position < min(ends, stop):
                yield edit.data[position - begins : min(ends, stop) - begins]
                position = min(ends, stop)
            shift += len(edit.data)
        async for rest in supply:
            yield rest

    def read(self, start: int, stop: int) -> Chunks:
        if start >= stop:
            return OneChunk(b"")
        return self._read(start, stop)

    async def _read(self, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        async with (
            aclosing(self._below.read(self.below(start), self.below(stop))) as chunks,
            aclosing(self.splice(chunks, start, stop)) as spliced,
        ):
            async for chunk in spliced:
                yield chunk


async def shown(presenters: Sequence[Entry], source: RangeSource, context: Context) -> list[Shown]:
    """Asks each presenter, the one nearest the driver first; each sees what those before it
    show. Those that leave the object as it is are not in the answer."""
    result: list[Shown] = []
    for entry in reversed(presenters):
        if entry.presenter is None:
            continue
        edits = await entry.presenter.edits(source, context)
        if edits:
            layer = Shown(source, edits)
            result.append(layer)
            source = layer
    return result
