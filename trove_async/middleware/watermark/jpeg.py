"""JPEG: a comment segment behind the application segments that have to come first.

ITU-T T.81, B.1.1 (markers and segments), B.2.4.5 (COM). JFIF (ITU-T T.871, 10.1) wants its
APP0 right after SOI, Exif (CIPA DC-008, 4.5.4) its APP1 there or right after APP0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from trove_async.middleware.base import Edit
from trove_async.middleware.watermark.spans import Look, Place, Spans, Unfit
from trove_async.middleware.watermark.text import encoded

__all__ = ["MOST", "locate"]

MOST = 65533
"""Bytes of text in UTF-8: a segment's length is 16 bits and counts itself."""

_APP0, _APP1, _COM = 0xE0, 0xE1, 0xFE
_MOST_SEGMENTS = 24
"""Leading segments to step over. Behind so many a comment hinders nobody: what is left are
the parts of an extended XMP, which may stand anywhere."""
_ALONE = frozenset(range(0xD0, 0xDA))
"""RST0 to RST7, SOI and EOI: not what follows the application segments of an image."""


@dataclass(frozen=True, slots=True)
class _At:
    offset: int

    def mark(self, text: str) -> Edit:
        data = encoded(text, MOST)
        return Edit(self.offset, struct.pack(">BBH", 0xFF, _COM, len(data) + 2) + data)


def locate(size: int) -> Look[Place]:
    spans = Spans(size)
    start = yield from spans.read(0, 3)
    if start != b"\xff\xd8\xff":
        raise Unfit("not a JPEG image")
    position = 2
    for _ in range(_MOST_SEGMENTS):
        position, marker, length = yield from _segment(spans, position)
        if marker not in (_APP0, _APP1):
            break
        if length < 2:
            raise Unfit("a JPEG image with a damaged segment")
        position += 2 + length
    _, marker, _ = yield from _segment(spans, position)
    if not 0xC0 <= marker <= 0xFE or marker in _ALONE:
        raise Unfit("a JPEG image that goes on with no segment")
    return _At(position)


def _segment(spans: Spans, position: int) -> Look[tuple[int, int, int]]:
    """The place of the marker at or, behind fill bytes (B.1.1.2), soon after ``position``; the
    marker; the length that follows it."""
    data = yield from spans.read(position, 64)
    fill = len(data) - len(data.lstrip(b"\xff"))
    if fill == 0 or len(data) < fill + 3:
        raise Unfit("a JPEG image that is cut short or damaged")
    return position + fill - 1, data[fill], int.from_bytes(data[fill + 1 : fill + 3], "big")
