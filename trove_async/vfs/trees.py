"""Files and whole trees that go elsewhere, or away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from trove_async._together import both, side_by_side
from trove_async.errors import DirectoryNotEmptyError, ObjectNotFoundError, TroveError
from trove_async.model import ObjectInfo
from trove_async.vfs.entries import Entries
from trove_async.vfs.info import DIRECTORY, FileInfo, file_info
from trove_async.vfs.paths import below, refuse_inside

__all__ = ["Trees"]

BATCH: Final = 1000
"""Objects that are looked at together: a page of a listing."""


class Trees:
    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._store = entries.store
        self._bucket = entries.bucket

    # -- away --------------------------------------------------------------------------------

    async def remove(self, key: str) -> int:
        count = 0
        failed: TroveError | None = None
        if key and await self._entries.object(key) is not None:
            await self._store.delete(self._bucket, key)
            count = 1
        async with aclosing(self._batches(key)) as batches:
            async for batch in batches:
                keys = [info.key for info in batch]
                for result in await self._store.delete_many(self._bucket, keys):
                    if result.error is None:
                        count += 1
                    else:
                        failed = failed or result.error
        if failed is not None:
            raise failed
        return count

    async def _batches(self, key: str) -> AsyncGenerator[list[ObjectInfo], None]:
        batch: list[ObjectInfo] = []
        async with aclosing(self._entries.objects(key)) as objects:
            async for info in objects:
                batch.append(info)
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    # -- elsewhere ---------------------------------------------------------------------------

    async def rename(self, source: str, target: str) -> FileInfo:
        found = await self._entries.stat(source)
        if source == target:
            return found
        if not source:
            refuse_inside(source, target)
        if found.is_file:
            return await self._file(source, target, self._moved)
        await self._check_target(source, target, is_move=True)
        await self._each(source, target, self._moved)
        return await self._entries.stat(target)

    async def copy(self, source: str, target: str) -> FileInfo:
        found = await self._entries.stat(source)
        if source == target:
            return found
        if found.is_file:
            return await self._file(source, target, self._copied)
        await self._check_target(source, target, is_move=False)
        await self._each(source, target, self._copied)
        return await self._entries.stat(target)

    async def _file(
        self, source: str, target: str, work: Callable[[str, str], Awaitable[ObjectInfo]]
    ) -> FileInfo:
        if not target:
            raise self._entries.is_directory("/")
        async with self._entries.placing(target):
            await self._entries.check_place(target)
            return file_info(await work(source, target))

    async def _check_target(self, source: str, target: str, *, is_move: bool) -> None:
        refuse_inside(source, target)
        entries = self._entries
        if target:
            blocker, there = await both(
                lambda: entries.file_above(target), lambda: entries.object(target)
            )
            if there is not None:
                blocker = target
            if blocker is not None:
                raise entries.not_directory(blocker)
        if is_move:
            inside = await entries.first(target, 2)
            if not target or any(info.key != below(target) for info in inside):
                raise DirectoryNotEmptyError(
                    "the directory is not empty", bucket=self._bucket, key=target or "/"
                )

    async def _each(
        self, source: str, target: str, work: Callable[[str, str], Awaitable[ObjectInfo]]
    ) -> None:
        """Every key below the one, with the same rest below the other."""
        size = len(below(source))
        has_folders = not self._store.features(self._bucket, below(target)).flat_keys

        async def one(info: ObjectInfo) -> None:
            goal = below(target) + info.key[size:]
            if has_folders and info.key.endswith("/") and not info.stored_size:
                await self._store.put(self._bucket, goal, b"", content_type=DIRECTORY)
                if work == self._moved:
                    await self._store.delete(self._bucket, info.key)
                return
            try:
                await work(info.key, goal)
            except ObjectNotFoundError:
                if await self._entries.object(info.key) is not None:
                    raise  # else it was removed since it was listed

        async with aclosing(self._batches(source)) as batches:
            async for batch in batches:
                await side_by_side(batch, one)

    async def _moved(self, source: str, target: str) -> ObjectInfo:
        return await self._store.move(self._bucket, source, self._bucket, target)

    async def _copied(self, source: str, target: str) -> ObjectInfo:
        return await self._store.copy(self._bucket, source, self._bucket, target)
