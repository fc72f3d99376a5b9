"""PNG: a text chunk after the header chunk.

https://www.w3.org/TR/png-3/, sections 5.2 (signature), 5.3 (chunks), 11.3.3 (text). Text
chunks may stand anywhere between IHDR and IEND, so nothing else moves its order.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from trove_async.middleware.base import Edit
from trove_async.middleware.watermark.spans import Look, Place, Spans, Unfit
from trove_async.middleware.watermark.text import encoded

__all__ = ["MOST", "locate"]

MOST = 65536
"""Bytes of text in UTF-8. The format allows 2 GiB; readers commonly refuse some MiB."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START = _SIGNATURE + struct.pack(">I4s", 13, b"IHDR")
_HEADER = len(_START) + 13 + 4
"""Bytes before the second chunk."""
_KEYWORD = b"Watermark"
_CHUNK_TYPE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class _AfterHeader:
    def mark(self, text: str) -> Edit:
        data = encoded(text, MOST)
        try:
            chunk = b"tEXt" + _KEYWORD + b"\0" + text.encode("latin-1")
        except UnicodeEncodeError:
            # No compression, no language, no translated keyword.
            chunk = b"iTXt" + _KEYWORD + b"\0\0\0\0\0" + data
        size = struct.pack(">I", len(chunk) - 4)
        return Edit(_HEADER, size + chunk + struct.pack(">I", zlib.crc32(chunk)))


def locate(size: int) -> Look[Place]:
    head = yield from Spans(size).read(0, _HEADER + 8)
    if not head.startswith(_START):
        raise Unfit("not a PNG image")
    if len(head) < _HEADER + 8:
        raise Unfit("a PNG image that is cut short")
    if zlib.crc32(head[12 : _HEADER - 4]) != int.from_bytes(head[_HEADER - 4 : _HEADER], "big"):
        raise Unfit("a PNG image with a damaged header")
    if not _CHUNK_TYPE.issuperset(head[_HEADER + 4 :]):
        raise Unfit("a PNG image without a chunk after its header")
    return _AfterHeader()
