"""The layer between an object's bytes and the one copy of them that is kept."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Final

from trove_async._chunks import OneChunk, cut
from trove_async._supply import Supply
from trove_async._threads import settle
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import (
    BlobNotFoundError,
    CasMissingBlobError,
    IntegrityError,
    InvalidConfigError,
    ObjectChangedError,
)
from trove_async.middleware.base import Direction, Layout, RangeSource, Stage
from trove_async.middleware.context import Context
from trove_async.middleware.dedup.blobs import Blobs, Content, StoredContent
from trove_async.middleware.dedup.reference import (
    ENCODING,
    HINT,
    LENGTH,
    Reference,
    lead_of,
    new_id,
    owner_text,
)
from trove_async.middleware.dedup.sweeping import (
    RestoreReport,
    Store,
    SweepReport,
    restored,
    swept,
)
from trove_async.model import Seconds

__all__ = ["Dedup", "by_bucket", "one_space"]

OnDuplicate = Callable[[Context, StoredContent], Awaitable[None] | None]

_FRESH: Final = 600.0
"""Seconds after which an owner's id is made anew before its object is published: `sweep` takes
an old id without an object for one that was left behind."""

_log = logging.getLogger("trove_async.dedup")


def by_bucket(context: Context) -> str:
    """Each bucket is an address space of its own."""
    return f"bucket:{context.bucket}"


def one_space(context: Context) -> str:
    """All share one: whoever can put can find out, by time or by `on_duplicate`, whether
    anybody else has the same content."""
    return ""


class Dedup:
    """Content goes to ``cas``, where equal content is kept once; the object is a reference of
    52 bytes to it. Stands before compression and encryption, so what is compared is what was
    put; content is compressed and encrypted where ``cas`` keeps it, references where they are.

    ``scope_by``: a name for each operation; only content that was put under one name is
    compared. By default the bucket's name, so that nobody learns from a bucket of their own
    what another one holds. Give the tenant where tenants share a bucket; `one_space` for all.

    ``min_size``: bytes below which an object is kept as it is.

    ``on_duplicate(context, content)`` is called, and awaited if it is async, once an object was
    published whose content was there already. Its errors are logged, to ``trove_async.dedup``.

    Copies, moves, overwrites and deletes through a store that has this layer keep count. What
    others do to the bucket, and crashes, leave content counted that no object needs: `sweep`
    finds it. Nothing leaves an object without its content but a `CAS.gc` whose ``grace`` is
    shorter than a read that is under way."""

    name: Final = "dedup"
    direction: Final = Direction.READ_WRITE
    stage: Final = Stage.DEDUP
    encoding: Final = ENCODING
    owner_hint: Final = HINT
    head: Final = LENGTH
    tail: Final = 0

    def __init__(
        self,
        cas: Blobs,
        *,
        on_duplicate: OnDuplicate | None = None,
        scope_by: Callable[[Context], str] = by_bucket,
        min_size: int = 0,
    ) -> None:
        if min_size < 0:
            raise InvalidConfigError("min_size must not be negative")
        self._cas = cas
        self._on_duplicate = on_duplicate
        self._scope_by = scope_by
        self._min_size = min_size

    def __repr__(self) -> str:
        return f"<Dedup in {self._cas!r}>"

    # -- writing -----------------------------------------------------------------------------

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        """Content and its owner are durable when this returns; the object is published after."""
        if context.bucket == self._cas.bucket or ENCODING in context.applied:
            return chunks
        if self._min_size:
            supply = Supply(chunks)
            await supply.fill(self._min_size - 1)
            if supply.held < self._min_size:
                return supply
            chunks = supply
        lead = lead_of(self._scope_by(context))
        id, started = new_id(), time.monotonic()
        owner = owner_text(context.bucket, context.key, id)
        try:
            content = await self._cas.store(_Led(lead, chunks), owner=owner)
            if time.monotonic() - started > _FRESH:
                id = await self._owned_again(content.digest, context)
                await self._cas.release(content.digest, owner=owner)
                owner = owner_text(context.bucket, context.key, id)
            reference = Reference(content.digest, content.size - len(lead), len(lead)).encode()
        except BaseException:
            await settle(asyncio.ensure_future(self._forget(owner)))
            raise
        context.hints[HINT] = id
        context.stored_size = LENGTH
        context.ends.append(partial(self._ended, context, content, owner))
        return OneChunk(reference)

    async def _owned_again(self, digest: str, context: Context) -> str:
        id = new_id()
        owner = owner_text(context.bucket, context.key, id)
        try:
            await self._cas.retain(digest, owner=owner)
        except BaseException:
            await settle(asyncio.ensure_future(self._forget(owner)))
            raise
        return id

    async def _ended(
        self, context: Context, content: StoredContent, owner: str, is_published: bool | None
    ) -> None:
        if is_published is False:
            await self._release(content.digest, owner)
        elif is_published and content.deduplicated and self._on_duplicate is not None:
            try:
                result = self._on_duplicate(context, content)
                if inspect.isawaitable(result):
                    await result
            except (Exception, asyncio.CancelledError):  # this task is nobody's to cancel
                _log.exception("on_duplicate failed")

    async def _forget(self, owner: str) -> None:
        """An owner whose object never will be; nobody knows whether it was counted."""
        try:
            digests = [digest async for name, digest in self._cas.owners(owner) if name == owner]
        except Exception:  # the write's own error is raised; the sweep finds what is left
            _log.exception("%s may be left counted", owner)
            return
        for digest in digests:
            await self._release(digest, owner)

    async def _release(self, digest: str, owner: str) -> None:
        try:
            await self._cas.release(digest, owner=owner)
        except Exception:  # it stays counted until the next sweep
            _log.exception("%s is left counted", owner)

    # -- copies and ends ---------------------------------------------------------------------

    def shares(self, source: Context, target: Context) -> bool:
        return target.bucket != self._cas.bucket and self._scope_by(source) == self._scope_by(
            target
        )

    async def copied(self, stored: bytes, source: Context, target: Context) -> str:
        reference = Reference.parse(stored)
        try:
            id = await self._owned_again(reference.digest, target)
        except BlobNotFoundError as exc:
            raise _missing(reference) from exc
        owner = owner_text(target.bucket, target.key, id)

        async def ended(is_published: bool | None) -> None:
            if is_published is False:
                await self._release(reference.digest, owner)

        target.ends.append(ended)
        return id

    async def released(self, stored: bytes, owner: str, context: Context) -> None:
        digest = Reference.parse(stored).digest
        await self._cas.release(digest, owner=owner_text(context.bucket, context.key, owner))

    async def sweep(
        self,
        store: Store,
        bucket: str | None = None,
        *,
        grace: Seconds = timedelta(hours=24),
        dry_run: bool = False,
    ) -> SweepReport:
        """Gives up what is counted for objects of a bucket that are there no more, versions
        included. Owners younger than ``grace`` are left: their objects may be on their way.
        Run it before `CAS.gc`. InvalidConfigError unless this layer is registered in
        ``store``, of which all backends are looked at."""
        return await swept(self._cas, self, store, bucket, grace, dry_run=dry_run)

    async def restore(
        self, store: Store, bucket: str | None = None, *, prefix: str = ""
    ) -> RestoreReport:
        """Counts every object of a bucket again, and their versions: for after `CAS.rebuild`,
        before what that pinned is unpinned. Older versions of a key that has no object now are
        not listed, so not found."""
        return await restored(self._cas, self, store, bucket, prefix)

    # -- reading -----------------------------------------------------------------------------

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        reference = await Reference.read(chunks)
        content = await self._opened(reference, None)
        return _Content(content, reference.lead)

    async def layout(self, below: RangeSource, context: Context) -> Layout:
        if below.size > LENGTH:
            raise IntegrityError(f"a reference has {LENGTH} bytes, this has {below.size}")
        return _Layout(await _reference_in(below), self._opened)

    async def _opened(self, reference: Reference, range: slice | None) -> Content:
        try:
            content = await self._cas.retrieve(reference.digest, range=range)
        except BlobNotFoundError as exc:
            raise _missing(reference) from exc
        if content.info.size != reference.lead + reference.size:
            await content.aclose()
            raise IntegrityError(
                f"the content has {content.info.size - reference.lead} bytes, "
                f"{reference.size} were recorded"
            )
        return content


class _Led:
    """The content with what goes before it. The body belongs to the store's own chain."""

    __slots__ = ("_chunks", "_lead")

    def __init__(self, lead: bytes, chunks: Chunks) -> None:
        self._lead = lead
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        lead, self._lead = self._lead, b""
        return lead or await self._chunks.__anext__()

    async def aclose(self) -> None:
        pass


