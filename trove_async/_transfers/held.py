"""An upload session's record, and which process may work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import count, takewhile
from types import TracebackType
from typing import Final, Self

from trove_async._chunks import Digest
from trove_async._store.backend import Backend
from trove_async._store.claims import is_dead, new_owner
from trove_async._store.core import Core
from trove_async._store.multipart import part_length
from trove_async._threads import settle
from trove_async._transfers.feed import Feed
from trove_async._transfers.staging import Staging, staging_folder
from trove_async.errors import (
    ConflictError,
    StreamClosedError,
    TroveError,
    UploadExpiredError,
)
from trove_async.middleware.base import Context
from trove_async.model import ObjectInfo, PartInfo
from trove_async.stream.session import PartRecord, SessionCatalog, SessionRecord

__all__ = ["LEASE", "Held"]

LEASE: Final = 60.0
"""Seconds after which the session of a process that is not heard of is another's to take. One
that is known to have ended does not keep it that long."""
_BEATS: Final = 3


class Held:
    """A session and its record; one process at a time works on it."""

    def __init__(
        self,
        core: Core,
        catalog: SessionCatalog,
        record: SessionRecord,
        working: dict[str, Held],
        owner: str | None = None,
    ) -> None:
        self._core = core
        self._catalog = catalog
        self._record = record
        self._working = working
        self._parts = {part.number: part for part in record.parts}
        self._owner: str | None = None
        self._beat: asyncio.Task[None] | None = None
        self._holding = asyncio.Lock()
        self._feed: Feed | None = None
        self._run: asyncio.Task[ObjectInfo] | None = None
        self._put: set[int] = set()
        self._staging: Staging | None = None
        self._running: Digest | None = Digest(core.checksum)
        self._busy = 0
        self._info: ObjectInfo | None = None
        self._closed = False
        self.adaptive = False
        """Parts on their way at once follow what the backend takes; to be set before the first."""
        self.on_acknowledged: Callable[[PartRecord], None] | None = None
        if owner is not None:
            self._held_by(owner)

    def __repr__(self) -> str:
        plan = self._record.plan
        return f"<UploadSession {self.id} of {plan.bucket}/{plan.key} at {self.offset}>"

    # -- what it is ----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def bucket(self) -> str:
        return self._record.plan.bucket

    @property
    def key(self) -> str:
        return self._record.plan.key

    @property
    def created_at(self) -> datetime:
        return self._record.created_at

    @property
    def expires_at(self) -> datetime:
        return self._record.expires_at

    @property
    def fingerprint(self) -> str | None:
        return self._record.plan.fingerprint

    @property
    def size(self) -> int | None:
        """Logical bytes, where they were declared."""
        return self._record.plan.size

    @property
    def parts(self) -> list[PartInfo]:
        """What is acknowledged, by number."""
        if self._staging is not None and self._staging.parts:
            staged = sorted(self._staging.parts.items())
            return [PartInfo(n, name.rpartition("-")[2], size) for n, (size, name) in staged]
        found = [self._parts[number] for number in sorted(self._parts)]
        return [PartInfo(p.number, p.etag, p.stored_size) for p in found if p.etag is not None]

    @property
    def offset(self) -> int:
        """The byte of the source to go on from: ``source[session.offset:]`` is what is left to
        write. Where a layer or an expected checksum must see the whole source it is 0 in a
        session that was resumed: what is acknowledged is made again, compared, and not sent
        again."""
        if self._info is None and self._run is None and not self._is_plain():
            return 0
        return self.acknowledged

    @property
    def acknowledged(self) -> int:
        """Bytes of the source, from its first, that are in the parts that are acknowledged: also
        those an earlier process sent. Compressed, a part ends inside a frame: whole frames count.
        0 behind a transform that does not tell (`Context.covers`)."""
        if self._info is not None:
            return self._info.size
        if self._staging is not None and (staged := self._staging.parts):
            before = takewhile(lambda number: number in staged, count(1))
            return sum(staged[number][0] for number in before)
        done = self._contiguous()
        if self._is_plain():
            return sum(part.size for part in done)
        return done[-1].source if done else 0

    def _contiguous(self) -> list[PartRecord]:
        """The acknowledged parts from the first on, as `write` cuts them."""
        backend, message = self._backend(), self._record.message
        done: list[PartRecord] = []
        if message is None:
            return done
        while (part := self._parts.get(len(done) + 1)) is not None and part.etag is not None:
            if self._run is None and part.size != part_length(
                backend, message.part_size, part.number
            ):
                break  # a last part: more may follow it now
            done.append(part)
        return done

    def _backend(self) -> Backend:
        return self._core.backend(self._record.plan.backend)

    def _context(self) -> Context:
        plan = self._record.plan
        context = Context("put", plan.bucket, plan.key, plan.content_type, plan.metadata, plan.size)
        context.stored_size = plan.size
        return context

    def _is_plain(self) -> bool:
        """Nothing has to see the source as a whole."""
        if self._record.plan.checksum is not None:
            return False
        return not self._core.pipeline.for_write(self._context())

    # -- who works on it -----------------------------------------------------------------------

    def _held_by(self, owner: str) -> None:
        self._owner = owner
        self._working[self.id] = self
        self._beat = asyncio.create_task(self._beats(owner))

    async def _beats(self, owner: str) -> None:
        while True:
            await asyncio.sleep(LEASE / _BEATS)
            try:
                await self._catalog.renew(self.id, owner, LEASE)
            except ConflictError:
                return  # every change of ours is refused from now on
            except TroveError:
                continue  # the lease still stands; the next beat may come through

    async def hold(self) -> None:
        """Takes it for this process. ConflictError while another one works on it,
        UploadExpiredError, UploadNotFoundError."""
        self._core.check()
        if self._closed:
            raise StreamClosedError(f"the upload session {self.id} was let go")
        if self.expires_at <= self._catalog.clock():
            raise UploadExpiredError(f"the upload session {self.id} ended at {self.expires_at}")
        async with self._holding:
            if self._owner is not None:
                return
            earlier = self._working.get(self.id)
            if earlier is not None and earlier is not self:
                if earlier.is_busy:
                    raise ConflictError(f"the upload session {self.id} is being worked on")
                await earlier.aclose()
            owner = new_owner()
            try:
                record = await self._catalog.claim(self.id, owner, LEASE, is_dead)
                if record is None:
                    raise ConflictError(f"another process works on the upload session {self.id}")
                self._record = record
                self._parts = {part.number: part for part in record.parts}
                if not self._is_plain():
                    await self._staged_here()
            except BaseException:
                await self._released(owner)  # a cancel may come after it was ours
                raise
            self._held_by(owner)

    async def _released(self, owner: str) -> None:
        with suppress(TroveError):  # the lease ends by itself
            await self._catalog.release(self.id, owner)

    @property
    def is_busy(self) -> bool:
        """A call is under way."""
        return self._busy > 0

    async def _let_go(self) -> None:
        """Ends our tasks; nothing of the session is changed."""
        self._working.pop(self.id, None)
        tasks = [task for task in (self._run, self._beat) if task is not None]
        self._beat = None
        for task in tasks:
            task.cancel()
        if tasks:
            await settle(asyncio.ensure_future(asyncio.wait(tasks)))
            for task in tasks:
                if not task.cancelled():
                    task.exception()

    async def aclose(self) -> None:
        """Lets go of it; what is acknowledged stays for a later `resume`. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        owner, self._owner = self._owner, None
        await self._let_go()
        if owner is not None:
            await self._released(owner)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _staged_here(self) -> Staging:
        """Where a layer must see the whole body, its parts wait until all of them are there."""
        if self._staging is None:
            staging = Staging(
                staging_folder(self._catalog, self.id),
                self._core.pipeline.for_write(self._context()),
                self._context,
            )
            await staging.open()
            self._staging = staging
        return self._staging
