"""Waiting for what must come to its end, and trying again what may succeed later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from trove_async.errors import NotFoundError, TroveError

__all__ = ["dropped", "finished", "tried"]

T = TypeVar("T")
_TRIES: Final = 3
_PAUSE: Final = 0.1
_LONGEST: Final = 5.0


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


async def tried(work: Callable[[], Awaitable[T]], tries: int = _TRIES) -> T:
    """Again, what may succeed later and the store cannot repeat: the body is gone by then."""
    for attempt in range(1, tries):
        try:
            return await work()
        except TroveError as exc:
            if not exc.retryable:
                raise
            wait = getattr(exc, "retry_after", None)
        await asyncio.sleep(min(wait or _PAUSE * attempt, _LONGEST))
    return await work()


async def dropped(
    abort: Callable[[], Awaitable[object]],
    what: str,
    reason: BaseException | None,
    *,
    limit: float = 15.0,
) -> None:
    """Ends ``what`` within ``limit`` seconds, whatever happens to the task. It is no error that
    it is not there; what cannot be ended is noted on ``reason``."""
    problem = "no answer in time"

    async def ending() -> None:
        nonlocal problem
        for attempt in range(1, _TRIES + 2):
            try:
                await abort()
            except NotFoundError:
                pass
            except TroveError as exc:
                problem = str(exc)
                if not exc.retryable:
                    break
                await asyncio.sleep(_PAUSE * attempt)
                continue
            problem = ""
            return

    try:
        await finished(asyncio.ensure_future(ending()), grace=limit, limit=limit)
    except TimeoutError:
        pass
    finally:
        if problem and reason is not None:
            reason.add_note(f"{what} could not be aborted: {problem}")
