"""What drivers over HTTP share: ranges, lengths, Retry-After, and bodies that are compared."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

from trove_async.driver.options import ByteRange
from trove_async.errors import BackendError, ChecksumMismatchError, UnavailableError

__all__ = [
    "Body",
    "Crc",
    "Running",
    "Stream",
    "check_span",
    "content_range",
    "length_of",
    "range_header",
    "retry_after",
]

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(-?\d{1,19})/(\d{1,19})")


class Stream(Protocol):
    """The body of an answer. ``aclose`` gives the connection back or drops it."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


class Running(Protocol):
    """A checksum on its way."""

    def update(self, chunk: bytes) -> None: ...
    def text(self) -> str:
        """As in `ObjectInfo.checksum`."""
        ...


class Crc:
    """Of 32 bits; ``add`` gives the next value from a chunk and the last one."""

    __slots__ = ("_add", "_name", "_value")

    def __init__(self, name: str, add: Callable[[bytes, int], int]) -> None:
        self._name = name
        self._add = add
        self._value = 0

    def update(self, chunk: bytes) -> None:
        self._value = self._add(chunk, self._value)

    def text(self) -> str:
        return f"{self._name}:{self._value:08x}"


def range_header(wanted: ByteRange) -> str:
    if wanted.start < 0:
        return f"bytes={wanted.start}"
    if wanted.stop is None:
        return f"bytes={wanted.start}-"
    return f"bytes={wanted.start}-{wanted.stop - 1}"


def length_of(headers: Mapping[str, str], *names: str) -> int:
    """By the first of ``names`` that is there; BackendError where none says a length."""
    text = next((headers[name] for name in names if name in headers), "")
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise BackendError("the answer does not say how long the object is")
    return int(text)


def content_range(text: str) -> tuple[int, int, int]:
    """(start, stop, size), as it is written."""
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise BackendError("a Content-Range that cannot be read")
    return int(found[1]), int(found[2]) + 1, int(found[3])


def check_span(start: int, stop: int, size: int) -> tuple[int, int, int]:
    if not start < stop <= size:
        raise BackendError("a Content-Range that cannot be")
    return start, stop, size


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds, from a number or a date (RFC 9110, section 10.2.3); None when it says neither."""
    if value is None:
        return None
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, wait) if math.isfinite(wait) else None


class Body:
    """``length`` bytes of a stream after ``skip`` others. With ``expected`` what ``running``
    makes of them is compared before the last of them are handed out."""

    __slots__ = ("_bucket", "_expected", "_key", "_left", "_running", "_skip", "_stream")

    def __init__(
        self,
        stream: Stream,
        skip: int,
        length: int,
        expected: str | None,
        running: Callable[[], Running],
        bucket: str,
        key: str,
    ) -> None:
        self._stream = stream
        self._skip = skip
        self._left = length
        self._expected = expected
        self._running = None if expected is None else running()
        self._bucket = bucket
        self._key = key

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._left:
            try:
                chunk = await self._stream.__anext__()
            except StopAsyncIteration:
                raise UnavailableError(
                    f"the body ended {self._left} bytes too early",
                    bucket=self._bucket,
                    key=self._key,
                ) from None
            if self._skip:
                skipped = min(self._skip, len(chunk))
                chunk, self._skip = chunk[skipped:], self._skip - skipped
                if not chunk:
                    continue
            if len(chunk) > self._left:
                chunk = chunk[: self._left]
            self._left -= len(chunk)
            running = self._running
            if running is not None:
                running.update(chunk)
                if not self._left and running.text() != self._expected:
                    await self._stream.aclose()
                    raise ChecksumMismatchError(
                        "the body is not what the server's checksum says",
                        bucket=self._bucket,
                        key=self._key,
                    )
            return chunk
        await self._stream.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._left = 0
        await self._stream.aclose()
