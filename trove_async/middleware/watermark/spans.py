"""Looking at a few spans of a large body, without I/O: a parser asks for bytes, its caller
reads them.

A parser is a generator that yields the span it wants and is sent its bytes, so that the
same code serves a store, a test and a fuzzer. What it reads is bounded here, whatever
the body says.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from trove_async.middleware.base import Edit

__all__ = ["Locate", "Look", "Place", "Span", "Spans", "Unfit"]

T = TypeVar("T")
Span = tuple[int, int]
Look = Generator[Span, bytes, T]

PAGE = 4096
"""Bytes that a request is never smaller than: round trips cost more than bytes."""
MOST_READS = 64
"""Requests for one body."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes read of one body, and bytes inflated from them, each."""
MOST_TOKENS = 50_000
"""Numbers, names, brackets and so on looked at in one body: below 100 ms of work."""


class Unfit(Exception):
    """This body cannot carry a watermark: it is not what its type says, is cut short, or would
    take too long to understand. It passes untouched."""


class Place(Protocol):
    """Where and how one body takes a text."""

    def mark(self, text: str) -> Edit:
        """Raises InvalidInputError for a text that the format cannot hold."""
        ...


Locate = Callable[[int], Look[Place]]
"""Finds the place in a body of that many bytes; raises Unfit."""


class Spans:
    """The spans of one body read so far."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._known: list[tuple[int, bytes]] = []
        self._bytes = 0
        self._inflated = 0
        self._tokens = 0

    def read(self, start: int, length: int) -> Look[bytes]:
        """``length`` bytes from ``start`` on, fewer only where the body ends."""
        stop = min(start + length, self.size)
        if start >= stop:
            return b""
        for position, data in self._known:
            if position <= start and stop <= position + len(data):
                return data[start - position : stop - position]
        stop_of_read = min(max(stop, start + PAGE), self.size)
        self._bytes += stop_of_read - start
        if len(self._known) == MOST_READS or self._bytes > MOST_BYTES:
            raise Unfit("too much would have to be read")
        data = yield start, stop_of_read
        self._known.append((start, data))
        return data[: stop - start]

    def count_inflated(self, size: int) -> None:
        self._inflated += size
        if self._inflated > MOST_BYTES:
            raise Unfit("too much would have to be inflated")

    def count_token(self) -> None:
        self._tokens += 1
        if self._tokens > MOST_TOKENS:
            raise Unfit("too much would have to be parsed")
