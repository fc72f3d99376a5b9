"""Mutants that are wrong only at the wrong moment: torn, late, cancelled, blocking, leaking."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from trove_async._chunks import OneChunk, collect
from trove_async.driver import Chunks, CopyOptions, DeleteOptions, GetOptions, PutOptions, RawObject
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import ObjectNotFoundError
from trove_async.model import ObjectInfo, ObjectRef, PartInfo
from trove_async.testing.mutants.mutant import Mutant

__all__ = ["TIMING"]


class WritesInPlace(MemoryDriver):
    """Every chunk shows as it comes."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        held = b""
        early = PutOptions(options.content_type, options.metadata)
        async for chunk in body:
            held += bytes(chunk)
            await super().put(bucket, key, OneChunk(held), early)
        return await super().put(bucket, key, OneChunk(held), options)


class MetadataFirst(MemoryDriver):
    """Metadata and body are published one after the other."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        data = await collect(body)
        try:
            old = (await super().get(bucket, key, GetOptions())).body
        except ObjectNotFoundError:
            return await super().put(bucket, key, OneChunk(data), options)
        early = PutOptions(options.content_type, options.metadata)
        await super().put(bucket, key, OneChunk(await collect(old)), early)
        await asyncio.sleep(0)
        return await super().put(bucket, key, OneChunk(data), options)


class KeepsWhatCame(MemoryDriver):
    """A body that breaks is stored as far as it came."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        held = b""
        try:
            async for chunk in body:
                held += bytes(chunk)
        except BaseException:
            await super().put(bucket, key, OneChunk(held), PutOptions())
            raise
        return await super().put(bucket, key, OneChunk(held), options)


class SwallowsCancel(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        try:
            return await super().put(bucket, key, body, options)
        except asyncio.CancelledError:
            return await super().put(bucket, key, OneChunk(b""), PutOptions(metadata={}))


class ClosesTheBody(MemoryDriver):
    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        try:
            return await super().upload_part(bucket, key, upload_id, number, body, size)
        finally:
            await body.aclose()


class DeletesBeforeItMoves(MemoryDriver):
    async def move(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        stored = self._object(self._bucket(source.bucket), source.key)
        await self.delete(source.bucket, source.key, DeleteOptions())
        for _ in range(50):
            await asyncio.sleep(0)
        self._bucket(source.bucket).objects[source.key] = stored
        self._bucket(source.bucket).added(source.key)
        return await super().move(source, target, options)


class MovesInTwoSteps(MemoryDriver):
    async def move(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        info = await self.copy(source, target, options)
        await asyncio.sleep(0.002)
        if source != target:
            await self.delete(source.bucket, source.key, DeleteOptions())
        return info


class CopiesInTwoSteps(MemoryDriver):
    """The target is missing for a moment."""

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        if source != target:
            await self.delete(target.bucket, target.key, DeleteOptions())
            await asyncio.sleep(0.001)
        return await super().copy(source, target, options)


class ReadsLate(MemoryDriver):
    """Now and then a get answers with the version before."""

    def __init__(self) -> None:
        super().__init__()
        self._gets = 0

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        self._gets += 1
        past = self._bucket(bucket).past.get(key)
        if past and self._gets % 3 == 0 and key in self._bucket(bucket).objects:
            for stored in reversed(past):
                if stored.data is not None:
                    return self._opened(stored, options)
        return await super().get(bucket, key, options)


class LosesPuts(MemoryDriver):
    """A put while another one is under way is acknowledged and dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._busy = 0

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        self._busy += 1
        try:
            data = await collect(body)
            await asyncio.sleep(0)
            if self._busy > 1 and key in self._bucket(bucket).objects:
                return self._object(self._bucket(bucket), key).info
            return await super().put(bucket, key, OneChunk(data), options)
        finally:
            self._busy -= 1


class BlocksTheLoop(MemoryDriver):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        found = await super().get(bucket, key, options)
        if found.info.size > 1_000_000:
            time.sleep(0.08)  # noqa: ASYNC251 -- what is broken here
        return found


class LeaksATask(MemoryDriver):
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        self._task = asyncio.create_task(asyncio.sleep(3600))
        await super().delete(bucket, key, options)


class LeaksADescriptor(MemoryDriver):
    async def open(self) -> None:
        os.dup(0)
        await super().open()


class WorksWhenClosed(MemoryDriver):
    async def close(self) -> None:
        for queue in self._queues:
            queue.close()


class FailsWhenClosedTwice(MemoryDriver):
    async def close(self) -> None:
        if self._closed:
            raise RuntimeError("closed already")
        await super().close()


TIMING: Final = (
    Mutant("writes in place", WritesInPlace, ("K052", "K159", "K164", "K169")),
    Mutant("metadata first", MetadataFirst, ("K159", "K169")),
    Mutant("keeps what came", KeepsWhatCame, ("K051", "K052", "K169", "K248")),
    Mutant("swallows a cancel", SwallowsCancel, ("K169", "K176")),
    Mutant("closes the body", ClosesTheBody, ("K217",)),
    Mutant("deletes before it moves", DeletesBeforeItMoves, ("K117", "K172")),
    Mutant("moves in two steps", MovesInTwoSteps, ("K117",)),
    Mutant("copies in two steps", CopiesInTwoSteps, ("K115", "K172")),
    Mutant("reads late", ReadsLate, ("K166",)),
    Mutant("loses puts", LosesPuts, ("K160", "K166")),
    Mutant("blocks the loop", BlocksTheLoop, ("K167",)),
    Mutant("leaks a task", LeaksATask, ("K127",)),
    Mutant("leaks a descriptor", LeaksADescriptor, ("K182",)),
    Mutant("works when closed", WorksWhenClosed, ("K185",)),
    Mutant("fails when closed twice", FailsWhenClosedTwice, ("K186",)),
)
