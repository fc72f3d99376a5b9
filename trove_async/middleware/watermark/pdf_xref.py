"""Where the objects of a PDF are: cross-reference tables, streams, and both in one file.

ISO 32000-2, 7.5.4 (tables), 7.5.5 (trailer), 7.5.8 (streams; 7.5.8.4 hybrid files). Of a
table only the lines asked for are read; of a stream only the start up to the row asked for
is inflated.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from trove_async.middleware.watermark.pdf_syntax import (
    Dictionary,
    dictionary,
    parse_dictionary,
    skip_space,
    small,
)
from trove_async.middleware.watermark.spans import PAGE, Look, Spans, Unfit

__all__ = ["Section", "Sections", "information"]

MOST_RANGES = 4096
MOST_BEFORE = 1024 * 1024
"""Bytes of an object stream before the end of the document information; a fourth of it may
be the information itself."""
MOST_PAIRS = 65536
"""Bytes of an object stream before its first object."""
_LINE = 20
_HEADER = re.compile(rb"([0-9]{1,10}) +([0-9]{1,10})(?:[ \t]*(?:\r\n|\r|\n))[\x00\t\n\x0c\r ]*")
_ENTRY = re.compile(rb"([0-9]{10}) ([0-9]{5}) ([nf])[ \r\n]{1,2}")
_OBJECT = re.compile(rb"([0-9]{1,10})[\x00\t\n\x0c\r ]+([0-9]{1,5})[\x00\t\n\x0c\r ]+obj")
_STREAM = re.compile(rb"stream(\r\n|\n)")


@dataclass(frozen=True, slots=True)
class Section:
    """One cross-reference section: what one save of the document wrote."""

    at: int
    trailer: Dictionary
    ranges: list[tuple[int, int, int]]
    """First object, count, and of a table where its first line is, of a stream which row."""
    stream: _Rows | None = None
    hidden: list[Section] = field(default_factory=list)
    """Of a hybrid file: the stream that holds what old readers must not see."""

    @property
    def end(self) -> int:
        """No object that it knows has this number or a higher one."""
        own = max((first + count for first, count, _ in self.ranges), default=0)
        return max([own, *(section.end for section in self.hidden)])


@dataclass(frozen=True, slots=True)
class _Rows:
    at: int
    widths: tuple[int, int, int]
    deflated: bool
    predicted: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where one object is: in the file (``stream`` 0), or in an object stream."""

    offset: int
    generation: int
    stream: int = 0
    index: int = 0


class Sections:
    """The cross-reference sections of a document, the newest first; read when asked for."""

    def __init__(self, spans: Spans, newest: int) -> None:
        self._spans = spans
        self._next: int | None = newest
        self._seen: set[int] = set()
        self.known: list[Section] = []

    def more(self) -> Look[Section | None]:
        at = self._next
        if at is None:
            return None
        if at in self._seen:
            raise Unfit("a PDF whose cross-reference sections run in a circle")
        self._seen.add(at)
        section = yield from _section(self._spans, at)
        self.known.append(section)
        self._next = section.trailer.number(b"Prev") if _has(section.trailer, b"Prev") else None
        return section

    def all(self) -> Look[list[Section]]:
        while (yield from self.more()) is not None:
            pass
        return self.known

    def find(self, number: int) -> Look[_Entry | None]:
        """The newest entry of an object; None: there is none, or it is free."""
        position = 0
        while True:
            if position == len(self.known) and (yield from self.more()) is None:
                return None
            section = self.known[position]
            # A hybrid table calls free what the stream beside it knows.
            is_free = False
            for part in (section, *section.hidden):
                found = yield from _entry(self._spans, part, number)
                if isinstance(found, _Entry):
                    return found
                is_free = is_free or found
            if is_free:
                return None
            position += 1


def _has(trailer: Dictionary, name: bytes) -> bool:
    return trailer.entries.get(name, b"null") != b"null"


