"""Objects that own something elsewhere: what they own lives as long as they do.

Three moments count. What a write names is there before its object is published (the layer's
own `write` and `copied` see to that); what a verb replaces or deletes is looked at before, and
given up only once no version of it is left; and a write that failed is told to its layers with
what is known of it. So a crash, a race or a lost answer may leave something that no object
owns, never an object without what it owns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from trove_async._chunks import collect
from trove_async._store.backend import Backend
from trove_async._store.reading import Shared
from trove_async._store.record import read_record
from trove_async._store.source import Body, changed, fetch
from trove_async._threads import settle
from trove_async.driver.options import GetOptions, HeadOptions
from trove_async.errors import (
    AccessError,
    BackendError,
    FormatLimitError,
    IntegrityError,
    NotFoundError,
    ObjectChangedError,
    PolicyError,
    PreconditionFailedError,
    TroveError,
)
from trove_async.middleware.base import Context, Owning
from trove_async.middleware.pipeline import Chain, Entry, Pipeline
from trove_async.model import ObjectInfo, ObjectRef

__all__ = ["Found", "Ownership"]

_MOST: Final = 64 * 1024
"""Bytes that are stored for an object that owns something; one with more is none of ours."""
_LOOKS: Final = 8

_log = logging.getLogger("trove_async.owned")


class Found:
    """An object or a version that an owning layer has written, as `Owned` says."""

    __slots__ = ("_backend", "_ownership", "_place", "encoding", "info", "owner")

    def __init__(
        self,
        ownership: Ownership,
        backend: Backend,
        place: ObjectRef,
        info: ObjectInfo,
        encoding: str,
        owner: str,
    ) -> None:
        self._ownership = ownership
        self._backend = backend
        self._place = place
        self.info = info
        self.encoding = encoding
        self.owner = owner

    @property
    def version_id(self) -> str | None:
        return self.info.version_id

    async def stored(self) -> bytes:
        opened = await self._ownership.opened(self._backend, self._place, self.info)
        return opened.stored


class Opened:
    """What the layer itself wrote, with the layers below it taken off."""

    __slots__ = ("context", "layer", "owner", "stored", "version_id")

    def __init__(
        self, layer: Owning, owner: str, stored: bytes, context: Context, version_id: str | None
    ) -> None:
        self.layer = layer
        self.owner = owner
        self.stored = stored
        self.context = context
        self.version_id = version_id


class Ownership:
    def __init__(self, pipeline: Pipeline, reads: Shared) -> None:
        self._pipeline = pipeline
        self._reads = reads
        self._timeouts = reads.timeouts

    @property
    def is_used(self) -> bool:
        return bool(self._pipeline.owning)

    # -- what is there -------------------------------------------------------------------------

    def owner_of(self, metadata: Mapping[str, str]) -> str | None:
        """By the stored map alone; None where no registered layer has written the object."""
        named = self._named(metadata)
        return None if named is None else named[1]

    def _named(self, metadata: Mapping[str, str]) -> tuple[str, str] | None:
        try:
            record = read_record(metadata)
        except IntegrityError:
            return None
        return self._owner_in(record.encodings, record.hints)

    def _owner_in(
        self, encodings: tuple[str, ...], hints: Mapping[str, str]
    ) -> tuple[str, str] | None:
        for encoding in encodings:
            layer = self._pipeline.owning.get(encoding)
            if layer is not None and (owner := hints.get(layer.owner_hint)):
                return encoding, owner
        return None

    def owns(self, metadata: Mapping[str, str]) -> bool:
        """Whether the record names an owning layer, with or without an owner."""
        try:
            record = read_record(metadata)
        except IntegrityError:
            return False
        return any(encoding in self._pipeline.owning for encoding in record.encodings)

    def admit_raw(self, metadata: Mapping[str, str]) -> None:
        """A second object with the stored bytes of one that owns something would lose it with
        the first."""
        if self._pipeline.owning and self.owns(metadata):
            raise PolicyError(
                "stored bytes that stand for something kept elsewhere are not put or copied as "
                "they are"
            )

    async def found(self, backend: Backend, place: ObjectRef) -> list[Found]:
        """The object at this place and, where the backend keeps them, its older versions."""
        infos: list[ObjectInfo] = []
        if backend.versioning is None:
            if (info := await self._head(backend, place)) is not None:
                infos.append(info)
        else:
            try:
                request = backend.versioning.list_versions(place.bucket, place.key)
                versions = await backend.limited(request, self._timeouts)
            except NotFoundError:
                versions = []
            for version in versions:
                if not version.is_delete_marker:
                    info = await self._head(backend, place, version.version_id)
                    if info is not None:
                        infos.append(info)
        return [
            Found(self, backend, place, info, *named)
            for info in infos
            if (named := self._named(info.metadata)) is not None
        ]

    async def _head(
        self, backend: Backend, place: ObjectRef, version_id: str | None = None
    ) -> ObjectInfo | None:
        try:
            request = backend.driver.head(place.bucket, place.key, HeadOptions(version_id))
            return await backend.limited(request, self._timeouts)
        except NotFoundError:
            return None

    async def opened(self, backend: Backend, place: ObjectRef, info: ObjectInfo) -> Opened:
        """ObjectChangedError when it is another object by now."""
        record = read_record(info.metadata)
        context = Context(
            "get", place.bucket, place.key, info.content_type, info.metadata, record.size
        )
        context.applied = [*record.encodings]
        context.hints = dict(record.hints)
        context.stored_size = info.stored_size
        named = self._owner_in(record.encodings, record.hints)
        if named is None or info.stored_size > _MOST:
            raise FormatLimitError(
                "no layer here has written this object", bucket=place.bucket, key=place.key
            )
        entries = self._pipeline.for_encodings(record.encodings, context)
        index = record.encodings.index(named[0])
        layer = entries[index].owning
        assert layer is not None
        stored = await self._below(backend, place, info, entries[index + 1 :], context)
        return Opened(layer, named[1], stored, context, info.version_id)

    async def _below(
        self,
        backend: Backend,
        place: ObjectRef,
        info: ObjectInfo,
        entries: list[Entry],
        context: Context,
    ) -> bytes:
        version = info.version_id if backend.versioning is not None else None
        options = GetOptions(None, version, info.etag or None)
        try:
            raw = await fetch(backend, place.bucket, place.key, options, self._timeouts)
        except PreconditionFailedError as exc:
            raise changed(place.bucket, place.key) from exc
        policy = self._reads.policy
        chain = Chain(Body(backend, place.bucket, place.key, raw, version, policy, self._timeouts))
        try:
            chunks = await self._pipeline.read(chain, entries, (), context)
            stored = await collect(chunks)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        await chain.aclose()
        return stored

    # -- what a verb takes away ----------------------------------------------------------------

    async def before(
        self, backend: Backend, bucket: str, key: str, version_id: str | None = None
    ) -> Opened | None:
        """What is there now and would be gone. One that cannot be read is None: it is no reason
        to refuse a write, and what it owns stays."""
        place = ObjectRef(bucket, key)
        for _ in range(_LOOKS):
            try:
                info = await self._head(backend, place, version_id)
                if info is None or self.owner_of(info.metadata) is None:
                    return None
                return await self.opened(backend, place, info)
            except ObjectChangedError:
                continue  # whoever replaced it counts for what was there
            except NotFoundError:
                return None
            except TroveError as exc:
                if exc.retryable:
                    raise
                _log.warning("what is at %s/%s could not be read: %r", bucket, key, exc)
                return None
        return None

    async def after(self, backend: Backend, before: Opened | None, owner: str | None) -> None:
        """The verb has succeeded, and ``owner`` is what its target is named by now. What goes
        wrong here is logged: the verb is done, and what is owned stays."""
        if before is not None and before.owner != owner:
            await settle(asyncio.ensure_future(self._released(backend, before)))

    async def _released(self, backend: Backend, before: Opened) -> None:
        context = before.context
        place = ObjectRef(context.bucket, context.key)
        try:
            is_versioned = backend.versioning is not None and before.version_id is not None
            if not is_versioned or not await self._is_kept(backend, place, before.owner):
                await before.layer.released(before.stored, before.owner, context)
        except Exception:  # a layer may be anybody's code, and the verb is done
            _log.exception("what %s/%s owned is not given up", place.bucket, place.key)

    async def _is_kept(self, backend: Backend, place: ObjectRef, owner: str) -> bool:
        """Whether any version is named so; the newest are looked at first."""
        versioning = backend.versioning
        if versioning is None:
            info = await self._head(backend, place)
            return info is not None and self.owner_of(info.metadata) == owner
        request = versioning.list_versions(place.bucket, place.key)
        for version in await backend.limited(request, self._timeouts):
            if version.is_delete_marker:
                continue
            info = await self._head(backend, place, version.version_id)
            if info is not None and self.owner_of(info.metadata) == owner:
                return True
        return False

    # -- how a write ended ---------------------------------------------------------------------

    async def ended(self, backend: Backend, context: Context, error: BaseException | None) -> None:
        """To be awaited once the driver has finished, whatever came of it; no cancel breaks it."""
        if context.ends:
            await settle(asyncio.ensure_future(self._ended(backend, context, error)))

    async def _ended(self, backend: Backend, context: Context, error: BaseException | None) -> None:
        is_published = True if error is None else await self._was_published(backend, context, error)
        ends, context.ends = context.ends, []
        for end in ends:
            await end(is_published)

    async def _was_published(
        self, backend: Backend, context: Context, error: BaseException
    ) -> bool | None:
        named = self._owner_in(tuple(context.applied), context.hints)
        if named is None:
            return False
        place = ObjectRef(context.bucket, context.key)
        try:
            if await self._is_kept(backend, place, named[1]):
                return True
        except NotFoundError:
            pass  # not even the bucket
        except TroveError:
            return None
        return False if backend.features.decided or _is_final(error) else None


def _is_final(error: BaseException) -> bool:
    """The backend has answered: nothing of the request is on its way any more."""
    return (
        isinstance(error, TroveError)
        and not error.retryable
        and (isinstance(error, AccessError) or not isinstance(error, BackendError))
    )
