"""Where the objects of a PDF are: cross-reference tables, streams, and both in one file.

ISO 32000-2, 7.5.4 (tables), 7.5.5 (trailer), 7.5.8 (streams; 7.5.8.4 hybrid files). Of a
table only the lines asked for are read; of a stream only the start up to the row asked for
is inflated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from trove_async.middleware.watermark.pdf_objects import inflated, is_deflated, object_at, only
from trove_async.middleware.watermark.pdf_syntax import (
    Dictionary,
    dictionary,
    parse_dictionary,
    skip_space,
    small,
)
from trove_async.middleware.watermark.spans import Look, Spans, Unfit

__all__ = ["Entry", "Section", "Sections"]

MOST_RANGES = 4096
_LINE = 20
_HEADER = re.compile(rb"([0-9]{1,10}) +([0-9]{1,10})(?:[ \t]*(?:\r\n|\r|\n))[\x00\t\n\x0c\r ]*")
_ENTRY = re.compile(rb"([0-9]{10}) ([0-9]{5}) ([nf])[ \r\n]{1,2}")


@dataclass(frozen=True, slots=True)
class Section:
    """One cross-reference section: what one save of the document wrote."""

    trailer: Dictionary
    ranges: list[tuple[int, int, int]]
    """First object, count, and of a table where its first line is, of a stream which row."""
    stream: _Rows | None = None
    hidden: list[Section] = field(default_factory=list)
    """Of a hybrid file: the stream that holds what old readers must not see."""

    @property
    def ends(self) -> list[int]:
        """Of each range, the lowest number above it."""
        own = [first + count for first, count, _ in self.ranges]
        return [end for section in self.hidden for end in section.ends] + own


@dataclass(frozen=True, slots=True)
class _Rows:
    at: int
    widths: tuple[int, int, int]
    deflated: bool
    predicted: bool


@dataclass(frozen=True, slots=True)
class Entry:
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
        previous = section.trailer.number(b"Prev") if _has(section.trailer, b"Prev") else 0
        self._next = previous or None  # some write 0 where there is none
        return section

    def all(self) -> Look[list[Section]]:
        while (yield from self.more()) is not None:
            pass
        return self.known

    def find(self, number: int) -> Look[Entry | None]:
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
                if isinstance(found, Entry):
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
        section = yield from _table(spans, at + begin + 4)
        if _has(section.trailer, b"XRefStm"):
            place = section.trailer.number(b"XRefStm")
            section.hidden.append((yield from _section(spans, place, hidden=True)))
    else:
        section = yield from _stream(spans, at)
    for part in (section, *section.hidden):
        if _has(part.trailer, b"Encrypt"):
            raise Unfit("an encrypted PDF")
    return section


def _table(spans: Spans, at: int) -> Look[Section]:
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
    return Section(trailer, ranges)


def _stream(spans: Spans, at: int) -> Look[Section]:
    _, trailer, data = yield from object_at(spans, at)
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
    predicted = _is_predicted(spans, trailer, sum(widths))
    shape = (widths[0], widths[1], widths[2])
    return Section(trailer, ranges, _Rows(data, shape, is_deflated(trailer), predicted))


def _array(value: Dictionary, name: bytes) -> list[bytes]:
    written = value.entries.get(name, b"")
    if not (written.startswith(b"[") and written.endswith(b"]")):
        raise Unfit("a PDF with a damaged cross-reference stream")
    return written[1:-1].split()


def _is_predicted(spans: Spans, value: Dictionary, columns: int) -> bool:
    """With the PNG predictors (7.4.4.4), one tag byte before each row of ``columns`` bytes."""
    written = only(value, b"DecodeParms")
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


def _entry(spans: Spans, section: Section, number: int) -> Look[Entry | bool]:
    """The entry of an object; True: it is free, False: the section does not say."""
    for first, count, begin in section.ranges:
        if first <= number < first + count:
            if section.stream is None:
                return (yield from _line(spans, begin + _LINE * (number - first)))
            return (yield from _row(spans, section.stream, begin + number - first))
    return False


def _line(spans: Spans, at: int) -> Look[Entry | bool]:
    found = _ENTRY.fullmatch((yield from spans.read(at, _LINE)))
    if found is None:
        raise Unfit("a PDF with a damaged cross-reference table")
    return Entry(int(found[1]), int(found[2])) if found[3] == b"n" else True


def _row(spans: Spans, rows: _Rows, row: int) -> Look[Entry | bool]:
    width = sum(rows.widths)
    step = width + rows.predicted
    wanted = (row + 1) * step
    if rows.deflated:
        data = yield from inflated(spans, rows.at, wanted)
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
        return Entry(second, third)
    if kind == 2 and second:
        return Entry(0, 0, second, third)
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
