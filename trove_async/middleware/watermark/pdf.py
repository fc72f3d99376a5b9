"""PDF: an incremental update that adds an entry to the document information.

ISO 32000-2, 7.5.6 (incremental updates), 14.3.3 (document information). The bytes of the
document stay as they are; behind them come the information dictionary with one entry more,
a cross-reference section of the kind that the document has, and its trailer.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from trove_async.middleware.base import Edit
from trove_async.middleware.watermark.pdf_information import information
from trove_async.middleware.watermark.pdf_syntax import (
    Dictionary,
    parse_dictionary,
    spelled,
    string,
)
from trove_async.middleware.watermark.pdf_xref import Section, Sections
from trove_async.middleware.watermark.spans import Look, Place, Spans, Unfit
from trove_async.middleware.watermark.text import encoded

__all__ = ["MOST", "locate"]

MOST = 65536
"""Bytes of text in UTF-8, well below what readers hold."""

_ENTRY = b"Watermark"
_WHOLE = 65536
"""Bytes of a document that is read at once: few requests cost less than few bytes."""
_TAIL = 16384
"""Bytes read of the end: with the last trailer, in most documents."""
_END = 2048
"""Bytes of the end that hold the last ``startxref``; readers look at 1,024."""
_MOST_NUMBER = 2**31 - 2
_MOST_TABLE_OFFSET = 9_999_999_999
"""A line of a table has ten digits."""
_STARTXREF = re.compile(
    rb"startxref[\x00\t\n\x0c\r ]+([0-9]{1,15})[\x00\t\n\x0c\r ]+%%EOF(?![^\x00\t\n\x0c\r ])"
)
# Of a trailer, what an update says anew and what describes the bytes of a stream.
_ANEW = frozenset({b"Size", b"Info", b"Prev", b"XRefStm"})
_OF_STREAMS = frozenset(b"Type W Index Length DL Filter DecodeParms F FFilter FDecodeParms".split())


@dataclass(frozen=True, slots=True)
class _Behind:
    """The end of a document, and what an update there has to say."""

    size: int
    previous: int
    """Offset of the newest cross-reference section."""
    is_stream: bool
    """The document has cross-reference streams, not tables."""
    number: int
    generation: int
    """Of the document information."""
    information: Dictionary
    fresh: int
    """An object number that nothing has, nor anything above it."""
    count: int
    """What the document gives as its number of objects."""
    trailer: dict[bytes, bytes]

    def mark(self, text: str) -> Edit:
        encoded(text, MOST)
        value = (
            b"\n%d %d obj\n<<" % (self.number, self.generation)
            + self.information.body
            + b"\n%b %b\n>>\nendobj\n" % (spelled(self._entry()), string(text))
        )
        at = self.size + len(value)
        tail = self._stream(at) if self.is_stream else self._table()
        return Edit(self.size, value + tail + b"startxref\n%d\n%%%%EOF\n" % at)

    def _entry(self) -> bytes:
        """A name that is not taken: a mark on a marked document hides no other."""
        name, count = _ENTRY, 1
        while name in self.information.entries:
            count += 1
            name = _ENTRY + b"%d" % count
        return name

    def _table(self) -> bytes:
        # The object begins behind the line feed that the update begins with. The line of
        # object 0 need not be here, but readers take a table without it for a damaged one.
        lines = b"0 1\n%010d %05d f \n" % (0, 65535)
        lines += b"%d 1\n%010d %05d n \n" % (self.number, self.size + 1, self.generation)
        size = max(self.count, self.number + 1)
        return b"xref\n%btrailer\n<<%b\n>>\n" % (lines, self._said(size))

    def _stream(self, at: int) -> bytes:
        number = self.fresh if self.number < self.fresh else self.number + 1
        rows = struct.pack(">BQHBQH", 1, self.size + 1, self.generation, 1, at, 0)
        said = self._said(max(self.count, number + 1))
        return (
            b"%d 0 obj\n<<\n/Type /XRef\n/W [1 8 2]\n/Index [%d 1 %d 1]\n/Length %d"
            % (number, self.number, number, len(rows))
            + said
            + b"\n>>\nstream\n"
            + rows
            + b"\nendstream\nendobj\n"
        )

    def _said(self, size: int) -> bytes:
        kept = b"".join(
            b"\n%b %b" % (spelled(name), value)
            for name, value in self.trailer.items()
            if name not in _ANEW and name not in _OF_STREAMS
        )
        reference = (self.number, self.generation)
        return kept + b"\n/Size %d\n/Info %d %d R\n/Prev %d" % (size, *reference, self.previous)


def locate(size: int) -> Look[Place]:
    spans = Spans(size)
    if size <= _WHOLE:
        yield from spans.read(0, size)
    head = yield from spans.read(0, 8)
    if re.fullmatch(rb"%PDF-[0-9]\.[0-9]", head) is None:
        raise Unfit("not a PDF document")
    begin = max(0, size - _TAIL)
    tail = (yield from spans.read(begin, _TAIL))[-_END:]
    found = _STARTXREF.match(tail, max(0, tail.rfind(b"startxref")))
    if found is None:
        raise Unfit("a PDF that does not end as one")
    previous = _offset(found[1], size)
    sections = Sections(spans, previous)
    newest = yield from sections.more()
    if newest is None or newest.trailer.reference(b"Root") is None:
        raise Unfit("a PDF without a root")
    return (yield from _behind(spans, sections, newest, previous))


def _offset(digits: bytes, size: int) -> int:
    offset = int(digits)
    if not 0 < offset < size:
        raise Unfit("a PDF whose last cross-references are not where it says")
    return offset


def _behind(spans: Spans, sections: Sections, newest: Section, previous: int) -> Look[_Behind]:
    trailer = newest.trailer
    is_stream = newest.stream is not None
    written = trailer.entries.get(b"Info", b"null")
    reference = trailer.reference(b"Info")
    value: Dictionary | None = None
    if reference is not None:
        value = yield from information(spans, sections, reference)
    elif written != b"null":  # in the trailer itself, which is not allowed and yet found
        value = parse_dictionary(spans, written + b" ")
    if value is None:
        value = Dictionary({}, b"", 0)
        reference = None
    fresh = count = trailer.number(b"Size")
    if reference is None or is_stream:
        # Some documents give a count that is too small, which readers forgive. Numbers above
        # a third of the file's bytes are damage, and what has one is ignored (so does qpdf).
        every = yield from sections.all()
        ends = [count, *(end for section in every for end in section.ends)]
        fresh = max([end for end in ends if end <= spans.size // 3] or ends)
    number, generation = reference if reference is not None else (fresh, 0)
    highest = max(number, fresh, count)
    if min(number, fresh, count) < 1 or highest > _MOST_NUMBER or generation > 65535:
        raise Unfit("a PDF with object numbers beyond all bounds")
    if not is_stream and spans.size >= _MOST_TABLE_OFFSET:
        raise Unfit("a PDF too large for a cross-reference table")
    return _Behind(
        spans.size, previous, is_stream, number, generation, value, fresh, count, trailer.entries
    )
