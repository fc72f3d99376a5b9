"""A bounded queue of events for one watcher, shared by drivers that see changes themselves."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from trove_async.model import EventType, ObjectEvent, ObjectInfo

__all__ = ["EventQueue"]


class EventQueue:
    """An async iterator of events. When the consumer lags by more than ``limit`` events, what
    comes next is lost and one ``watch.overflow`` says so."""

    def __init__(self, bucket: str, limit: int) -> None:
        self._bucket = bucket
        self._limit = limit
        self._events: deque[ObjectEvent] = deque()
        self._overflowed = False
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self.on_close: Callable[[], None] | None = None

    def push(self, kind: EventType, key: str, info: ObjectInfo | None) -> None:
        """Called from the event loop."""
        if self._closed:
            return
        if len(self._events) >= self._limit:
            if not self._overflowed:
                self._overflowed = True
                self._events.append(ObjectEvent("watch.overflow", self._bucket, "", None))
        else:
            self._events.append(ObjectEvent(kind, self._bucket, key, info))
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def close(self) -> None:
        """Ends the iteration once what is queued has been read."""
        if not self._closed:
            self._closed = True
            self._wake()
            if self.on_close is not None:
                self.on_close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectEvent:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if event.type == "watch.overflow":
            self._overflowed = False
        return event

    async def aclose(self) -> None:
        self.close()
        self._events.clear()
