"""Content-addressed storage for runs through deduplication: one for each case, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from trove_async import Trove
from trove_async.cas import CAS
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware.dedup.blobs import Content, StoredContent

__all__ = ["CaseContents"]

_latest: tuple[asyncio.AbstractEventLoop, Trove, CAS] | None = None


async def _of_this_loop() -> CAS:
    """Every case has a loop of its own, in which all its stores share what this gives; it goes
    with the next case. It holds memory alone, so nothing of it needs to be closed."""
    global _latest
    loop = asyncio.get_running_loop()
    if _latest is None or _latest[0] is not loop:
        store = Trove(MemoryDriver(history=0), catalog="memory://")
        cas = store.cas()
        _latest = (loop, store, cas)
        await store.aopen()
    return _latest[2]


class CaseContents:
    """Opens when it is first used."""

    bucket = ""  # none that a case could name

    async def store(self, body: object, *, owner: str) -> StoredContent:
        return await (await _of_this_loop()).store(body, owner=owner)

    def retrieve(self, digest: str, *, range: slice | None = None) -> Coroutine[Any, Any, Content]:
        async def opened() -> Content:
            return await (await _of_this_loop()).retrieve(digest, range=range)

        return opened()

    async def retain(self, digest: str, *, owner: str) -> None:
        await (await _of_this_loop()).retain(digest, owner=owner)

    async def release(self, digest: str, *, owner: str) -> None:
        await (await _of_this_loop()).release(digest, owner=owner)

    async def owners(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        async for pair in (await _of_this_loop()).owners(prefix):
            yield pair
