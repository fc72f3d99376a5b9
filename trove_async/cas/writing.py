"""The put of content: written once, named by its digest, referenced before it returns.

The steps: (1) an upload is begun in the index, (2) its bytes go to a temporary key while they
are hashed, (3) the index says whether the content is there already, (4) the bytes get their
name, (5) the index makes them live. Content in memory has its digest before anything is
written, so it begins at 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final
from uuid import uuid4

from trove_async._chunks import Body, Digest, as_body
from trove_async._supply import Supply
from trove_async._threads import cpu_pool, settle
from trove_async.cas.chunked import ChunkedWriter
from trove_async.cas.index import BlobIndex, OpenIndex
from trove_async.cas.place import Place
from trove_async.cas.records import StoredBlob
from trove_async.cas.storing import LEASE, RENEW, stored_as
from trove_async.checksum import INLINE_LIMIT, digest_of
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import (
    ChecksumMismatchError,
    ConflictError,
    ObjectChangedError,
    ObjectNotFoundError,
    TroveError,
)

__all__ = ["SMALL", "Writer"]

SMALL: Final = 8 * 1024 * 1024
"""Bytes up to which content is held in memory and needs no temporary object."""


class Writer:
    def __init__(
        self,
        place: Place,
        index: OpenIndex,
        algorithm: str,
        recorded: str | None,
        chunk: int,
        chunked: ChunkedWriter | None,
    ) -> None:
        self._place = place
        self._index = index
        self._algorithm = algorithm
        self._is_recorded = recorded == algorithm
        """The store computes this very digest for its own record."""
        self._chunk = chunk
        self._chunked = chunked

    async def store(self, body: object, owner: str, check: Callable[[], None]) -> StoredBlob:
        """``check`` may refuse it."""
        in_memory = isinstance(body, bytes | bytearray | memoryview)
        source = as_body(body, SMALL if in_memory else self._chunk)
        try:
            check()
            index = await self._index()
            if self._chunked is not None:
                return await self._chunked.store(index, source, owner)
            if source.whole is not None:
                return await self._small(index, source.whole, owner)
            size = source.size
            if source.replayable and size is not None and size > SMALL:
                # Content of this very size is likely this content: then nothing is written.
                if await index.has_size(size):
                    return await self._read_twice(index, source, owner)
                return await self._streamed(index, source, owner)
            return await self._looked_at(index, source, owner)
        except BaseException as exc:
            await source.refuse(exc)
            raise

    # -- in memory ---------------------------------------------------------------------------

    async def _small(self, index: BlobIndex, data: bytes, owner: str) -> StoredBlob:
        if len(data) <= INLINE_LIMIT[self._algorithm]:
            digest = digest_of(self._algorithm, data)
        else:
            loop = asyncio.get_running_loop()
            digest = await loop.run_in_executor(cpu_pool(), digest_of, self._algorithm, data)
        return await stored_as(index, self._place, digest, data, owner)

    # -- larger, and it can be read again ----------------------------------------------------

    async def _read_twice(self, index: BlobIndex, source: Body, owner: str) -> StoredBlob:
        digest = Digest(self._algorithm)
        chunks = source.open()
        async with aclosing(chunks):
            async for chunk in chunks:
                await digest.feed(chunk)
        name, size = digest.text, digest.count
        assert name is not None
        while True:
            claim = await index.claim(name, owner, LEASE)
            if claim.is_shared:
                return StoredBlob(name, size, True)
            key = self._place.key(name, claim.gen)
            try:
                info = await self._place.publish(key, source, size, claim.now, name)
            except ChecksumMismatchError as exc:
                raise ObjectChangedError("the source changed while it was stored") from exc
            if await index.commit(name, claim.gen, owner, size, info.stored_size, None):
                return StoredBlob(name, size, False)

    # -- of unknown length, or large ---------------------------------------------------------

    async def _looked_at(self, index: BlobIndex, source: Body, owner: str) -> StoredBlob:
        source.is_open = True
        chunks = source.open()
        async with aclosing(chunks):
            supply = Supply(chunks)
            await supply.fill(SMALL)
            if supply.held <= SMALL:
                return await self._small(index, await supply.take_bytes(supply.held), owner)
            return await self._through_tmp(index, supply, owner)

    async def _streamed(self, index: BlobIndex, source: Body, owner: str) -> StoredBlob:
        source.is_open = True
        chunks = source.open()
        async with aclosing(chunks):
            return await self._through_tmp(index, chunks, owner)

    async def _through_tmp(self, index: BlobIndex, chunks: Chunks, owner: str) -> StoredBlob:
        upload = uuid4().hex
        tmp = self._place.tmp_key(upload)
        stamp = await index.begin(upload, tmp, LEASE)
        try:
            digest = None if self._is_recorded else Digest(self._algorithm)
            async with aclosing(_watched(chunks, digest, index, upload)) as body:
                info = await self._place.write_tmp(tmp, body, stamp)
            name = info.checksum if digest is None else digest.text
            assert name is not None
            return await self._named(index, name, info.size, owner, upload, tmp)
        except BaseException as exc:
            await self._give_up(index, upload, tmp, exc)
            raise

    async def _named(
        self, index: BlobIndex, name: str, size: int, owner: str, upload: str, tmp: str
    ) -> StoredBlob:
        source = tmp
        while True:
            claim = await index.claim(name, owner, LEASE)
            if claim.is_shared:
                if source == tmp:
                    await self._place.store.delete(self._place.bucket, tmp)
                await index.forget([upload])
                return StoredBlob(name, size, True)
            key = self._place.key(name, claim.gen)
            try:
                info = await self._place.promote(source, key, size)
            except ObjectNotFoundError as exc:
                raise ConflictError(
                    "the bytes were collected while they were stored: another writer's reference "
                    "to them came and went, or this took longer than a day; store them again",
                    key=source,
                ) from exc
            if await index.commit(name, claim.gen, owner, size, info.stored_size, upload):
                return StoredBlob(name, size, False)
            source = key  # the reservation had ended: the bytes are there, under a name too old

    async def _give_up(self, index: BlobIndex, upload: str, tmp: str, error: BaseException) -> None:
        """Leaves nothing, as far as it can; the rest is collected when the lease ends."""

        async def clean() -> None:
            await self._place.delete_many([tmp])
            await index.forget([upload])

        try:
            await settle(asyncio.ensure_future(clean()))
        except (TroveError, OSError) as exc:
            error.add_note(f"what was written is left for the collector: {exc!r}")


async def _watched(
    chunks: Chunks, digest: Digest | None, index: BlobIndex, upload: str
) -> AsyncGenerator[Bytes, None]:
    """Passes the content on. The hash of a chunk is taken beside its being written."""
    loop = asyncio.get_running_loop()
    renew_at = loop.time() + RENEW
    hashing: asyncio.Future[None] | None = None
    try:
        async for chunk in chunks:
            if loop.time() > renew_at:
                await index.renew(upload, LEASE)
                renew_at = loop.time() + RENEW
            if digest is None:
                yield chunk
            elif len(chunk) <= digest.is_inline:
                digest.update(chunk)
                yield chunk
            else:
                kept = chunk if type(chunk) is bytes else bytes(chunk)
                hashing = loop.run_in_executor(cpu_pool(), digest.update, kept)
                yield kept
                await settle(hashing)
                hashing = None
    finally:
        if hashing is not None:
            await settle(hashing)
