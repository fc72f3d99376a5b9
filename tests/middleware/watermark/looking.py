"""Runs a parser of the watermark over bytes in memory, and counts what it reads."""

from __future__ import annotations

from dataclasses import dataclass

from trove_async.middleware import Edit
from trove_async.middleware.watermark.spans import Locate, Place, Unfit

__all__ = ["Seen", "edit_of", "look", "marked", "reason"]


@dataclass
class Seen:
    place: Place
    reads: int
    length: int
    """Bytes read in all."""


def look(locate: Locate, data: bytes) -> Seen:
    """Raises Unfit."""
    steps = locate(len(data))
    reads = length = 0
    try:
        start, stop = next(steps)
        while True:
            assert 0 <= start < stop <= len(data), "asks for bytes that are not there"
            reads += 1
            length += stop - start
            start, stop = steps.send(data[start:stop])
    except StopIteration as done:
        return Seen(done.value, reads, length)


def edit_of(locate: Locate, data: bytes, text: str) -> Edit:
    return look(locate, data).place.mark(text)


def marked(locate: Locate, data: bytes, text: str) -> bytes:
    edit = edit_of(locate, data, text)
    return data[: edit.offset] + edit.data + data[edit.offset :]


def reason(locate: Locate, data: bytes) -> str | None:
    """Why a body passes untouched; None: it does not."""
    try:
        look(locate, data)
    except Unfit as exc:
        return str(exc)
    return None
