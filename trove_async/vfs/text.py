"""Text over bytes, as `io.TextIOWrapper` has it."""

from __future__ import annotations

import codecs
import io
import os
import re
from typing import Final, NamedTuple

from trove_async.errors import InvalidInputError

__all__ = ["TextReader", "TextWriter", "check_text"]

_NEWLINES: Final = (None, "", "\n", "\r", "\r\n")
_FLAGS: Final = 64  # bits of a place that its byte takes, and as many for the decoder's flags


class _Mark(NamedTuple):
    """Where decoding can begin anew: this character of the text is this byte of the file."""

    at: int
    place: int
    flags: int


def check_text(encoding: str | None, errors: str | None, newline: str | None) -> tuple[str, str]:
    """(encoding, errors) with their defaults, UTF-8 and strict. LookupError and
    InvalidInputError for what is unknown."""
    if newline not in _NEWLINES:
        raise InvalidInputError(f"illegal newline value: {newline!r}")
    codecs.lookup(encoding or "utf-8")
    codecs.lookup_error(errors or "strict")
    return encoding or "utf-8", errors or "strict"


class TextReader:
    """Decodes what it is fed. Places in it are told as a number that only `at` understands."""

    def __init__(self, encoding: str, errors: str, newline: str | None) -> None:
        inner = codecs.getincrementaldecoder(encoding)(errors)
        self._decoder: codecs.IncrementalDecoder | io.IncrementalNewlineDecoder = inner
        if newline in (None, ""):
            self._decoder = io.IncrementalNewlineDecoder(inner, newline is None)
        self._end = re.compile("\r\n|\r|\n" if newline == "" else newline or "\n")
        self._text = ""
        self._at = 0
        self._marks: list[_Mark] = []
        self.ended = False

    def feed(self, data: bytes, position: int) -> None:
        """``data`` begins at byte ``position``; ``b""`` is the end."""
        held, flags = self._decoder.getstate()
        self._text = self._text[self._at :]
        marks = [mark._replace(at=mark.at - self._at) for mark in self._marks]
        self._at = 0
        while len(marks) > 1 and marks[1].at <= 0:
            del marks[0]
        self._marks = [*marks, _Mark(len(self._text), position - len(held), flags)]
        self._text += self._decoder.decode(data, not data)
        self.ended = not data

    def take(self, n: int) -> str:
        """Up to ``n`` characters of what is decoded; negative: all of it."""
        stop = len(self._text) if n < 0 else self._at + n
        piece = self._text[self._at : stop]
        self._at += len(piece)
        return piece

    @property
    def held(self) -> int:
        return len(self._text) - self._at

    def line(self, limit: int, searched: int) -> str | None:
        """The next line with its end, cut at ``limit`` characters; None: more must be fed.
        The first ``searched`` characters are known to hold no end."""
        found = self._end.search(self._text, self._at + max(0, searched - 1))
        if found is not None:
            size = found.end() - self._at
            return self.take(size if limit < 0 else min(size, limit))
        if self.ended or 0 <= limit <= self.held:
            return self.take(limit)
        return None

    # -- places ------------------------------------------------------------------------------

    def tell(self, position: int) -> int:
        """``position``: the byte that would be fed next."""
        if self._at == len(self._text):
            held, flags = self._decoder.getstate()
            return position - len(held) | flags << _FLAGS
        mark = [mark for mark in self._marks if mark.at <= self._at][-1]
        return mark.place | mark.flags << _FLAGS | self._at - mark.at << 2 * _FLAGS

    def at(self, place: int) -> tuple[int, int]:
        """Goes to a place. (Byte to feed from, characters to take and leave.)"""
        mask = (1 << _FLAGS) - 1
        position, flags, skip = place & mask, place >> _FLAGS & mask, place >> 2 * _FLAGS
        if position == flags == 0:
            self._decoder.reset()
        else:
            self._decoder.setstate((b"", flags))
        self._text, self._at, self._marks, self.ended = "", 0, [], False
        return position, skip


class TextWriter:
    def __init__(self, encoding: str, errors: str, newline: str | None, *, is_start: bool) -> None:
        """``is_start``: an encoding with a byte order mark writes one."""
        self._encoder = codecs.getincrementalencoder(encoding)(errors)
        if not is_start:
            self._encoder.setstate(0)
        end = os.linesep if newline is None else newline
        self._end = end if end not in ("", "\n") else None

    def encode(self, text: str) -> bytes:
        if not isinstance(text, str):
            raise TypeError(f"a text file takes str, not {type(text).__name__}")
        return self._encoder.encode(text.replace("\n", self._end) if self._end else text)

    def end(self) -> bytes:
        """What the encoding still owes."""
        return self._encoder.encode("", True)
