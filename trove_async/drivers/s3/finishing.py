"""Waiting for what must come to its end."""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["finished"]

T = TypeVar("T")


async def finished(future: asyncio.Future[T], *, grace: float, limit: float | None = None) -> T:
    """Its result. A cancel of the caller waits up to ``grace`` seconds for the end, then
    cancels it too, and is raised when it is over. TimeoutError after ``limit`` seconds."""
    loop = asyncio.get_running_loop()
    interrupted: asyncio.CancelledError | None = None
    deadline = None if limit is None else loop.time() + limit
    while not future.done():
        left = None if deadline is None else max(0.0, deadline - loop.time())
        try:
            await asyncio.wait([future], timeout=left)
        except asyncio.CancelledError as exc:
            if interrupted is None:
                deadline = loop.time() + grace
            interrupted = exc
        if deadline is not None and loop.time() >= deadline and not future.done():
            future.cancel()
            deadline = None  # what is cancelled ends soon
            left = 0.0
            if interrupted is None:
                await asyncio.wait([future])
                raise TimeoutError(f"not done within {limit} s")
    if interrupted is not None:
        if not future.cancelled():
            future.exception()  # retrieved: the cancel wins
        raise interrupted
    return future.result()
