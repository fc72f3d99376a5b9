"""One object into one file: in order, ranges ahead where that helps, from where it stopped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from trove_async._chunks import Bytes, Digest
from trove_async._store.objects import Objects
from trove_async._store.reader import ObjectReader, check_whole
from trove_async._threads import settle
from trove_async._transfers.partial import Partial
from trove_async._transfers.progress import Reporter
from trove_async.errors import (
    IntegrityError,
    InvalidRangeError,
    ObjectChangedError,
    PreconditionFailedError,
)
from trove_async.model import MiB, ObjectInfo

__all__ = ["Download"]

_MARK: Final = 8 * MiB
"""Bytes between two records of what is there: as many at most are read again."""


class Download:
    def __init__(
        self,
        store: Objects,
        bucket: str,
        key: str,
        path: str,
        *,
        chunk_size: int,
        concurrency: int,
        reporter: Reporter,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._key = key
        self._path = path
        self._chunk = chunk_size
        self._concurrency = concurrency
        self._reporter = reporter

    async def run(self, *, resumable: bool) -> ObjectInfo:
        source = f"{self._bucket}\0{self._key}" if resumable else None
        reader = None if resumable else await self._opened(0, None)
        partial = Partial(self._path, source)
        keep = resumable
        try:
            proof = await partial.open()
            if reader is None:
                reader = await self._continued(partial)
                if partial.offset == 0:
                    proof = Digest("blake3")
            info = await self._copied(reader, partial, proof, resumable)
            await partial.publish()
            self._reporter.done(partial.offset)
            return info
        except IntegrityError:
            keep = False  # what is there is wrong, and would be wrong again
            raise
        finally:
            try:
                if reader is not None:
                    await reader.aclose()
            finally:
                await partial.close(keep=keep)

    async def _opened(self, offset: int, etag: str | None) -> ObjectReader:
        """From ``offset`` on: to the end, or as much as one of several ranges."""
        wanted: slice | None = slice(offset, None) if offset else None
        if self._concurrency > 1:
            wanted = slice(offset, offset + self._chunk)
        return await self._store.get(self._bucket, self._key, range=wanted, if_match=etag)

    async def _continued(self, partial: Partial) -> ObjectReader:
        """Goes on with what is there if it is a start of the present object, else begins."""
        if partial.offset:
            try:
                return await self._opened(partial.offset, partial.etag)
            except InvalidRangeError:  # it is all there
                try:
                    return await self._opened(partial.offset - 1, partial.etag)
                except (InvalidRangeError, PreconditionFailedError):
                    pass
            except (PreconditionFailedError, ObjectChangedError):
                pass
            await partial.restart()
        return await self._opened(0, None)

    async def _copied(
        self, reader: ObjectReader, partial: Partial, proof: Digest, resumable: bool
    ) -> ObjectInfo:
        info = reader.info
        # What is shown is not what is stored where a presenter stands between.
        recorded = None if self._store._core.pipeline.presenters else info.checksum
        algorithm = recorded.partition(":")[0] if recorded is not None else None
        digest = proof
        if algorithm is not None and algorithm != "blake3":
            digest = Digest(algorithm)
            await partial.hashed(digest)
        self._reporter.total(info.size)
        self._reporter.begin_at(partial.offset)
        marked = partial.offset
        # Then the reader was opened on the last byte, only to see the object.
        is_whole = partial.offset > 0 and partial.offset == info.size
        async with aclosing(self._chunks(reader, partial.offset, info)) as chunks:
            async for chunk in chunks:
                if is_whole:
                    break
                for each in {id(d): d for d in (digest, proof)}.values():
                    if len(chunk) <= each.is_inline:
                        each.update(chunk)
                    else:
                        await each.feed(chunk)
                await partial.write(chunk)
                self._reporter.add(len(chunk))
                if resumable and partial.offset - marked >= _MARK:
                    marked = partial.offset
                    await partial.mark(info.etag, proof.text or "")
        await partial.written()
        check_whole(digest, info.size, recorded)
        return info

    async def _chunks(
        self, reader: ObjectReader, offset: int, info: ObjectInfo
    ) -> AsyncGenerator[Bytes, None]:
        async for chunk in reader:
            offset += len(chunk)
            yield chunk
        if self._concurrency == 1:
            return
        ahead: deque[asyncio.Task[bytes]] = deque()
        starts = iter(range(offset, info.size, self._chunk))
        try:
            while True:
                while len(ahead) < self._concurrency and (start := next(starts, None)) is not None:
                    ahead.append(asyncio.create_task(self._range(start, info.etag)))
                if not ahead:
                    return
                yield await asyncio.shield(ahead[0])
                ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            if ahead:
                await settle(asyncio.ensure_future(asyncio.wait(ahead)))
                for task in ahead:
                    if not task.cancelled():
                        task.exception()

    async def _range(self, start: int, etag: str) -> bytes:
        try:
            reader = await self._store.get(
                self._bucket, self._key, range=slice(start, start + self._chunk), if_match=etag
            )
        except PreconditionFailedError as exc:
            raise ObjectChangedError(
                "the object was replaced while it was downloaded",
                bucket=self._bucket,
                key=self._key,
            ) from exc
        try:
            return await reader.read()
        finally:
            await reader.aclose()
