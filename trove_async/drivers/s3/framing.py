"""Answers of HTTP/1.1 as they are framed (RFC 9112); anything ambiguous is refused."""

from __future__ import annotations

import re
from typing import Final, Protocol

from aiohttp import ClientPayloadError

__all__ = ["Chunked", "Framing", "Head", "Sized", "ToTheEnd", "framing_of", "read_head"]

_STATUS: Final = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?", re.ASCII | re.DOTALL)
_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_MOST_LINE: Final = 4096
_NO_BODY: Final = (204, 304)


class Head:
    """Status and headers; ``headers`` has names in lower case, of repeated ones the first."""

    __slots__ = ("headers", "is_kept", "status")

    def __init__(self, status: int, headers: dict[str, str], is_kept: bool) -> None:
        self.status = status
        self.headers = headers
        self.is_kept = is_kept


def read_head(data: bytes) -> Head:
    """Of everything before the empty line. ClientPayloadError for what is no answer."""
    first, *lines = data.decode("utf-8", "surrogateescape").split("\r\n")
    found = _STATUS.fullmatch(first)
    if found is None:
        raise ClientPayloadError("this is no answer in HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in " \t" or name[-1] in " \t" or "\n" in line:
            raise ClientPayloadError("a header that cannot be read")
        name, value = name.lower(), value.strip(" \t")
        if headers.setdefault(name, value) != value and name in (
            "content-length",
            "transfer-encoding",
        ):
            raise ClientPayloadError(f"two answers for {name}")
    said = headers.get("connection")
    is_kept = found[1] == "1" if said is None else "keep-alive" in said.lower()
    return Head(int(found[2]), headers, is_kept)


class Framing(Protocol):
    """``take`` gives the bytes of the body in ``data``; ``surplus`` follows the body's end."""

    is_over: bool
    surplus: bool

    def take(self, data: bytes) -> list[bytes]: ...
    def can_end(self) -> bool:
        """Whether the body may end with its connection."""
        ...


def framing_of(method: str, head: Head) -> Framing:
    """ClientPayloadError for a body whose length could be read in two ways."""
    headers = head.headers
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if method == "HEAD" or head.status in _NO_BODY:
        return Sized(0)
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise ClientPayloadError("a body of a coding that nobody asked for")
        return Chunked()
    if length is None:
        head.is_kept = False
        return ToTheEnd()
    if not length.isascii() or not length.isdigit() or len(length) > 19:
        raise ClientPayloadError("a length that is no number")
    return Sized(int(length))


class Sized:
    __slots__ = ("_left", "is_over", "surplus")

    def __init__(self, size: int) -> None:
        self._left = size
        self.is_over = size == 0
        self.surplus = False

    def take(self, data: bytes) -> list[bytes]:
        length = len(data)
        if length > self._left:
            self.surplus = True
            data = data[: self._left]
            length = self._left
        self._left -= length
        self.is_over = not self._left
        return [data] if data else []

    def can_end(self) -> bool:
        return False


class ToTheEnd:
    __slots__ = ("is_over", "surplus")

    def __init__(self) -> None:
        self.is_over = self.surplus = False

    def take(self, data: bytes) -> list[bytes]:
        return [data] if data else []

    def can_end(self) -> bool:
        return True


class Chunked:
    """Trailers are read and dropped."""

    __slots__ = ("_in_trailers", "_left", "_rest", "is_over", "surplus")

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0  # bytes of the chunk and its CRLF
        self._in_trailers = False
        self.is_over = self.surplus = False

    def can_end(self) -> bool:
        return False

    def take(self, data: bytes) -> list[bytes]:
        if self._rest:
            data, self._rest = self._rest + data, b""
        pieces: list[bytes] = []
        at = 0
        while not self.is_over:
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                at += len(piece)
                self._left -= len(piece)
                if piece:
                    pieces.append(piece)
            if self._left == 2:
                if len(data) - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise ClientPayloadError("a chunk longer than it said")
                at += 2
                self._left = 0
            elif self._left:
                break
            end = data.find(b"\r\n", at)
            if end < 0 or end - at > _MOST_LINE:
                if len(data) - at > _MOST_LINE:
                    raise ClientPayloadError("a line without end between chunks")
                break
            line, at = data[at:end], end + 2
            if self._in_trailers:
                self.is_over = not line
                continue
            found = _SIZE.fullmatch(line)
            if found is None:
                raise ClientPayloadError("a chunk that does not say its size")
            size = int(found[1], 16)
            self._in_trailers = not size
            self._left = size + 2 if size else 0
        self._rest = data[at:]
        self.surplus = self.is_over and bool(self._rest)
        return pieces
