"""What goes on beside a transfer: hooks of its user, and waiting for its tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

__all__ = ["log", "over", "tell"]

log = logging.getLogger("trove_async.stream")
V = TypeVar("V")


async def tell(stream_id: str, hook: Callable[[V], Awaitable[None] | None], value: V) -> None:
    """Errors of hooks are logged and break nothing."""
    try:
        answer = hook(value)
        if isawaitable(answer):
            await answer
    except Exception:  # the hook is the caller's code
        log.exception("a hook of stream %s failed", stream_id)


async def over(task: asyncio.Task[None]) -> None:
    """Waits for the end of ``task``, however it ends; a cancel meanwhile is raised then."""
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            interrupted = exc
    if not task.cancelled():
        task.exception()  # retrieved, so that the loop does not report it
    if interrupted is not None:
        raise interrupted
