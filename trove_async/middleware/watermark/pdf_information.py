"""The document information of a PDF, in the file itself or in an object stream.

ISO 32000-2, 14.3.3 (document information), 7.5.7 (object streams).
"""

from __future__ import annotations

from trove_async.middleware.watermark.pdf_objects import inflated, is_deflated, object_at
from trove_async.middleware.watermark.pdf_syntax import Dictionary, parse_dictionary, small
from trove_async.middleware.watermark.pdf_xref import Entry, Sections
from trove_async.middleware.watermark.spans import Look, Spans, Unfit

__all__ = ["information"]

MOST_BEFORE = 1024 * 1024
"""Bytes of an object stream before the end of the document information; a fourth of it may
be the information itself."""
MOST_PAIRS = 65536
"""Bytes of an object stream before its first object."""


def information(
    spans: Spans, sections: Sections, reference: tuple[int, int]
) -> Look[Dictionary | None]:
    """The dictionary that the trailer's Info refers to; None: there is no such object."""
    number, generation = reference
    entry = yield from sections.find(number)
    if entry is None:
        return None
    if entry.generation != generation:
        raise Unfit("a PDF whose cross-references lead to something else")
    if entry.stream:
        return (yield from _in_stream(spans, sections, entry, number))
    _, found, stream = yield from object_at(spans, entry.offset, number)
    if stream:
        raise Unfit("a PDF whose document information is a stream")
    return found


def _in_stream(spans: Spans, sections: Sections, entry: Entry, number: int) -> Look[Dictionary]:
    """An object in an object stream (7.5.7): pairs of number and offset, then the objects."""
    holder = yield from sections.find(entry.stream)
    if holder is None or holder.stream:
        raise Unfit("a PDF whose cross-references lead to something else")
    _, header, at = yield from object_at(spans, holder.offset, entry.stream)
    if header.entries.get(b"Type") != b"/ObjStm" or not at:
        raise Unfit("a PDF whose cross-references lead to something else")
    deflated = is_deflated(header)
    if header.entries.get(b"DecodeParms", b"null") != b"null":
        raise Unfit("a PDF with an unusual predictor")
    first = header.number(b"First")
    if first > MOST_PAIRS or entry.index >= header.number(b"N"):
        raise Unfit("a PDF with a damaged object stream")

    def start(length: int) -> Look[bytes]:
        return inflated(spans, at, length) if deflated else spans.read(at, length)

    pairs = (yield from start(first)).split(None, 2 * entry.index + 4)[2 * entry.index :]
    if len(pairs) < 2 or small(pairs[0]) != number:
        raise Unfit("a PDF with a damaged object stream")
    begin = first + small(pairs[1])
    end = begin + MOST_BEFORE // 4
    if len(pairs) >= 4 and pairs[3].isdigit():
        end = max(begin, min(end, first + small(pairs[3])))
    if end > MOST_BEFORE:
        raise Unfit("a PDF whose document information lies too far in an object stream")
    data = yield from start(end)
    return parse_dictionary(spans, data[begin:] + b" ")
