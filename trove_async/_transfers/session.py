"""`UploadSession`: an upload that survives its process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from dataclasses import replace

from trove_async._chunks import Digest, Tap, as_body
from trove_async._store.claims import is_dead, new_owner
from trove_async._store.multipart import Diverged, finish, give_up, retried
from trove_async._store.record import DIGEST, LENGTH
from trove_async._store.seam import Idle, Pulled, sending
from trove_async._threads import settle
from trove_async._transfers.feed import Feed
from trove_async._transfers.held import LEASE, Held
from trove_async._transfers.passage import Passage, begun, early
from trove_async.driver.base import Bytes, Chunks
from trove_async.driver.options import ListOptions, PutOptions
from trove_async.errors import (
    ConflictError,
    ObjectChangedError,
    StreamClosedError,
    StreamStateError,
    TroveError,
    UploadExpiredError,
    UploadNotFoundError,
)
from trove_async.model import ObjectInfo, PartInfo
from trove_async.stream.session import Message, PartRecord

__all__ = ["LEASE", "UploadSession"]


class UploadSession(Held):
    """Parts are sent and remembered as they come; nothing of the object is seen before
    `complete`. Leaving it, by `aclose` or by the end of the process, keeps what is acknowledged
    for `Uploads.resume`.

    Either `write` (or `append`) or `put_part`, not both in one session."""

    async def prepare(self) -> None:
        """What can be refused is refused when the session is made: a bucket that is not there."""
        if self._is_plain():
            await self._message()
            return
        backend, plan = self._backend(), self._record.plan
        await retried(
            self._core.retry,
            lambda: backend.limited(
                backend.driver.list(plan.bucket, ListOptions(prefix=plan.key, page_size=1)),
                self._core.timeouts,
            ),
        )

    # -- in order ------------------------------------------------------------------------------

    async def write(self, data: Bytes) -> None:
        """The next bytes of the source, from `offset` on in a session that was resumed. Waits
        until there is room for them; not until they are acknowledged."""
        chunk = data if type(data) is bytes else bytes(data)
        await self.hold()
        feed = self._fed()
        if chunk:
            self._busy += 1
            try:
                await feed.put(chunk)
            finally:
                self._busy -= 1

    async def append(self, chunks: AsyncIterable[Bytes]) -> None:
        """As `write`, to the end of the iterator, which is not closed."""
        async for chunk in chunks:
            await self.write(chunk)

    def _fed(self) -> Feed:
        if self._put or (self._staging is not None and self._staging.parts):
            raise StreamStateError("this session is put part by part; it has no next byte")
        if self._feed is None:
            # Not of this run: what another one put by number has no place in the source.
            skip = self.offset
            self._feed = Feed()
            self._run = asyncio.create_task(self._fed_passage(self._feed, skip))
        return self._feed

    async def _fed_passage(self, feed: Feed, skip: int) -> ObjectInfo:
        passage = self._passage()
        try:
            return await passage.run(feed, skip=skip)
        except Diverged as exc:
            assert self._owner is not None
            message = self._record.message
            await self._catalog.begin(self.id, self._owner, None)
            if message is not None:
                await self._give_up(message)
            error = ObjectChangedError(f"{exc}: the upload begins again from the first byte")
            feed.refuse(error)
            raise error from exc
        except BaseException as exc:
            feed.refuse(exc if isinstance(exc, TroveError) else _ended(self.id, exc))
            raise

    def _passage(self) -> Passage:
        assert self._owner is not None
        return Passage(
            self._core,
            self._backend(),
            self._catalog,
            self._record,
            self._owner,
            acknowledged=self._took,
            began=self._begun,
            adaptive=self.adaptive,
        )

    def _took(self, part: PartRecord) -> None:
        self._parts[part.number] = part
        if self.on_acknowledged is not None:
            self.on_acknowledged(part)

    def _begun(self, message: Message) -> None:
        self._record = replace(self._record, message=message, parts=())
        self._parts.clear()

    async def _give_up(self, message: Message) -> None:
        backend, plan = self._backend(), self._record.plan
        await give_up(backend, plan.bucket, plan.key, message.upload_id, self._core.timeouts)

    async def send(self, source: Callable[[], Chunks]) -> ObjectInfo:
        """The whole upload from a source that can be read again from its first byte, to the
        end. What is acknowledged is compared and not sent again."""
        await self.hold()
        self._busy += 1
        try:
            for _ in range(2):
                try:
                    info = await self._passage().run(source())
                except Diverged:
                    assert self._owner is not None
                    if (message := self._record.message) is not None:
                        await self._catalog.begin(self.id, self._owner, None)
                        await self._give_up(message)
                    self._record = replace(self._record, message=None, parts=())
                    self._parts.clear()
                else:
                    await self._done(info)
                    return info
            raise ObjectChangedError("the source gives other bytes each time it is read")
        finally:
            self._busy -= 1

    # -- by number -----------------------------------------------------------------------------

    async def put_part(self, number: int, body: object) -> PartInfo:
        """One part by its number, in any order; the same number again replaces it. The parts
        make the object in the order of their numbers."""
        source = as_body(body, self._core.chunk_size)
        try:
            if not isinstance(number, int) or number < 1:
                raise ValueError("parts are numbered from 1")
            await self.hold()
            if self._feed is not None:
                raise StreamStateError("this session is written in order; it has no part numbers")
            staging = None if self._is_plain() else await self._staged_here()
            self._busy += 1
        except BaseException as exc:
            await source.refuse(exc)
            raise
        self._put.add(number)
        source.is_open = True
        chunks = source.open()
        try:
            if staging is None:
                return await self._put_part(number, chunks, source.size)
            size, etag = await staging.put(number, chunks, source.size)
            return PartInfo(number, etag, size)
        finally:
            self._busy -= 1
            await chunks.aclose()

    async def _put_part(self, number: int, chunks: Chunks, size: int | None) -> PartInfo:
        message = await self._message()
        plan, backend = self._record.plan, self._backend()
        multipart = backend.need(backend.multipart, "uploads in parts")
        running = self._digest_for(number)
        counted = Tap(chunks, [Digest(None), *running], size=size)
        limit = self._core.timeouts.read
        try:
            if limit is None:
                sent = await multipart.upload_part(
                    plan.bucket, plan.key, message.upload_id, number, counted, size
                )
            else:
                idle = Idle(limit)
                pulled = Pulled(counted, idle)
                sent = await sending(
                    multipart.upload_part(
                        plan.bucket, plan.key, message.upload_id, number, pulled, size
                    ),
                    idle,
                )
        except UploadNotFoundError as exc:
            raise UploadExpiredError("the backend has forgotten the upload") from exc
        except BaseException:
            self._running = None
            raise
        part = PartRecord(number, "", sent.size, sent.etag, sent.size)
        assert self._owner is not None
        await self._catalog.keep_part(self.id, self._owner, part)
        self._took(part)
        return sent

    def _digest_for(self, number: int) -> list[Digest]:
        """The object's own running digest while its parts come one after another."""
        running, parts = self._running, self._parts
        if (
            running is not None
            and self._busy == 1
            and number == len(parts) + 1
            and max(parts, default=0) < number
            and running.count == sum(part.size for part in parts.values())
        ):
            running.finished = False
            return [running]
        self._running = None
        return []

    async def _message(self) -> Message:
        async with self._holding:
            message = self._record.message
            if message is None:
                assert self._owner is not None
                message = await begun(
                    self._core,
                    self._backend(),
                    self._catalog,
                    self.id,
                    self._owner,
                    self._record.plan,
                    self._context(),
                    None,
                )
                self._begun(message)
            return message

    async def _complete_parts(self) -> ObjectInfo:
        message = await self._message()
        plan, backend = self._record.plan, self._backend()
        parts = self.parts
        size = sum(part.size for part in parts)
        if plan.size is not None and plan.size != size:
            raise StreamStateError(f"the parts have {size} bytes, {plan.size} were declared")
        running = self._running
        digest = running.text if running is not None and running.count == size else None

        def late() -> dict[str, str]:
            known = {LENGTH: str(size)}
            if digest is not None:
                known[DIGEST] = digest
            return known

        context = self._context()
        options = PutOptions(
            plan.content_type,
            early(plan, context, message.token),
            size,
            late,
            plan.tags,
            plan.storage_class,
            plan.if_match,
            plan.if_none_match,
        )
        try:
            info = await finish(
                backend,
                plan.bucket,
                plan.key,
                message.upload_id,
                message.token,
                parts,
                options,
                self._core.retry,
                self._core.timeouts,
            )
        except Diverged as exc:
            raise UploadExpiredError(f"{exc}: its parts are gone") from exc
        return ObjectInfo(
            plan.key,
            size,
            info.stored_size,
            info.content_type,
            info.etag,
            info.last_modified,
            dict(plan.metadata),
            digest,
            info.version_id,
            info.storage_class,
            (),
        )

    # -- the end -------------------------------------------------------------------------------

    async def complete(self) -> ObjectInfo:
        """Publishes the object. Once it has, it gives the same answer again."""
        if self._info is not None:
            return self._info

        async def work(bucket: str, key: str, options: None) -> ObjectInfo:
            return await self._completed()

        info: ObjectInfo = await self._core.seam.run(
            "complete_upload", self.bucket, self.key, None, work, replayable=False
        )
        return info

    async def _completed(self) -> ObjectInfo:
        await self.hold()
        self._busy += 1
        try:
            if self._staging is not None and (self._put or self._staging.parts):
                if self._feed is not None:
                    raise StreamStateError("this session was put part by part")
                return await self.send(self._staging.source)
            if self._put or self._was_put():
                info = await self._complete_parts()
            else:
                self._fed().end()
                run = self._run
                assert run is not None
                try:
                    info = await asyncio.shield(run)
                except asyncio.CancelledError:
                    if not run.done():
                        run.cancel()
                        await settle(asyncio.ensure_future(asyncio.wait([run])))
                    raise
            await self._done(info)
            return info
        finally:
            self._busy -= 1

    def _was_put(self) -> bool:
        """Another process put parts by number, and nothing was written since."""
        return self._feed is None and any(
            part.etag is not None and not part.source_digest for part in self._parts.values()
        )

    async def _done(self, info: ObjectInfo) -> None:
        self._info = info
        owner = self._owner
        await self._let_go()
        if self._staging is not None:
            await self._staging.clear()
        with suppress(ConflictError):  # another process saw the object too, and has tidied up
            await self._catalog.delete(self.id, owner)
        self._owner = None

    async def abort(self) -> None:
        """Gives up the upload and what the backend keeps of it. Once completed it does nothing."""
        if self._info is not None:
            return
        if self._owner is None:
            if self._closed:
                raise StreamClosedError(f"the upload session {self.id} was let go")
            owner = new_owner()
            try:
                record = await self._catalog.claim(self.id, owner, LEASE, is_dead)
            except UploadNotFoundError:
                self._closed = True
                return
            if record is None:
                raise ConflictError(f"another process works on the upload session {self.id}")
            self._record = record
            self._owner = owner
        self._closed = True
        owner_now, self._owner = self._owner, None
        try:
            await self._let_go()
            if self._record.message is not None:
                await self._give_up(self._record.message)
            if not self._is_plain():
                await (await self._staged_here()).clear()
            await self._catalog.delete(self.id, owner_now)
        except BaseException:
            if owner_now is not None:
                await self._released(owner_now)  # for whoever aborts it next
            raise


def _ended(id: str, error: BaseException) -> StreamClosedError:
    closed = StreamClosedError(f"the upload session {id} has ended")
    closed.__cause__ = error if isinstance(error, Exception) else None
    return closed
