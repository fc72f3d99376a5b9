"""Copies and moves: by the backend itself where that gives the same object, else streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace

from trove_async._chunks import Body
from trove_async._store.backend import Backend
from trove_async._store.get import Reads
from trove_async._store.owned import Ownership
from trove_async._store.put import Upload, Writes
from trove_async._store.reader import ObjectReader
from trove_async._store.record import FORMAT, read_record, reserved_metadata, write_format
from trove_async.config import Timeouts
from trove_async.driver.base import Bytes
from trove_async.driver.options import (
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    PutOptions,
)
from trove_async.errors import ObjectChangedError, PreconditionFailedError, TroveError
from trove_async.middleware.base import Context, Relocating, Stage
from trove_async.middleware.pipeline import Entry, Pipeline
from trove_async.model import ObjectInfo, ObjectRef

__all__ = ["Copies"]

_LOOKS = 16

Native = Callable[[ObjectRef, ObjectRef, CopyOptions], Awaitable[ObjectInfo]]


class Copies:
    def __init__(
        self,
        pipeline: Pipeline,
        reads: Reads,
        writes: Writes,
        timeouts: Timeouts,
        owned: Ownership,
    ) -> None:
        self._owned = owned
        self._timeouts = timeouts
        self._pipeline = pipeline
        self._reads = reads
        self._writes = writes

    async def copy(
        self,
        here: Backend,
        source: ObjectRef,
        there: Backend,
        target: ObjectRef,
        options: CopyOptions,
    ) -> ObjectInfo:
        """``options.metadata`` is the user's: the record is kept beside it."""
        there.need_conditions(None, options.if_none_match)
        if here is there:
            info = await self._natively(here, here.writer.copy, source, target, options)
            if info is not None:
                return info
        return await self._streamed(here, source, there, target, options)

    async def verbatim(
        self,
        here: Backend,
        source: ObjectRef,
        there: Backend,
        target: ObjectRef,
        options: CopyOptions,
    ) -> ObjectInfo:
        """Stored bytes as they are. ``options.metadata`` is the whole stored map."""
        there.need_conditions(None, options.if_none_match)
        if here is not there or source != target:
            self._pipeline.admit_raw(Context("copy", target.bucket, target.key))
            if self._pipeline.owning:
                known = await self._head(here, source)
                self._owned.admit_raw(known.metadata)
                options = replace(options, source_if_match=known.etag or None)
        if here is there:
            return await here.limited(here.writer.copy(source, target, options), self._timeouts)
        request = GetOptions(if_match=options.source_if_match)
        reader = await self._opened(here, source, request, raw=True)
        return await self._passed_on(reader, here, source, there, target, options, raw=True)

    async def move(
        self,
        here: Backend,
        source: ObjectRef,
        there: Backend,
        target: ObjectRef,
        options: CopyOptions,
    ) -> ObjectInfo:
        """Never missing; across backends both are there for a moment."""
        there.need_conditions(None, options.if_none_match)
        if source == target and here is there:
            return await self.copy(here, source, there, target, options)
        if here is there and here.mover is not None:
            done = await self._natively(here, here.mover.move, source, target, options)
            if done is not None:
                return done
        known = await self._head(here, source)
        pinned = replace(options, source_if_match=known.etag)
        if here is there and self._permits(source, target, known):
            info = await self._native(here, here.writer.copy, source, target, pinned, known)
        else:
            info = await self._streamed(here, source, there, target, pinned)
        await self._forget(here, source, known)
        return info

    async def _forget(self, here: Backend, source: ObjectRef, known: ObjectInfo) -> None:
        """Deletes what was moved, not what somebody put there since."""
        condition = known.etag if "match" in here.conditional else None
        try:
            request = here.writer.delete(source.bucket, source.key, DeleteOptions(None, condition))
            await here.limited(request, self._timeouts)
        except PreconditionFailedError as exc:
            raise ObjectChangedError(
                "the source was replaced while it was moved; both objects are kept",
                bucket=source.bucket,
                key=source.key,
            ) from exc

    # -- by the backend ------------------------------------------------------------------------

    async def _natively(
        self,
        backend: Backend,
        verb: Native,
        source: ObjectRef,
        target: ObjectRef,
        options: CopyOptions,
    ) -> ObjectInfo | None:
        """None where the layers do not permit it. When the decision or the record needs the
        source's stored truth it is looked up first, and the verb is for that version only; a
        busy source is looked up again."""
        pipeline = self._pipeline
        if options.metadata is None and not pipeline.writers and not pipeline.owning:
            return await self._native(backend, verb, source, target, options, None)
        looks = 0
        while True:
            known = await self._head(backend, source)
            if not self._permits(source, target, known):
                return None
            try:
                return await self._native(backend, verb, source, target, options, known)
            except ObjectChangedError:
                looks += 1
                if looks == _LOOKS:
                    raise

    async def _head(self, here: Backend, source: ObjectRef) -> ObjectInfo:
        request = here.driver.head(source.bucket, source.key, HeadOptions())
        return await here.limited(request, self._timeouts)

    def _permits(self, source: ObjectRef, target: ObjectRef, info: ObjectInfo) -> bool:
        """Whether stored bytes may go to the target as they are: the layers of a put there
        must be those that the object already went through."""
        if self._pipeline.owning and not self._shares(source, target, info):
            return False
        if not self._pipeline.writers:
            return True
        wanted = self._layers(target, info)
        given = self._layers(source, info)
        observers = {id(entry) for entry in given}
        if any(entry.encoding is None and id(entry) not in observers for entry in wanted):
            return False
        transforms = [entry for entry in wanted if entry.encoding is not None]
        if transforms != [entry for entry in given if entry.encoding is not None]:
            return False  # perhaps the same encoding, but another tenant's key
        # Compression skips what does not shrink; that was decided by the content, not the key.
        optional = {e.encoding for e in transforms if e.middleware.stage == Stage.COMPRESS}
        applied = read_record(info.metadata).encodings
        every = tuple(entry.encoding for entry in transforms)
        required = tuple(name for name in every if name not in optional)
        return applied == every or tuple(n for n in applied if n not in optional) == required

    def _shares(self, source: ObjectRef, target: ObjectRef, info: ObjectInfo) -> bool:
        record = read_record(info.metadata)
        here, there = self._place(source, info), self._place(target, info)
        return all(
            entry.owning is None or entry.owning.shares(here, there)
            for entry in self._pipeline.for_encodings(record.encodings, here)
        )

    def _layers(self, place: ObjectRef, info: ObjectInfo) -> list[Entry]:
        return self._pipeline.for_write(self._place(place, info))

    async def _native(
        self,
        backend: Backend,
        verb: Native,
        source: ObjectRef,
        target: ObjectRef,
        options: CopyOptions,
        known: ObjectInfo | None,
    ) -> ObjectInfo:
        there = Context("copy", target.bucket, target.key)
        if known is not None:  # what was decided was decided for this very version
            options = replace(options, source_if_match=known.etag or None)
            there = self._place(target, known)
            moved = await self._relocated(backend, source, target, known)
            if self._pipeline.owning and self._owned.owns(known.metadata):
                moved = {**moved, FORMAT: await self._owned_again(backend, source, known, there)}
            if options.metadata is not None or moved:
                kept = known.metadata if options.metadata is None else options.metadata
                kept = {**kept, **reserved_metadata(known.metadata), **moved}
                options = replace(options, metadata=kept)
        try:
            info = await verb(source, target, options)
        except BaseException as exc:
            await self._owned.ended(backend, there, exc)
            if isinstance(exc, TroveError):
                exc.at(backend=backend.name)
            raise
        await self._owned.ended(backend, there, None)
        return await self._reads.seen(backend, target.bucket, target.key, info, None)

    async def _owned_again(
        self, backend: Backend, source: ObjectRef, known: ObjectInfo, there: Context
    ) -> str:
        """The record of a copy, which has an owner of its own."""
        opened = await self._owned.opened(backend, source, known)
        owner = await opened.layer.copied(opened.stored, opened.context, there)
        there.hints[opened.layer.owner_hint] = owner
        return write_format(there.applied, there.hints)

    async def _relocated(
        self, backend: Backend, source: ObjectRef, target: ObjectRef, known: ObjectInfo
    ) -> Mapping[str, str]:
        """What layers that bind an object to its place need to be recorded at the new one."""
        moved: dict[str, str] = {}
        if source.key == target.key or not self._pipeline.transforms:
            return moved
        record = read_record(known.metadata)
        here = self._place(source, known)
        for entry in self._pipeline.for_encodings(record.encodings, here):
            layer = entry.middleware
            if isinstance(layer, Relocating):
                stored = self._reads.stored(backend, source.bucket, source.key, known)
                there = self._place(target, known)
                moved.update(await layer.relocated(stored, here, there) or {})
        return moved

    def _place(self, place: ObjectRef, info: ObjectInfo) -> Context:
        record = read_record(info.metadata)
        context = Context("copy", place.bucket, place.key, info.content_type, info.metadata)
        context.size = record.size
        context.applied = [*record.encodings]
        context.hints = dict(record.hints)
        context.stored_size = info.stored_size
        return context

    # -- through the pipeline ------------------------------------------------------------------

    async def _streamed(
        self,
        here: Backend,
        source: ObjectRef,
        there: Backend,
        target: ObjectRef,
        options: CopyOptions,
    ) -> ObjectInfo:
        """Decoded by what the source records, encoded by what the target's scopes say."""
        request = GetOptions(if_match=options.source_if_match)
        reader = await self._opened(here, source, request, raw=False)
        return await self._passed_on(reader, here, source, there, target, options, raw=False)

    async def _opened(
        self, here: Backend, source: ObjectRef, request: GetOptions, *, raw: bool
    ) -> ObjectReader:
        try:
            return await self._reads.open(
                here, source.bucket, source.key, request, raw, present=False
            )
        except PreconditionFailedError as exc:
            raise ObjectChangedError(
                "the source changed", bucket=source.bucket, key=source.key
            ) from exc

    async def _passed_on(
        self,
        reader: ObjectReader,
        here: Backend,
        source: ObjectRef,
        there: Backend,
        target: ObjectRef,
        options: CopyOptions,
        *,
        raw: bool,
    ) -> ObjectInfo:
        async with reader:
            info = reader.info
            content_type = options.content_type or info.content_type
            tags = None
            if here.tagging is not None and there.tagging is not None:
                asked = here.tagging.get_tags(source.bucket, source.key)
                tags = await here.limited(asked, self._timeouts) or None
            body = _Reading(reader)
            size = info.stored_size if raw else info.size
            put = PutOptions(
                content_type,
                dict(info.metadata) if options.metadata is None else dict(options.metadata),
                size,
                tags=tags,
                if_none_match=options.if_none_match,
            )
            upload = Upload(Body(lambda: body, size), None, raw)
            return await self._writes.put(there, target.bucket, target.key, put, upload)


class _Reading:
    """An open reader as a body; the reader's owner closes it."""

    __slots__ = ("_iterator",)

    def __init__(self, reader: ObjectReader) -> None:
        self._iterator = reader.__aiter__()

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        return await self._iterator.__anext__()

    async def aclose(self) -> None:
        pass
