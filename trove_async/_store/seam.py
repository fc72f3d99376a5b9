"""The one place where an operation is wrapped: interceptors, retries and time limits."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, TypeVar

from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.base import Bytes, Chunks
from trove_async.driver.progress import TOLD
from trove_async.errors import OperationTimeoutError, TroveError
from trove_async.middleware.base import Call, Interceptor
from trove_async.model import ObjectRef

__all__ = ["Idle", "Pulled", "Seam", "bounded", "sending", "waited"]

R = TypeVar("R")
Work = Callable[[str, str, Any], Coroutine[Any, Any, R]]


class Idle:
    """Measures time without progress. It stands still while the caller's own body is waited
    for."""

    __slots__ = ("_paused", "_scope", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._scope: asyncio.Timeout | None = None
        self._paused = False

    def pause(self) -> None:
        self._paused = True
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(None)

    def progress(self) -> None:
        self._paused = False
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time() + self.seconds)

    def moved(self) -> None:
        """What the driver tells; the caller's body may still be waited for elsewhere."""
        if not self._paused:
            self.progress()

    def arm(self) -> asyncio.Timeout:
        self._scope = asyncio.timeout(None if self._paused else self.seconds)
        return self._scope


class Pulled:
    """A body as the driver sees it; while it is pulled the driver's idle time stands still."""

    __slots__ = ("_chunks", "_idle")

    def __init__(self, chunks: Chunks, idle: Idle) -> None:
        self._chunks = chunks
        self._idle = idle

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        self._idle.pause()
        try:
            return await self._chunks.__anext__()
        finally:
            self._idle.progress()

    async def aclose(self) -> None:
        await self._chunks.aclose()


@types.coroutine
def _resumed(coro: Coroutine[Any, Any, R], waiting: Any) -> Generator[Any, Any, R]:
    """Goes on with a coroutine that has been started and waits for ``waiting``."""
    while True:
        try:
            sent = yield waiting
        except GeneratorExit:
            coro.close()
            raise
        except BaseException as exc:
            try:
                waiting = coro.throw(exc)
            except StopIteration as stop:
                result: R = stop.value
                return result
        else:
            try:
                waiting = coro.send(sent)
            except StopIteration as stop:
                result = stop.value
                return result


async def bounded(coro: Coroutine[Any, Any, R], idle: Idle) -> R:
    """Awaits ``coro``; OperationTimeoutError after ``idle.seconds`` without progress.

    The clock is only set when the coroutine really has to wait: what answers at once (the
    memory driver, a cached read) pays no timer.
    """
    try:
        waiting = coro.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    return await waited(coro, waiting, idle)


async def sending(coro: Coroutine[Any, Any, R], idle: Idle) -> R:
    """As `bounded`, of a driver's call that sends a body; what it tells by `moved` is progress
    too."""
    before = TOLD.get()
    TOLD.set(idle.moved)
    try:
        return await bounded(coro, idle)
    finally:
        TOLD.set(before)


async def waited(coro: Coroutine[Any, Any, R], waiting: Any, idle: Idle) -> R:
    """The rest of a coroutine that was started by hand and had to wait for ``waiting``."""
    scope = idle.arm()
    try:
        async with scope:
            return await _resumed(coro, waiting)
    except TimeoutError as exc:
        if scope.expired() and not isinstance(exc, TroveError):
            raise OperationTimeoutError(f"no progress for {idle.seconds:g} s") from exc
        raise


class Seam:
    """Interceptors, the first outermost, then retries, then the work itself."""

    def __init__(
        self, interceptors: Sequence[Interceptor], policy: RetryPolicy, timeouts: Timeouts
    ) -> None:
        self.interceptors = list(interceptors)
        self.policy = policy
        self.timeouts = timeouts
        self._is_bare = not self.interceptors and timeouts.total is None

    async def run(
        self,
        operation: str,
        bucket: str,
        key: str,
        options: Any,
        work: Work[R],
        *,
        replayable: bool = True,
        target: ObjectRef | None = None,
    ) -> R:
        if self._is_bare:
            try:
                return await work(bucket, key, options)
            except TroveError as exc:
                return await self._again(operation, bucket, key, options, work, replayable, exc)
        if self.timeouts.total is not None:
            scope = asyncio.timeout(self.timeouts.total)
            try:
                async with scope:
                    return await self._intercepted(
                        operation, bucket, key, options, work, replayable, target
                    )
            except TimeoutError as exc:
                if scope.expired() and not isinstance(exc, TroveError):
                    raise OperationTimeoutError(
                        f"not done within {self.timeouts.total:g} s",
                        bucket=bucket,
                        key=key,
                        operation=operation,
                    ) from exc
                raise
        return await self._intercepted(operation, bucket, key, options, work, replayable, target)

    async def _intercepted(
        self,
        operation: str,
        bucket: str,
        key: str,
        options: Any,
        work: Work[R],
        replayable: bool,
        target: ObjectRef | None,
    ) -> R:
        async def innermost(call: Call[R]) -> R:
            return await self._tried(
                operation, call.bucket, call.key, call.options, work, replayable
            )

        proceed: Callable[[Call[R]], Awaitable[R]] = innermost
        for interceptor in reversed(self.interceptors):
            proceed = _around(interceptor, proceed)
        call: Call[R] = Call(operation, bucket, key, options, target)
        return await proceed(call)

    async def _tried(
        self,
        operation: str,
        bucket: str,
        key: str,
        options: Any,
        work: Work[R],
        replayable: bool,
    ) -> R:
        try:
            return await work(bucket, key, options)
        except TroveError as exc:
            return await self._again(operation, bucket, key, options, work, replayable, exc)

    async def _again(
        self,
        operation: str,
        bucket: str,
        key: str,
        options: Any,
        work: Work[R],
        replayable: bool,
        failed: TroveError,
    ) -> R:
        """After the first try has failed: raises its error, or tries on."""
        failed.at(bucket=bucket or None, key=key or None, operation=operation)
        if not failed.retryable or not replayable:
            raise failed
        started = time.monotonic()
        for attempt in range(1, self.policy.attempts):
            delay = self.policy.delay(attempt, getattr(failed, "retry_after", None))
            if time.monotonic() + delay - started > self.policy.deadline:
                break
            await asyncio.sleep(delay)
            try:
                return await work(bucket, key, options)
            except TroveError as exc:
                exc.at(bucket=bucket or None, key=key or None, operation=operation)
                if not exc.retryable:
                    raise
                failed = exc
        raise failed


def _around(
    interceptor: Interceptor, proceed: Callable[[Call[R]], Awaitable[R]]
) -> Callable[[Call[R]], Awaitable[R]]:
    async def step(call: Call[R]) -> R:
        return await interceptor.intercept(call, proceed)

    return step
