"""Waiting for what must be known or over when the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from trove_async._threads import settle

__all__ = ["ended", "with_grace"]

T = TypeVar("T")


async def with_grace(work: Coroutine[Any, Any, T], seconds: float) -> tuple[T | None, bool]:
    """(result, False). A cancel of the caller waits up to ``seconds`` for the end: then (result,
    or None when it failed or was not done, True), and it is the caller's to raise the cancel."""
    task = asyncio.ensure_future(work)
    deadline: float | None = None
    now = asyncio.get_running_loop().time
    while not task.done():
        left = None if deadline is None else max(0.0, deadline - now())
        try:
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError:
            deadline = deadline or now() + seconds
        if deadline is not None and now() >= deadline and not task.done():
            await ended(task)
    if deadline is None:
        return task.result(), False
    failed = task.cancelled() or task.exception() is not None
    return (None if failed else task.result()), True


async def ended(task: asyncio.Future[Any]) -> None:
    """Cancels it, and returns when it is over; what came of it does not matter. A cancel of the
    caller that comes meanwhile is raised then."""
    task.cancel()
    await settle(asyncio.ensure_future(_over(task)))


async def _over(task: asyncio.Future[Any]) -> None:
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # retrieved