class _Content:
    """Content without what goes before it, closed also when nothing was pulled."""

    __slots__ = ("_chunks", "_content", "_skip")

    def __init__(self, content: Content, skip: int) -> None:
        self._content = content
        self._chunks = aiter(content)
        self._skip = skip

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        while True:
            chunk: Bytes = await anext(self._chunks)
            if self._skip:
                skip = min(self._skip, len(chunk))
                self._skip -= skip
                chunk = memoryview(chunk)[skip:]
            if len(chunk):
                return chunk

    async def aclose(self) -> None:
        await self._content.aclose()


class _Layout:
    """Reads the reference again each time: it is the object, and it may be another by now."""

    __slots__ = ("_open", "_reference")

    def __init__(
        self, reference: Reference, open: Callable[[Reference, slice], Awaitable[Content]]
    ) -> None:
        self._reference = reference
        self._open = open

    @property
    def size(self) -> int:
        return self._reference.size

    def read(self, below: RangeSource, start: int, stop: int) -> Chunks:
        return self._read(below, start, stop)

    async def _read(self, below: RangeSource, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        reference = self._reference
        if await _reference_in(below) != reference:
            raise ObjectChangedError("the object was replaced while it was read")
        if start >= stop:
            return
        lead = reference.lead
        content = await self._open(reference, slice(lead + start, lead + stop))
        async with aclosing(_Content(content, 0)) as chunks:
            async for chunk in chunks:
                yield chunk


async def _reference_in(below: RangeSource) -> Reference:
    async with aclosing(cut(below.read(0, below.size), 0, LENGTH + 1)) as chunks:
        return await Reference.read(chunks)


def _missing(reference: Reference) -> CasMissingBlobError:
    return CasMissingBlobError(f"the content {reference.digest} of this object is not there")