def _section(spans: Spans, at: int, *, hidden: bool = False) -> Look[Section]:
    data = yield from spans.read(at, 64)
    begin = skip_space(data, 0)
    if data.startswith(b"xref", begin) and not hidden:
        section = yield from _table(spans, at, at + begin + 4)
        if _has(section.trailer, b"XRefStm"):
            place = section.trailer.number(b"XRefStm")
            section.hidden.append((yield from _section(spans, place, hidden=True)))
    else:
        section = yield from _stream(spans, at)
    for part in (section, *section.hidden):
        if _has(part.trailer, b"Encrypt"):
            raise Unfit("an encrypted PDF")
    return section


def _table(spans: Spans, start: int, at: int) -> Look[Section]:
    ranges: list[tuple[int, int, int]] = []
    while True:
        data = yield from spans.read(at, 128)
        begin = skip_space(data, 0)
        found = _HEADER.match(data, begin)
        if found is None:
            break
        if len(ranges) == MOST_RANGES:
            raise Unfit("a PDF with too many pieces of a cross-reference table")
        line = at + found.end()
        ranges.append((int(found[1]), int(found[2]), line))
        at = line + _LINE * int(found[2])
    if not data.startswith(b"trailer", begin):
        raise Unfit("a PDF with a damaged cross-reference table")
    trailer = yield from dictionary(spans, at + begin + 7)
    return Section(start, trailer, ranges)


def _object(spans: Spans, at: int, number: int | None = None) -> Look[tuple[int, Dictionary, int]]:
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


def _stream(spans: Spans, at: int) -> Look[Section]:
    _, trailer, data = yield from _object(spans, at)
    if trailer.entries.get(b"Type") != b"/XRef" or not data:
        raise Unfit("a PDF whose last cross-references are not where it says")
    widths = [small(item) for item in _array(trailer, b"W")]
    if len(widths) != 3 or not 0 < sum(widths) <= 24:
        raise Unfit("a PDF with a damaged cross-reference stream")
    if b"Index" in trailer.entries:
        index = [small(item) for item in _array(trailer, b"Index")]
    else:
        index = [0, trailer.number(b"Size")]
    if len(index) % 2 or len(index) > 2 * MOST_RANGES:
        raise Unfit("a PDF with a damaged cross-reference stream")
    ranges: list[tuple[int, int, int]] = []
    row = 0
    for first, count in zip(index[::2], index[1::2], strict=True):
        ranges.append((first, count, row))
        row += count
    deflated = _is_deflated(trailer)
    rows = _Rows(
        data,
        (widths[0], widths[1], widths[2]),
        deflated,
        _is_predicted(spans, trailer, sum(widths)),
    )
    return Section(at, trailer, ranges, rows)


def _array(value: Dictionary, name: bytes) -> list[bytes]:
    written = value.entries.get(name, b"")
    if not (written.startswith(b"[") and written.endswith(b"]")):
        raise Unfit("a PDF with a damaged cross-reference stream")
    return written[1:-1].split()


def _only(value: Dictionary, name: bytes) -> bytes:
    """A value that may stand in an array of one."""
    written = value.entries.get(name, b"null")
    return written[1:-1].strip() if written.startswith(b"[") else written


def _is_deflated(value: Dictionary) -> bool:
    filters = _only(value, b"Filter")
    if filters not in (b"/FlateDecode", b"null", b""):
        raise Unfit("a PDF with a filter of its own choice where none is usual")
    return filters == b"/FlateDecode"


def _is_predicted(spans: Spans, value: Dictionary, columns: int) -> bool:
    """With the PNG predictors (7.4.4.4), one tag byte before each row of ``columns`` bytes."""
    written = _only(value, b"DecodeParms")
    if written in (b"null", b""):
        return False
    parameters = parse_dictionary(spans, written + b" ").entries
    predictor = small(parameters.get(b"Predictor", b"1"))
    if predictor == 1:
        return False
    usual = {b"Columns": b"%d" % columns, b"Colors": b"1", b"BitsPerComponent": b"8"}
    is_usual = {**usual, **parameters} == {**usual, b"Predictor": b"%d" % predictor}
    if predictor < 10 or not is_usual or b"Columns" not in parameters:
        raise Unfit("a PDF with an unusual predictor")
    return True


