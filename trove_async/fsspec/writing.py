"""One put that is fed piece by piece, and published when its caller says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import TypedDict

from trove_async import (
    ObjectInfo,
    ObjectNotFoundError,
    PreconditionFailedError,
    Trove,
    UnsupportedError,
)

__all__ = ["PutArguments", "Writing", "create"]


class PutArguments(TypedDict, total=False):
    """Those of `Trove.put` with their meanings there."""

    content_type: str | None
    metadata: Mapping[str, str] | None
    tags: Mapping[str, str] | None
    storage_class: str | None
    part_size: int | None
    concurrency: int | None


class Writing:
    """Nothing is sent before the second piece, so a small file is one plain put.

    ``append``: the object's bytes so far come first; the whole is written anew.
    ``exclusive``: FileExistsError when there is one by then."""

    def __init__(
        self,
        store: Trove,
        bucket: str,
        key: str,
        arguments: PutArguments,
        *,
        append: bool = False,
        exclusive: bool = False,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._key = key
        self._arguments = arguments
        self._append = append
        self._exclusive = exclusive
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._putting: asyncio.Task[ObjectInfo] | None = None
        self._last: bytes | None = None

    async def feed(self, data: bytes) -> None:
        """Waits while the piece before is still to be taken; raises what the put failed with."""
        if self._putting is None:
            self._putting = asyncio.create_task(self._put(self._body))
        await self._give(data)

    def keep(self, data: bytes) -> None:
        """The last piece; it is sent by `finish`."""
        self._last = data

    async def finish(self) -> ObjectInfo:
        """Publishes."""
        if self._putting is None and not self._append:
            data = self._last or b""
            return await self._put(lambda: data)
        try:
            if self._putting is None:
                self._putting = asyncio.create_task(self._put(self._body))
            await self._give(None)  # `_body` ends with the last piece
            return await asyncio.shield(self._putting)
        except BaseException:
            await self.abort()
            raise

    async def abort(self) -> None:
        """What was there stays; twice is fine."""
        putting, self._last = self._putting, None
        if putting is not None and not putting.done():
            putting.cancel()
            await asyncio.wait([putting])
        if putting is not None and not putting.cancelled():
            putting.exception()  # the caller knows why

    async def _give(self, piece: bytes | None) -> None:
        putting = self._putting
        assert putting is not None
        giving = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait([giving, putting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not giving.done():
                giving.cancel()
        if putting.done() and piece is not None:
            putting.result()
            raise BrokenPipeError("the put ended before its body did")

    async def _put(self, body: Callable[[], object]) -> ObjectInfo:
        if self._exclusive:
            return await create(self._store, self._bucket, self._key, body, self._arguments)
        return await self._store.put(self._bucket, self._key, body(), **self._arguments)

    async def _body(self) -> AsyncGenerator[bytes, None]:
        if self._append:
            with suppress(ObjectNotFoundError):
                async with self._store.get(self._bucket, self._key) as before:
                    async for chunk in before:
                        yield chunk
        while (piece := await self._pieces.get()) is not None:
            if piece:
                yield piece
        if self._last:
            yield self._last


async def create(
    store: Trove, bucket: str, key: str, body: Callable[[], object], arguments: PutArguments
) -> ObjectInfo:
    """FileExistsError when there is an object. Where a backend has no conditional put, that is
    only looked up before, and two who create at once may both succeed."""
    try:
        if await store.exists(bucket, key):
            raise FileExistsError(f"{bucket}/{key}")
        return await store.put(bucket, key, body(), if_none_match="*", **arguments)
    except PreconditionFailedError as exc:
        raise FileExistsError(f"{bucket}/{key}") from exc
    except UnsupportedError:  # if for another reason, then it is raised again
        return await store.put(bucket, key, body(), **arguments)
