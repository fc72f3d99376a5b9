"""`Trove.uploads`: the sessions of resumable uploads that a store remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from trove_async._names import (
    check_content_type,
    check_key,
    check_metadata,
    check_tags,
    check_word,
    content_type_of,
)
from trove_async._store.backend import Backend
from trove_async._store.claims import is_dead, new_owner
from trove_async._store.handle import Handle
from trove_async._store.multipart import give_up
from trove_async._threads import settle
from trove_async._transfers.session import LEASE, UploadSession
from trove_async._transfers.staging import staging_folder
from trove_async.checksum import parse_digest
from trove_async.errors import (
    BackendNotFoundError,
    UploadNotFoundError,
)
from trove_async.ids import new_upload_id
from trove_async.model import Seconds, seconds
from trove_async.stream.session import Plan, SessionCatalog, SessionRecord

__all__ = ["EXPIRES", "Uploads"]

EXPIRES: Final = timedelta(days=2)
_PAGE = 100


class Uploads:
    """Sessions are remembered in the store's catalog; see `open` for where that is."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._core = handle._core

    async def _catalog(self) -> SessionCatalog:
        self._core.check()
        catalog = await self._core.remembering.catalog()
        if not self._core.is_tidying:
            self._core.is_tidying = True
            self._core.closers.append(self._close_all)
        return catalog

    async def _close_all(self) -> None:
        for session in [*self._core.working.values()]:
            await session.aclose()
        self._core.is_tidying = False

    def _session(
        self, catalog: SessionCatalog, record: SessionRecord, owner: str | None = None
    ) -> UploadSession:
        return UploadSession(self._core, catalog, record, self._core.working, owner)

    async def create(
        self,
        bucket: str | None,
        key: str,
        *,
        expires: timedelta | Seconds = EXPIRES,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        storage_class: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
        part_size: int | None = None,
        concurrency: int | None = None,
        fingerprint: str | None = None,
    ) -> UploadSession:
        """A new session. ``fingerprint``: any text that tells this state of the source from
        every other, by which `find` knows the session again. The other options are those of
        `Trove.put`; conditions are looked at when it is completed."""
        lifetime = seconds(expires)
        if not lifetime > 0:
            raise ValueError("expires must be positive")
        asked = self.planned(
            bucket,
            key,
            content_type=content_type,
            metadata=metadata,
            tags=tags,
            storage_class=storage_class,
            size=size,
            checksum=checksum,
            if_none_match=if_none_match,
            if_match=if_match,
            part_size=part_size,
            concurrency=concurrency,
            fingerprint=fingerprint,
        )

        async def work(bucket: str, key: str, plan: Plan) -> UploadSession:
            return await self._made(replace(plan, bucket=bucket, key=key), lifetime)

        made: UploadSession = await self._core.seam.run(
            "create_upload", asked.bucket, asked.key, asked, work, replayable=False
        )
        return made

    def planned(
        self,
        bucket: str | None,
        key: str,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        storage_class: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
        part_size: int | None = None,
        concurrency: int | None = None,
        fingerprint: str | None = None,
    ) -> Plan:
        """What is asked, checked before anything is done."""
        if size is not None and size < 0:
            raise ValueError("size must not be negative")
        if if_none_match is not None and if_none_match != "*":
            raise ValueError('if_none_match of a put is "*" (create only)')
        for name, value in (("part_size", part_size), ("concurrency", concurrency)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive")
        return Plan(
            "",
            self._handle._bucket(bucket),
            check_key(key),
            content_type_of(key) if content_type is None else check_content_type(content_type),
            check_metadata(metadata, reserved=False) if metadata else {},
            check_tags(tags) if tags else None,
            storage_class if storage_class is None else check_word(storage_class),
            size,
            None if checksum is None else ":".join(parse_digest(checksum)),
            if_match if if_match is None else check_word(if_match),
            if_none_match,
            part_size,
            concurrency,
            fingerprint,
        )

    def _backend(self, plan: Plan) -> Backend:
        """Where it goes, once that is known to take it."""
        backend = self._handle._place(plan.bucket, plan.key)
        backend.need(backend.multipart, "uploads in parts")
        backend.need_conditions(plan.if_match, plan.if_none_match)
        if plan.tags:
            backend.need(backend.tagging, "tags")
        return backend

    async def _made(self, plan: Plan, lifetime: float) -> UploadSession:
        backend = self._backend(plan)
        catalog = await self._catalog()
        now = catalog.clock()
        owner = new_owner()
        record = SessionRecord(
            str(new_upload_id()),
            replace(plan, backend=backend.name),
            now,
            now + timedelta(seconds=lifetime),
            owner=owner,
            leased_until=now + timedelta(seconds=LEASE),
        )
        session: UploadSession | None = None
        try:
            await catalog.create(record)
            session = self._session(catalog, record, owner)
            await session.prepare()
        except BaseException:
            try:
                if session is not None:
                    await session.abort()
            finally:
                await catalog.delete(record.id, None)  # a cancel may come after it was made
            raise
        return session

    async def obtain(self, plan: Plan, *, expires: timedelta = EXPIRES) -> UploadSession:
        """The open session of this source, resumed, else a new one. One that was made with other
        options is aborted first. ConflictError while another process works on it."""
        catalog = await self._catalog()
        backend = self._backend(plan)
        found = None
        if plan.fingerprint is not None:
            found = await catalog.find(backend.name, plan.bucket, plan.key, plan.fingerprint)
        if found is not None:
            session = self._session(catalog, found)
            await session.hold()
            if found.plan == replace(plan, backend=backend.name):
                return session
            await session.abort()
        return await self._made(plan, expires.total_seconds())

    async def get(self, id: str) -> UploadSession:
        """To look at; a call that works takes it as `resume` does. UploadNotFoundError."""
        catalog = await self._catalog()
        working: UploadSession | None = self._core.working.get(id)
        if working is not None:
            return working
        record = await catalog.get(id)
        if record is None:
            raise UploadNotFoundError(f"no upload session {id}")
        return self._session(catalog, record)

    async def resume(self, id: str) -> UploadSession:
        """Goes on with a session of this or of an earlier process. UploadNotFoundError,
        UploadExpiredError; ConflictError while another process works on it. An idle session of
        this store with this id is let go."""
        catalog = await self._catalog()
        record = await catalog.get(id)
        if record is None:
            raise UploadNotFoundError(f"no upload session {id}")
        session = self._session(catalog, record)
        await session.hold()
        return session

    async def find(self, bucket: str | None, key: str, fingerprint: str) -> UploadSession | None:
        """The newest open session of this source, resumed; None where there is none.
        ConflictError while another process, or a call here, works on it."""
        catalog = await self._catalog()
        bucket = self._handle._bucket(bucket)
        backend = self._handle._place(bucket, check_key(key))
        record = await catalog.find(backend.name, bucket, key, fingerprint)
        if record is None:
            return None
        session = self._session(catalog, record)
        await session.hold()
        return session

    async def list(self, bucket: str | None = None) -> AsyncIterator[UploadSession]:
        """All that are remembered, expired ones too, in the order of their creation."""
        catalog = await self._catalog()
        after: str | None = None
        while True:
            page = await catalog.list(bucket, after, _PAGE)
            for record in page:
                after = record.id
                whole = await catalog.get(record.id)
                if whole is not None:  # else it ended meanwhile
                    yield self._session(catalog, whole)
            if len(page) < _PAGE:
                return

    async def abort(self, id: str) -> None:
        """Gives up a session and what the backend keeps of it. UploadNotFoundError;
        ConflictError while another process works on it."""
        session = await self.get(id)

        async def work(bucket: str, key: str, options: None) -> None:
            await session.abort()

        await self._core.seam.run(
            "abort_upload", session.bucket, session.key, None, work, replayable=False
        )

    async def sweep(self) -> int:
        """Aborts the sessions that have expired; how many. Those of a backend that this store
        does not have, and those another process works on, are left."""
        catalog = await self._catalog()
        swept = 0
        left: set[str] = set()
        while True:
            page = await catalog.expired(_PAGE + len(left))
            page = [record for record in page if record.id not in left]
            if not page:
                return swept
            for record in page:
                if await self._swept(catalog, record):
                    swept += 1
                else:
                    left.add(record.id)

    async def _swept(self, catalog: SessionCatalog, record: SessionRecord) -> bool:
        earlier = self._core.working.get(record.id)
        if earlier is not None:
            if earlier.is_busy:
                return False
            await earlier.aclose()
        try:
            backend = self._core.backend(record.plan.backend)
            claimed = await catalog.claim(record.id, new_owner(), LEASE, is_dead)
        except (BackendNotFoundError, UploadNotFoundError):
            return False
        if claimed is None:
            return False
        if claimed.message is not None:
            plan, upload_id = claimed.plan, claimed.message.upload_id
            await give_up(backend, plan.bucket, plan.key, upload_id, self._core.timeouts)
        import shutil  # only sweeps need it

        folder = staging_folder(catalog, record.id)
        await settle(
            asyncio.ensure_future(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        )
        return await catalog.delete(record.id, claimed.owner)
