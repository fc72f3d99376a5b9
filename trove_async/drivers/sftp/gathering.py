"""Several small conversations with the server at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TypeVar

from trove_async._threads import settle

__all__ = ["gathered"]

T = TypeVar("T")


async def gathered(work: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """The results in order. The first error is raised, as it is, when all have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return [await task for task in tasks]
    finally:
        running = [task for task in tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await settle(asyncio.ensure_future(asyncio.wait(running)))
        for task in tasks:
            if not task.cancelled():
                task.exception()  # retrieved: only the first is told
