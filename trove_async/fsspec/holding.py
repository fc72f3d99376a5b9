"""The open store of a file system: made in the loop that uses it, closed when the process ends."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Final

from trove_async import Trove

__all__ = ["Holder"]

_PATIENCE: Final = 10.0
"""Seconds the end of the process waits for one store to close."""

_log = logging.getLogger("trove_async.fsspec")


class Holder:
    """Knows nothing of the file system, so that it outlives it for the closing."""

    def __init__(self, start: Callable[[], Awaitable[Trove]]) -> None:
        self._start = start
        self._store: Trove | None = None
        self._opening: asyncio.Task[Trove] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        _held.add(self)

    async def store(self) -> Trove:
        """Opened by the first who asks; a cancel of one leaves it to the others."""
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop and self._loop.is_closed():
            self._store = self._opening = None  # what it held went with that loop
        if self._store is not None:
            return self._store
        if self._opening is None or self._opening.done():
            self._loop = loop
            self._opening = loop.create_task(self._open())
            self._opening.add_done_callback(_seen)
        self._store = await asyncio.shield(self._opening)
        return self._store

    @property
    def is_near(self) -> bool:
        """Whether the open store's objects are on this machine."""
        if self._store is None:
            return False
        features = self._store.driver.features
        return features.min_part_size is None and features.max_part_size is None

    async def _open(self) -> Trove:
        return await self._start()

    async def aclose(self) -> None:
        """Twice is fine. The next use opens a new one."""
        opening, self._opening, self._store = self._opening, None, None
        if opening is not None:
            with suppress(Exception):  # told to those who wanted it
                store = await asyncio.shield(opening)
                await store.aclose()

    def end_with(self, owner: object) -> None:
        """Closes the store when ``owner`` is gone before the process is."""
        weakref.finalize(owner, self.end).atexit = False

    def later(self, function: Callable[[], Coroutine[object, object, None]]) -> None:
        """Runs it in the loop without waiting, for finalizers."""
        loop = self._loop
        if loop is not None and self._pid == os.getpid() and loop.is_running():
            asyncio.run_coroutine_threadsafe(function(), loop)

    def end(self, wait: float = 0.0) -> None:
        """Closes it from whatever thread; never waits in the loop that has to do it."""
        loop = self._loop
        is_ours = self._pid == os.getpid()  # a fork's child has the memory, not the loop
        if self._opening is None or loop is None or not is_ours or not loop.is_running():
            return
        closing = asyncio.run_coroutine_threadsafe(self.aclose(), loop)
        if wait:
            try:
                closing.result(wait)
            except Exception as exc:
                _log.debug("a store was not closed at the end of the process: %r", exc)


def _seen(task: asyncio.Task[Trove]) -> None:
    if not task.cancelled():
        task.exception()  # raised to whoever asked; nobody may be left


_held: weakref.WeakSet[Holder] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for holder in [*_held]:
        holder.end(_PATIENCE)