# -- one entry ---------------------------------------------------------------------------


def _entry(spans: Spans, section: Section, number: int) -> Look[_Entry | bool]:
    """The entry of an object; True: it is free, False: the section does not say."""
    for first, count, begin in section.ranges:
        if first <= number < first + count:
            if section.stream is None:
                return (yield from _line(spans, begin + _LINE * (number - first)))
            return (yield from _row(spans, section.stream, begin + number - first))
    return False


def _line(spans: Spans, at: int) -> Look[_Entry | bool]:
    found = _ENTRY.fullmatch((yield from spans.read(at, _LINE)))
    if found is None:
        raise Unfit("a PDF with a damaged cross-reference table")
    return _Entry(int(found[1]), int(found[2])) if found[3] == b"n" else True


def _row(spans: Spans, rows: _Rows, row: int) -> Look[_Entry | bool]:
    width = sum(rows.widths)
    step = width + rows.predicted
    wanted = (row + 1) * step
    if rows.deflated:
        data = yield from _inflated(spans, rows.at, wanted)
        values = _predicted(data, row, step) if rows.predicted else data[row * step : wanted]
    elif rows.predicted:
        raise Unfit("a PDF with an unusual predictor")
    else:
        values = yield from spans.read(rows.at + row * step, step)
    if len(values) != width:
        raise Unfit("a PDF with a cross-reference stream that is cut short")
    kind_end, second_end = rows.widths[0], rows.widths[0] + rows.widths[1]
    kind = int.from_bytes(values[:kind_end], "big") if kind_end else 1
    second = int.from_bytes(values[kind_end:second_end], "big")
    third = int.from_bytes(values[second_end:], "big")
    if kind == 1:
        return _Entry(second, third)
    if kind == 2 and second:
        return _Entry(0, 0, second, third)
    return True


def _predicted(data: bytes, row: int, step: int) -> bytes:
    """One row with the predictors None and Up undone. A column is summed up at once, from the
    last row on that does not build on the one above."""
    tags = data[0 : (row + 1) * step : step]
    if len(data) < (row + 1) * step:
        return b""
    first = max(0, len(tags.rstrip(b"\x02")) - 1)
    if tags[first] not in (0, 2):
        raise Unfit("a PDF with an unusual predictor")
    stop = (row + 1) * step
    return bytes(sum(data[first * step + column : stop : step]) & 0xFF for column in range(1, step))


def _inflated(spans: Spans, at: int, wanted: int) -> Look[bytes]:
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


# -- the document information ------------------------------------------------------------


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
    _, found, stream = yield from _object(spans, entry.offset, number)
    if stream:
        raise Unfit("a PDF whose document information is a stream")
    return found


def _in_stream(spans: Spans, sections: Sections, entry: _Entry, number: int) -> Look[Dictionary]:
    """An object in an object stream (7.5.7): pairs of number and offset, then the objects."""
    holder = yield from sections.find(entry.stream)
    if holder is None or holder.stream:
        raise Unfit("a PDF whose cross-references lead to something else")
    _, header, at = yield from _object(spans, holder.offset, entry.stream)
    if header.entries.get(b"Type") != b"/ObjStm" or not at:
        raise Unfit("a PDF whose cross-references lead to something else")
    deflated = _is_deflated(header)
    if header.entries.get(b"DecodeParms", b"null") != b"null":
        raise Unfit("a PDF with an unusual predictor")
    first = header.number(b"First")
    if first > MOST_PAIRS or entry.index >= header.number(b"N"):
        raise Unfit("a PDF with a damaged object stream")

    def start(length: int) -> Look[bytes]:
        return _inflated(spans, at, length) if deflated else spans.read(at, length)

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
