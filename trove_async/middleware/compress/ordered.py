"""Jobs side by side in the CPU pool, their results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from typing import Final, ParamSpec, TypeVar

from trove_async._threads import CORES, cpu_pool

__all__ = ["DECODING", "ENCODING", "in_pool", "ordered"]

P = ParamSpec("P")
T = TypeVar("T")

ENCODING: Final = 2 * CORES + 2
"""Jobs under way in one stream that is written: every core has its next frame waiting."""
DECODING: Final = CORES + 2
"""Fewer on a read: a frame decodes faster than it is made, into a buffer better reused."""

BUDGET: Final = max(32, 2 * CORES) << 20
"""Logical bytes under way in one stream, and one frame more: the largest frames have 16 MiB."""

TURN: Final = 4 << 20
"""Logical bytes after which the loop gets a turn: some 10 ms of encoding on it."""


async def ordered(
    jobs: AsyncGenerator[tuple[int, Callable[[], T]], None], most: int, inline: int
) -> AsyncGenerator[T, None]:
    """The results of ``jobs``, each with the bytes it works on; at most ``most`` are under
    way, and those of up to ``inline`` bytes run here unless one before them is under way.

    A job is pure work on memory: one that runs when this is closed ends in milliseconds and
    touches nothing, so it is not waited for."""
    waiting: deque[tuple[int, Future[T]]] = deque()
    under_way = since = 0
    try:
        async with aclosing(jobs):
            async for size, job in jobs:
                since += size
                if since >= TURN:  # when neither source nor pool makes us wait, others do
                    since = 0
                    await asyncio.sleep(0)
                if size <= inline and not waiting:
                    yield job()
                    continue
                waiting.append((size, cpu_pool().submit(job)))
                under_way += size
                while waiting and (
                    waiting[0][1].done() or len(waiting) >= most or under_way > BUDGET
                ):
                    size, first = waiting.popleft()
                    under_way -= size
                    yield await _result(first)
        while waiting:
            yield await _result(waiting.popleft()[1])
    finally:
        for _, future in waiting:
            future.cancel()


async def _result(future: Future[T]) -> T:
    return future.result() if future.done() else await asyncio.wrap_future(future)


async def in_pool(job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.wrap_future(cpu_pool().submit(job, *args, **kwargs))
