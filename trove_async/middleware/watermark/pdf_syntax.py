"""PDF objects as spans of bytes: where they begin and end, and the few values we look into.

ISO 32000-2, 7.2 (characters, comments) and 7.3 (objects). Values are kept as the bytes they
are written in, so that what is copied stays what it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trove_async.middleware.watermark.spans import Look, Spans, Unfit

__all__ = ["Dictionary", "dictionary", "parse_dictionary", "small", "spelled", "string"]

MOST_DICTIONARY = 1024 * 1024
"""Bytes of one dictionary; what we read are trailers and document information, which may
hold some long watermarks already."""
MOST_DEPTH = 32
MOST_DIGITS = 15

_REGULAR = rb"[^\x00\t\n\x0c\r ()<>\[\]{}/%]"
_SKIPPED = re.compile(rb"(?:[\x00\t\n\x0c\r ]++|%[^\r\n]*+(?=[\r\n]))*+")
_TOKEN = re.compile(
    rb"<<|>>|[\[\]()]|<[0-9A-Fa-f\x00\t\n\x0c\r ]*+>|/" + _REGULAR + rb"*+|" + _REGULAR + rb"++"
)
_SCALAR = re.compile(rb"[+-]?[0-9]*\.?[0-9]*|true|false|null|R")
_IN_STRING = re.compile(rb"(?:[^()\\]++|\\.)*+", re.DOTALL)
_REFERENCE = re.compile(
    rb"([0-9]{1,10})[\x00\t\n\x0c\r ]+([0-9]{1,5})[\x00\t\n\x0c\r ]+R(?!" + _REGULAR + rb")"
)
_ESCAPED = re.compile(rb"#([0-9A-Fa-f]{2})")
_TO_ESCAPE = re.compile(rb"[^!-~]|[#()<>\[\]{}/%]")


def skip_space(data: bytes, at: int) -> int:
    found = _SKIPPED.match(data, at)
    return found.end() if found is not None else at


def small(value: bytes) -> int:
    """A whole number that is not negative."""
    if not (value.isdigit() and len(value) <= MOST_DIGITS):
        raise Unfit("a PDF with something else where a number belongs")
    return int(value)


@dataclass(frozen=True, slots=True)
class Dictionary:
    entries: dict[bytes, bytes]
    """Values as written, by name without the slash and with its escapes undone."""
    body: bytes
    """All of it between the brackets, as written."""
    end: int
    """Where the bytes behind it begin."""

    def number(self, name: bytes) -> int:
        return small(self.entries.get(name, b""))

    def reference(self, name: bytes) -> tuple[int, int] | None:
        """Number and generation of the object that ``name`` refers to, if it does."""
        found = _REFERENCE.fullmatch(self.entries.get(name, b""))
        return (int(found[1]), int(found[2])) if found is not None else None


def parse_dictionary(spans: Spans, data: bytes, at: int = 0) -> Dictionary:
    at = skip_space(data, at)
    if not data.startswith(b"<<", at):
        raise Unfit("a PDF with something else where a dictionary belongs")
    at = start = at + 2
    entries: dict[bytes, bytes] = {}
    while True:
        at = skip_space(data, at)
        token = _token(spans, data, at)
        if token == b">>":
            return Dictionary(entries, data[start:at], at + 2)
        if not token.startswith(b"/"):
            raise Unfit("a PDF with a damaged dictionary")
        name = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), token[1:])
        begin = skip_space(data, at + len(token))
        reference = _REFERENCE.match(data, begin)
        at = reference.end() if reference is not None else _end_of_value(spans, data, begin)
        if name in entries:
            raise Unfit("a PDF with a dictionary that names something twice")
        entries[name] = data[begin:at]


def _token(spans: Spans, data: bytes, at: int) -> bytes:
    spans.count_token()
    found = _TOKEN.match(data, at)
    if found is None or found.end() == len(data):  # its rest may lie behind what was read
        raise Unfit("a PDF with a damaged or endless dictionary")
    return found[0]


def _end_of_value(spans: Spans, data: bytes, at: int) -> int:
    closing: list[bytes] = []
    while True:
        at = skip_space(data, at)
        token = _token(spans, data, at)
        at += len(token)
        if token == b"<<":
            closing.append(b">>")
        elif token == b"[":
            closing.append(b"]")
        elif token in (b">>", b"]"):
            if not closing or closing.pop() != token:
                raise Unfit("a PDF with brackets that do not match")
        elif token == b"(":
            at = _end_of_string(spans, data, at)
        elif token == b")":
            raise Unfit("a PDF with brackets that do not match")
        elif token[0] not in b"/<" and _SCALAR.fullmatch(token) is None:
            raise Unfit("a PDF with a damaged dictionary")
        if not closing:
            return at
        if len(closing) > MOST_DEPTH:
            raise Unfit("a PDF with values nested too deeply")


def _end_of_string(spans: Spans, data: bytes, at: int) -> int:
    depth = 1
    while depth:
        spans.count_token()
        found = _IN_STRING.match(data, at)
        at = found.end() if found is not None else at
        if at >= len(data) or data[at] == 0x5C:
            raise Unfit("a PDF with an endless string")
        depth += 1 if data[at] == 0x28 else -1
        at += 1
    return at


def dictionary(spans: Spans, at: int) -> Look[Dictionary]:
    """The dictionary at ``at``; reads more of the body for as long as it does not end."""
    length = 1024
    while True:
        data = yield from spans.read(at, length)
        try:
            found = parse_dictionary(spans, data)
        except Unfit:
            if len(data) < length or length == MOST_DICTIONARY:
                raise
            length *= 4
        else:
            return Dictionary(found.entries, found.body, at + found.end)


def spelled(name: bytes) -> bytes:
    """A name as it is written."""
    return b"/" + _TO_ESCAPE.sub(lambda found: b"#%02X" % found[0][0], name)


def string(text: str) -> bytes:
    """A text string (7.9.2.2): ASCII as it is, all else in UTF-16."""
    if not text.isascii():
        return b"<FEFF" + text.encode("utf-16-be").hex().upper().encode() + b">"
    data = text.encode()
    for plain, escaped in ((b"\\", b"\\\\"), (b"(", b"\\("), (b")", b"\\)"), (b"\n", b"\\n")):
        data = data.replace(plain, escaped)
    return b"(" + data + b")"
