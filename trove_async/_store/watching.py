"""Watching a bucket: by what the backends tell, or by listing it again and again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Protocol, Self

from trove_async._threads import settle
from trove_async.model import CommonPrefix, EventType, ObjectEvent, ObjectInfo

__all__ = ["Watching", "poll_changes"]

Entries = Callable[[], AsyncGenerator[ObjectInfo | CommonPrefix, None]]


class Source(Protocol):
    def __aiter__(self) -> AsyncIterator[ObjectEvent]: ...
    async def __anext__(self) -> ObjectEvent: ...
    async def aclose(self) -> None: ...


Opener = Callable[[], Awaitable[Source]]


class Watching:
    """An async iterator of events. The watch stands from the first ``anext``, or from
    entering it with ``async with``; `aclose` ends it."""

    def __init__(self, openers: Sequence[Opener]) -> None:
        self._openers = list(openers)
        self._sources: list[Source] | None = None
        self._queue: asyncio.Queue[ObjectEvent | BaseException | None] = asyncio.Queue(64)
        self._pumps: list[asyncio.Task[None]] = []
        self._ended = 0

    async def _start(self) -> list[Source]:
        if self._sources is None:
            self._sources = []
            try:
                for opener in self._openers:
                    self._sources.append(await opener())
            except BaseException:
                await self.aclose()
                self._sources = None  # the next anext tries again
                raise
            if len(self._sources) > 1:
                self._pumps = [asyncio.create_task(self._pump(s)) for s in self._sources]
        return self._sources

    async def _pump(self, source: Source) -> None:
        last: BaseException | None = None
        try:
            async for event in source:
                await self._queue.put(event)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            last = exc  # raised to the consumer
        await self._queue.put(last)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectEvent:
        sources = await self._start()
        if not self._pumps:
            if not sources:
                raise StopAsyncIteration
            return await sources[0].__anext__()
        while self._ended < len(self._pumps):
            item = await self._queue.get()
            if isinstance(item, ObjectEvent):
                return item
            if item is not None:
                raise item
            self._ended += 1
        raise StopAsyncIteration

    async def aclose(self) -> None:
        pumps, self._pumps = self._pumps, []
        sources, self._sources = self._sources or [], []
        first: BaseException | None = None
        if pumps:
            for pump in pumps:
                pump.cancel()
            try:
                await settle(asyncio.gather(*pumps, return_exceptions=True))
            except asyncio.CancelledError as exc:
                first = exc
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(None)  # wakes who waits for an event
        for source in sources:
            try:
                await source.aclose()
            except BaseException as exc:  # the others are closed all the same
                first = first or exc
        if first is not None:
            raise first

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


async def poll_changes(
    bucket: str, entries: Entries, seconds: float, wanted: frozenset[str] | None
) -> Source:
    """Compares etags every ``seconds``; what is put and deleted in between is not seen.

    The first listing is made before this returns its iterator. Holds one etag per key."""
    async with aclosing(_objects(entries)) as objects:
        known = {info.key: info.etag async for info in objects}
    return _Polling(bucket, entries, seconds, wanted, known)


class _Polling:
    """No generator: an `anext` that is cancelled (``wait_for``) must not end the watch."""

    def __init__(
        self,
        bucket: str,
        entries: Entries,
        seconds: float,
        wanted: frozenset[str] | None,
        known: dict[str, str],
    ) -> None:
        self._bucket = bucket
        self._entries = entries
        self._seconds = seconds
        self._wanted = wanted
        self._known = known
        self._events: deque[ObjectEvent] = deque()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectEvent:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            await asyncio.sleep(self._seconds)
            await self._look()
        return self._events.popleft()

    async def _look(self) -> None:
        seen: dict[str, str] = {}
        events: list[ObjectEvent] = []
        known, bucket = self._known, self._bucket
        async with aclosing(_objects(self._entries)) as objects:
            async for info in objects:
                seen[info.key] = info.etag
                before = known.get(info.key)
                if before != info.etag:
                    kind: EventType = "object.created" if before is None else "object.updated"
                    events.append(ObjectEvent(kind, bucket, info.key, info))
        events += [
            ObjectEvent("object.deleted", bucket, key, None) for key in known if key not in seen
        ]
        self._known = seen
        self._events += [e for e in events if self._wanted is None or e.type in self._wanted]

    async def aclose(self) -> None:
        self._closed = True
        self._events.clear()


async def _objects(entries: Entries) -> AsyncGenerator[ObjectInfo, None]:
    async with aclosing(entries()) as found:
        async for entry in found:
            if isinstance(entry, ObjectInfo):
                yield entry
