"""What callers ask, checked and turned into the drivers' options, before any byte moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trove_async._names import check_content_type
from trove_async.checksum import parse_digest
from trove_async.driver.options import ByteRange, ListOptions, WatchOptions
from trove_async.errors import InvalidInputError, InvalidKeyError, InvalidTokenError

__all__ = ["byte_range", "check_listing", "signed_headers", "watch_options"]

MOST_EXPIRES: Final = 7 * 24 * 3600
"""Seconds; the bound of AWS Signature Version 4."""

_EVENTS: Final = frozenset({"object.created", "object.updated", "object.deleted"})
_LARGEST: Final = 1 << 62


def byte_range(wanted: slice | None) -> ByteRange | None:
    """ValueError for a step, a negative stop, a stop before the start."""
    if wanted is None:
        return None
    if not isinstance(wanted, slice):
        raise TypeError(f"a range is a slice, not {type(wanted).__name__}")
    start, stop = wanted.start, wanted.stop
    for bound in (start, stop, wanted.step):
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
            raise TypeError("a range has whole numbers as bounds")
    if wanted.step is not None:
        raise ValueError("a range has no step")
    start = 0 if start is None else start
    if stop is not None and (stop < 0 or stop < start or start < 0):
        raise ValueError(f"not a byte range: {wanted}")
    if stop is not None:
        stop = min(stop, _LARGEST + (stop > start))  # no object is as large
    return ByteRange(max(-_LARGEST, min(start, _LARGEST)), stop)


def check_listing(
    prefix: str, delimiter: str | None, start_after: str | None, page_size: int, cursor: str | None
) -> ListOptions:
    for text in (prefix, delimiter, start_after, cursor):
        if text is None:
            continue
        if not isinstance(text, str):
            raise TypeError(f"text is wanted in a listing, not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            kind = InvalidTokenError if text is cursor else InvalidKeyError
            raise kind("lone surrogate in the arguments of a listing") from None
    if delimiter == "":
        raise ValueError("a delimiter has at least one character")
    if not isinstance(page_size, int) or page_size < 1:
        raise ValueError("page_size must be positive")
    return ListOptions(prefix, delimiter, start_after, cursor, page_size)


def watch_options(prefix: str, events: Sequence[str] | None, poll: float | None) -> WatchOptions:
    if poll is not None and not poll > 0:
        raise ValueError("poll is a positive number of seconds")
    wanted = None if events is None else frozenset(events)
    if wanted is not None and not wanted <= _EVENTS:
        raise ValueError(f"unknown event types: {sorted(wanted - _EVENTS)}")
    return WatchOptions(prefix, wanted)


def signed_headers(
    method: str,
    expires: float,
    content_type: str | None,
    filename: str | None,
    size: int | None,
    checksum: str | None,
) -> dict[str, str]:
    """What a presigned request binds. ValueError unless 0 < expires <= 7 days."""
    if not 0 < expires <= MOST_EXPIRES:
        raise ValueError(f"expires is between 0 and {MOST_EXPIRES} seconds")
    headers: dict[str, str] = {}
    if method == "get":
        if content_type is not None:
            headers["response-content-type"] = check_content_type(content_type)
        if filename is not None:
            if any(ord(c) < 0x20 or ord(c) == 0x7F for c in filename):
                raise InvalidInputError("control character in a file name")
            from urllib.parse import quote

            name = quote(filename, safe="")  # RFC 8187
            headers["response-content-disposition"] = f"attachment; filename*=UTF-8''{name}"
        return headers
    if content_type is not None:
        headers["content-type"] = check_content_type(content_type)
    if size is not None:
        if size < 0:
            raise ValueError("size must not be negative")
        headers["content-length"] = str(size)
    if checksum is not None:
        algorithm, value = parse_digest(checksum)
        headers["checksum"] = f"{algorithm}:{value}"
    return headers
