"""One object of a PDF at its place, and the bytes of its stream.

ISO 32000-2, 7.3.8 (streams), 7.3.10 (indirect objects), 7.4.4 (Flate).
"""

from __future__ import annotations

import re
import zlib

from trove_async.middleware.watermark.pdf_syntax import Dictionary, dictionary, skip_space
from trove_async.middleware.watermark.spans import PAGE, Look, Spans, Unfit

__all__ = ["inflated", "is_deflated", "object_at", "only"]

_OBJECT = re.compile(rb"([0-9]{1,10})[\x00\t\n\x0c\r ]+([0-9]{1,5})[\x00\t\n\x0c\r ]+obj")
_STREAM = re.compile(rb"stream(\r\n|\n)")


def object_at(
    spans: Spans, at: int, number: int | None = None
) -> Look[tuple[int, Dictionary, int]]:
    """Number, dictionary and where the bytes of the stream begin (0: none) of the object there."""
    data = yield from spans.read(at, 64)
    found = _OBJECT.match(data, skip_space(data, 0))
    if found is None or (number is not None and int(found[1]) != number):
        raise Unfit("a PDF whose cross-references lead to something else")
    value = yield from dictionary(spans, at + found.end())
    data = yield from spans.read(value.end, 64)
    begin = skip_space(data, 0)
    if stream := _STREAM.match(data, begin):
        return int(found[1]), value, value.end + stream.end()
    if not data.startswith(b"endobj", begin):
        raise Unfit("a PDF with a damaged object")
    return int(found[1]), value, 0


def only(value: Dictionary, name: bytes) -> bytes:
    """A value that may stand in an array of one."""
    written = value.entries.get(name, b"null")
    return written[1:-1].strip() if written.startswith(b"[") else written


def is_deflated(value: Dictionary) -> bool:
    filters = only(value, b"Filter")
    if filters not in (b"/FlateDecode", b"null", b""):
        raise Unfit("a PDF with a filter of its own choice where none is usual")
    return filters == b"/FlateDecode"


def inflated(spans: Spans, at: int, wanted: int) -> Look[bytes]:
    """The first ``wanted`` bytes, fewer only where the stream ends."""
    spans.count_inflated(wanted)
    machine = zlib.decompressobj()
    parts: list[bytes] = []
    length = 0
    step = PAGE
    while length < wanted and not machine.eof:
        data = yield from spans.read(at, step)
        if not data:
            break
        at += len(data)
        step = min(step * 2, 65536)
        try:
            part = machine.decompress(data, wanted - length)
        except zlib.error as exc:
            raise Unfit("a PDF with a damaged stream") from exc
        parts.append(part)
        length += len(part)
    return b"".join(parts)
