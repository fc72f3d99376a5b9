"""Jobs side by side in the CPU pool, their results in order; the loop's thread lends a hand
instead of waiting, where it has nothing else of this kind to do."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from math import inf
from typing import Final, Generic, ParamSpec, TypeVar

from trove_async._threads import CORES, cpu_pool

__all__ = ["UNDER_WAY", "in_pool", "ordered"]

P = ParamSpec("P")
T = TypeVar("T")

UNDER_WAY: Final = 2 * CORES + 2
"""Jobs under way in one stream: every core has its next frame waiting."""

BUDGET: Final = max(32, 2 * CORES) << 20
"""Logical bytes under way in one stream, and one frame more: the largest frames have 16 MiB."""

TURN: Final = 4 << 20
"""Logical bytes after which the loop gets a turn: some 10 ms of encoding on it."""

_open: set[object] = set()
"""The streams of this process that are open, in whichever loops."""


class _Job(Generic[T]):
    """What a worker or the loop's thread does once; whoever took it from the crew runs it."""

    __slots__ = ("_error", "_result", "_waiter", "_work", "is_done", "size")

    def __init__(self, size: int, work: Callable[[], T]) -> None:
        self.size = size
        self.is_done = False
        self._work: Callable[[], T] | None = work
        self._waiter: asyncio.Future[None] | None = None
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        work, self._work = self._work, None
        assert work is not None
        try:
            self._result.append(work())
        except BaseException as exc:  # raised where the result is asked for
            self._error = exc
        del work  # the frame it holds goes with it
        self.is_done = True
        if (waiter := self._waiter) is not None:
            with suppress(RuntimeError):  # the loop is gone; nobody waits any more
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def wait(self) -> None:
        """Until a worker has run it."""
        self._waiter = asyncio.get_running_loop().create_future()
        if not self.is_done:  # asked after the worker can see who waits
            await self._waiter

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result.pop()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Crew(Generic[T]):
    """The jobs of one stream that nobody has begun, and how many workers take from them."""

    __slots__ = ("_jobs", "_lock", "_steps", "_workers")

    def __init__(self) -> None:
        self._jobs: deque[_Job[T]] = deque()
        self._lock = threading.Lock()
        self._workers = 0
        self._steps: list[Future[None]] = []
        """What the pool has of ours."""

    def add(self, job: _Job[T], workers: int) -> None:
        with self._lock:
            self._jobs.append(job)
            if self._workers < workers:
                self._workers += 1
                self._submit()

    def take(self, largest: float = inf) -> _Job[T] | None:
        """The next in order; None where that is larger, or where there is none."""
        with self._lock:
            if self._jobs and self._jobs[0].size <= largest:
                return self._jobs.popleft()
            return None

    def dismiss(self) -> None:
        with self._lock:
            self._jobs.clear()
            for step in self._steps:
                step.cancel()

    def _submit(self) -> None:
        self._steps = [step for step in self._steps if not step.done()]
        self._steps.append(cpu_pool().submit(self._step))

    def _step(self) -> None:
        """One job; the next after what others have brought to the pool meanwhile."""
        if (job := self.take()) is not None:
            job.run()
        with self._lock:
            if self._jobs:
                with suppress(RuntimeError):  # the interpreter ends
                    self._submit()
                    return
            self._workers -= 1


async def ordered(
    jobs: AsyncGenerator[tuple[int, Callable[[], T]], None], inline: int, helped: int
) -> AsyncGenerator[T, None]:
    """The results of ``jobs``, each with the bytes it works on; those of up to ``inline`` bytes
    run here unless one before them is under way.

    Where no other stream is open, jobs of up to ``helped`` bytes also run here when the result
    that comes next would have to be waited for, and the workers are one fewer: so many threads
    as cores are what is fastest (measured: 3 on 2 cores take 1.2 times as long).

    A job is pure work on memory: one that runs when this is closed ends in milliseconds and
    touches nothing, so it is not waited for."""
    crew: _Crew[T] = _Crew()
    waiting: deque[_Job[T]] = deque()
    under_way = since = 0
    _open.add(crew)
    try:
        async with aclosing(jobs):
            async for size, work in jobs:
                since += size
                if since >= TURN:  # when neither source nor pool makes us wait, others do
                    since = 0
                    await asyncio.sleep(0)
                if size <= inline and not waiting:
                    yield work()
                    continue
                job = _Job(size, work)
                del work
                waiting.append(job)
                under_way += size
                helps = len(_open) == 1 and size <= helped
                crew.add(job, max(1, CORES - 1) if helps else CORES)
                while waiting and (
                    waiting[0].is_done or len(waiting) >= UNDER_WAY or under_way > BUDGET
                ):
                    first = waiting.popleft()
                    under_way -= first.size
                    yield await _result(first, crew, helped)
        while waiting:
            first = waiting.popleft()
            since += first.size
            if since >= TURN:
                since = 0
                await asyncio.sleep(0)
            yield await _result(first, crew, helped)
    finally:
        _open.discard(crew)
        crew.dismiss()


async def _result(first: _Job[T], crew: _Crew[T], helped: int) -> T:
    while not first.is_done:
        if len(_open) > 1 or (job := crew.take(helped)) is None:
            await first.wait()
            break
        job.run()
    return first.result()


async def in_pool(job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.wrap_future(cpu_pool().submit(job, *args, **kwargs))
