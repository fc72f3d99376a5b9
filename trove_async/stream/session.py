"""Resumable uploads: what is remembered of one, and what a place that remembers must do.

What a message has sealed is never sealed differently: the digest of a part's inner bytes (what
the cipher will see) is durable before its first frame is sealed, and after a restart the part
is sealed under that message again only if the re-made bytes have that digest.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from trove_async.driver.base import Chunks
from trove_async.model import ObjectInfo

__all__ = ["Message", "PartRecord", "Plan", "Session", "SessionCatalog", "SessionRecord"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What an upload was asked to be; fixed when its session is made."""

    backend: str
    bucket: str
    key: str
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] | None = None
    storage_class: str | None = None
    size: int | None = None
    """Logical bytes, where they were declared."""
    checksum: str | None = None
    """``"<algorithm>:<hex>"`` the logical bytes must have."""
    if_match: str | None = None
    if_none_match: str | None = None
    part_size: int | None = None
    concurrency: int | None = None
    fingerprint: str | None = None
    """What tells one state of the source from another."""


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt at the object's bytes: the backend's upload and the layers' state."""

    upload_id: str
    encodings: tuple[str, ...]
    hints: Mapping[str, str]
    part_size: int
    """Inner bytes per part."""
    token: str
    """In the object's metadata: by it a completion knows its own success."""
    header: bytes | None = None
    """Of the encryption; it holds the data key only wrapped."""


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A part whose inner bytes are fixed; acknowledged once it has an etag."""

    number: int
    digest: str
    """Of the inner bytes, and whether they are the last ones; empty where they are the user's
    own, whose prefix `source_digest` proves."""
    size: int
    """Inner bytes."""
    etag: str | None = None
    stored_size: int = 0
    source: int = 0
    """Logical bytes that are wholly in this part and those before it; 0 where a transform does
    not tell (`Context.covers`)."""
    source_digest: str = ""
    """``"<digest>@<bytes>"`` of what had been read when the part was cut: more than is in it."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    id: str
    plan: Plan
    created_at: datetime
    expires_at: datetime
    generation: int = 0
    """Counts the messages begun."""
    message: Message | None = None
    parts: Sequence[PartRecord] = ()
    """Of the present message, by number."""
    owner: str | None = None
    """Who works on it now."""
    leased_until: datetime | None = None


class SessionCatalog(Protocol):
    """Remembers upload sessions; safe with many tasks and, where it is shared, many processes.

    A method that has returned is durable. Those that take an ``owner`` raise ConflictError
    when that owner has lost the session meanwhile, and then have changed nothing."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """What time it is, by which sessions and leases end."""
        ...

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def create(self, record: SessionRecord) -> None: ...
    async def get(self, id: str) -> SessionRecord | None: ...

    async def find(
        self, backend: str, bucket: str, key: str, fingerprint: str
    ) -> SessionRecord | None:
        """The newest such session."""
        ...

    async def list(
        self, bucket: str | None, after: str | None, limit: int
    ) -> builtins.list[SessionRecord]:
        """By id, which sorts by time of creation; without their parts."""
        ...

    async def expired(self, limit: int) -> builtins.list[SessionRecord]: ...

    async def claim(
        self, id: str, owner: str, seconds: float, is_dead: Callable[[str], bool]
    ) -> SessionRecord | None:
        """Makes ``owner`` the one who works on it, unless another one does whose lease stands
        and who is not known to be dead: None then. UploadNotFoundError."""
        ...

    async def renew(self, id: str, owner: str, seconds: float) -> None: ...
    async def release(self, id: str, owner: str) -> None:
        """Does nothing where ``owner`` has it no more."""
        ...

    async def begin(self, id: str, owner: str, message: Message | None) -> None:
        """Another generation, None: one that is not begun yet. The parts of the one before are
        forgotten."""
        ...

    async def keep_part(self, id: str, owner: str, part: PartRecord) -> None:
        """New, or acknowledged: replaces what is known of this number."""
        ...

    async def delete(self, id: str, owner: str | None) -> bool:
        """``owner`` None: whoever has it. False where there is none."""
        ...


class Session(Protocol):
    """An upload that survives its process."""

    @property
    def id(self) -> str: ...
    @property
    def offset(self) -> int:
        """The byte of the source to go on from: all before it is acknowledged, and need not be
        given again."""
        ...

    @property
    def expires_at(self) -> datetime: ...

    adaptive: bool
    """Parts on their way at once follow what the backend takes; to be set before the first."""

    async def append(self, chunks: Chunks) -> None:
        """Logical bytes from `offset` on, to the end of the iterator, which is not closed. Parts
        are sealed, sent and acknowledged on the way."""
        ...

    async def complete(self) -> ObjectInfo: ...
    async def abort(self) -> None: ...

    async def aclose(self) -> None:
        """Lets go of it; what is acknowledged stays for a later `resume`."""
        ...
