"""One frozen, complete record per driver verb. Names in them are already validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from trove_async._quick import quick
from trove_async.errors import InvalidRangeError

__all__ = [
    "BucketOptions",
    "ByteRange",
    "CopyOptions",
    "DeleteOptions",
    "GetOptions",
    "HeadOptions",
    "ListOptions",
    "PutOptions",
    "WatchOptions",
]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, not including, ``stop``. ``start < 0``: the last ``-start`` bytes."""

    start: int
    stop: int | None = None

    def resolve(self, size: int) -> tuple[int, int]:
        """The one place with range rules: real bounds in an object of ``size`` bytes.

        A stop past the end is cut, a suffix longer than the object is the whole object,
        an empty range is allowed anywhere; else a start at or past the end is
        InvalidRangeError, except from 0 on an empty object.
        """
        if self.start < 0:
            return max(0, size + self.start), size
        stop = size if self.stop is None else min(self.stop, size)
        if self.stop is not None and self.stop <= self.start:
            return min(self.start, size), min(self.start, size)
        if self.start >= size and not (self.start == 0 and size == 0):
            raise InvalidRangeError(f"range starts at byte {self.start} of {size}")
        return self.start, max(self.start, stop)


@quick
@dataclass(frozen=True, slots=True)
class PutOptions:
    """How an object is written."""

    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User and reserved names in one flat map, stored verbatim."""
    size: int | None = None
    """Exact number of bytes the body will give, if known."""
    late: Callable[[], Mapping[str, str]] | None = None
    """More metadata; legal only once the body has ended."""
    tags: Mapping[str, str] | None = None
    storage_class: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    """``"*"``: create only."""
    part_size: int | None = None
    concurrency: int | None = None


@quick
@dataclass(frozen=True, slots=True)
class GetOptions:
    """Which object is read, what of it, and on what condition."""

    range: ByteRange | None = None
    version_id: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Which version is asked about."""

    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Which version is deleted, on what condition."""

    version_id: str | None = None
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class ListOptions:
    """``start_after`` is exclusive; ``cursor`` is what the driver's last page gave."""

    prefix: str = ""
    delimiter: str | None = None
    start_after: str | None = None
    cursor: str | None = None
    page_size: int = 1000


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """``metadata`` replaces the whole map, reserved names included; ``None`` keeps it."""

    metadata: Mapping[str, str] | None = None
    content_type: str | None = None
    if_none_match: str | None = None
    source_if_match: str | None = None
    """Copy only this very object; else ObjectChangedError."""


@dataclass(frozen=True, slots=True)
class BucketOptions:
    """How a bucket is made."""

    region: str | None = None


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Which changes are told, and how many are held."""

    prefix: str = ""
    events: frozenset[str] | None = None
    """Event types to deliver; ``None``: all. An overflow is always delivered."""
    buffer: int = 1024
    """Events held for a slow consumer; past it one ``watch.overflow`` takes their place."""
