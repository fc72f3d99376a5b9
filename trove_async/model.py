"""The records that pass between callers, the core and the drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from trove_async._quick import quick
from trove_async.errors import TroveError

__all__ = [
    "BucketInfo",
    "CommonPrefix",
    "DeleteResult",
    "EventType",
    "Health",
    "KiB",
    "LifecycleRule",
    "MiB",
    "ObjectEvent",
    "ObjectInfo",
    "ObjectPage",
    "ObjectRef",
    "PartInfo",
    "PresignedRequest",
    "UploadInfo",
    "VersionInfo",
]

KiB = 1024
MiB = 1024 * 1024
Seconds = float | timedelta
"""How callers give a time."""


def seconds(value: Seconds) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


@quick
@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of one object.

    A driver fills it with the stored truth (``size == stored_size``, the verbatim
    metadata map, ``encodings=None``); the store turns that into what its caller sees.
    """

    key: str
    size: int
    """Bytes a full read gives (logical size)."""
    stored_size: int
    """Bytes the backend holds."""
    content_type: str
    etag: str
    """The backend's, without quotes. Usable as ``if_match``; not a digest."""
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    checksum: str | None = None
    """``"<algorithm>:<hex>"`` of the logical bytes, when it was recorded."""
    version_id: str | None = None
    storage_class: str | None = None
    encodings: tuple[str, ...] | None = None
    """Transforms in write order; ``()`` plain, ``None`` not looked at."""


@dataclass(frozen=True, slots=True)
class CommonPrefix:
    """All keys that begin with ``prefix``, which ends with the delimiter, as one entry."""

    prefix: str


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """One page of a listing. It may be empty and still carry a cursor."""

    objects: list[ObjectInfo]
    prefixes: list[str] = field(default_factory=list)
    cursor: str | None = None
    """Give it back for the next page; ``None``: this was the last."""


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """One bucket, as a listing of buckets shows it."""

    name: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Where an object is."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class PartInfo:
    """One uploaded part of an unfinished upload."""

    number: int
    """From 1."""
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """One unfinished multipart upload."""

    upload_id: str
    key: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of an object, or the marker of its deletion."""

    version_id: str
    key: str
    size: int
    last_modified: datetime
    is_latest: bool
    is_delete_marker: bool = False


EventType = Literal["object.created", "object.updated", "object.deleted", "watch.overflow"]


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One change that a watch saw."""

    type: EventType
    """``watch.overflow``: events were lost, list again."""
    bucket: str
    key: str
    info: ObjectInfo | None = None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What became of one key of a batch delete."""

    key: str
    error: TroveError | None = None
    """``None``: the key is gone (a key that never was counts as gone)."""


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """Raises ValueError on negative days or when the rule would do nothing."""

    id: str
    prefix: str = ""
    enabled: bool = True
    expiration_days: int | None = None
    transition_days: int | None = None
    transition_storage: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a lifecycle rule needs an id")
        for name in ("expiration_days", "transition_days"):
            days = getattr(self, name)
            if days is not None and days < 0:
                raise ValueError(f"{name} of rule {self.id!r} is negative")
        if (self.transition_days is None) != (self.transition_storage is None):
            raise ValueError(f"rule {self.id!r}: a transition needs both days and storage")
        if self.expiration_days is None and self.transition_days is None:
            raise ValueError(f"rule {self.id!r} does nothing")


@dataclass(frozen=True, slots=True)
class PresignedRequest:
    """A request anyone may send until ``expires_at``. ``repr`` hides its query."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Must be sent exactly so."""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What a ping of one backend told."""

    ok: bool
    latency: float
    """Seconds."""
    error: str | None = None
