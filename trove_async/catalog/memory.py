"""A catalog that lasts as long as the process. Every change is one step without an await."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from trove_async.catalog.clock import ticks, utc_now
from trove_async.catalog.memory_blobs import MemoryBlobs
from trove_async.errors import ConflictError, UploadNotFoundError
from trove_async.stream.session import Message, PartRecord, SessionRecord

__all__ = ["MemoryCatalog"]


class MemoryCatalog:
    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.clock = clock
        self._sessions: dict[str, SessionRecord] = {}
        self._blobs: dict[str, MemoryBlobs] = {}

    def __repr__(self) -> str:
        return f"<MemoryCatalog of {len(self._sessions)} sessions>"

    async def open(self) -> None: ...

    async def close(self) -> None:
        """What it knows stays: another store of this process may use it."""

    def blobs(self, space: str) -> MemoryBlobs:
        """The index of content-addressed storage in that space."""
        found = self._blobs.get(space)
        if found is None:
            found = self._blobs[space] = MemoryBlobs(lambda: ticks(self.clock()))
        return found

    async def create(self, record: SessionRecord) -> None:
        self._sessions[record.id] = record

    async def get(self, id: str) -> SessionRecord | None:
        return self._sessions.get(id)

    async def find(
        self, backend: str, bucket: str, key: str, fingerprint: str
    ) -> SessionRecord | None:
        wanted = (backend, bucket, key, fingerprint)
        found = [
            record
            for record in self._sessions.values()
            if (p := record.plan)
            and (p.backend, p.bucket, p.key, p.fingerprint) == wanted
            and record.expires_at > self.clock()
        ]
        return max(found, key=lambda record: record.id, default=None)

    async def list(
        self, bucket: str | None, after: str | None, limit: int
    ) -> builtins.list[SessionRecord]:
        found = sorted(
            id
            for id, record in self._sessions.items()
            if (bucket is None or record.plan.bucket == bucket) and (after is None or id > after)
        )
        return [replace(self._sessions[id], parts=()) for id in found[:limit]]

    async def expired(self, limit: int) -> builtins.list[SessionRecord]:
        now = self.clock()
        found = [record for record in self._sessions.values() if record.expires_at <= now]
        return found[:limit]

    async def claim(
        self, id: str, owner: str, seconds: float, is_dead: Callable[[str], bool]
    ) -> SessionRecord | None:
        record = self._sessions.get(id)
        if record is None:
            raise UploadNotFoundError(f"no upload session {id}")
        now = self.clock()
        if (
            record.owner not in (None, owner)
            and record.leased_until is not None
            and record.leased_until > now
            and not is_dead(record.owner or "")
        ):
            return None
        record = replace(record, owner=owner, leased_until=now + timedelta(seconds=seconds))
        self._sessions[id] = record
        return record

    def _owned(self, id: str, owner: str) -> SessionRecord:
        record = self._sessions.get(id)
        if record is None or record.owner != owner:
            raise ConflictError(f"upload session {id} was taken over by another process")
        return record

    async def renew(self, id: str, owner: str, seconds: float) -> None:
        until = self.clock() + timedelta(seconds=seconds)
        self._sessions[id] = replace(self._owned(id, owner), leased_until=until)

    async def release(self, id: str, owner: str) -> None:
        record = self._sessions.get(id)
        if record is not None and record.owner == owner:
            self._sessions[id] = replace(record, owner=None, leased_until=None)

    async def begin(self, id: str, owner: str, message: Message | None) -> None:
        record = self._owned(id, owner)
        self._sessions[id] = replace(
            record, message=message, generation=record.generation + 1, parts=()
        )

    async def keep_part(self, id: str, owner: str, part: PartRecord) -> None:
        record = self._owned(id, owner)
        parts = [kept for kept in record.parts if kept.number != part.number]
        parts.append(part)
        parts.sort(key=lambda kept: kept.number)
        self._sessions[id] = replace(record, parts=tuple(parts))

    async def delete(self, id: str, owner: str | None) -> bool:
        record = self._sessions.get(id)
        if record is None:
            return False
        if owner is not None and record.owner != owner:
            raise ConflictError(f"upload session {id} was taken over by another process")
        del self._sessions[id]
        return True
