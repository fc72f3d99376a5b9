"""The one way into worker threads.

`Hop` carries many small jobs over with one wake-up and brings many results back with one
(measured: 6 times an executor's rate with 64 tasks). Its jobs cannot be broken by a
cancel: a job that owns a descriptor or a file ends before its caller goes on.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar

from trove_async.errors import DriverClosedError, WrongLoopError

__all__ = ["Hop", "Job", "cpu_pool", "io_pool", "settle"]

P = ParamSpec("P")
T = TypeVar("T")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Job(asyncio.Future[T], Generic[T]):
    """A running job. Cancelling the task that awaits it takes effect when the job has ended:
    the CancelledError is raised at that await, and `result` is then there to be undone."""

    def cancel(self, msg: Any | None = None) -> bool:
        return False


class Hop:
    """A few threads for the small blocking jobs of one driver, bound to one event loop."""

    def __init__(self, workers: int = CORES, name: str = "trove-io") -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[tuple[Job[Any], Callable[[], Any]]] = deque()
        self._done: deque[tuple[Job[Any], Any, BaseException | None]] = deque()
        self._posted = False
        self._kicked = False
        self._idle: list[threading.Lock] = []
        """Of each worker that sleeps, the lock it waits for. The last to fall asleep is woken
        first: its stack and its share of the heap are warm, and what the others have freed
        does not pile up in as many heaps as there are workers."""
        self._lock = threading.Lock()
        self._closing = False
        self._alive = workers
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, function: Callable[[], T], *, at_once: bool = False) -> Job[T]:
        """Starts ``function`` in a worker; await the job for its result.

        Workers are woken once per turn of the loop, for all jobs of that turn; ``at_once``
        wakes one now, for a large job that runs beside what the caller does next."""
        if self._closing:
            raise DriverClosedError("the driver is closed")
        if asyncio.get_running_loop() is not self._loop:
            raise WrongLoopError("opened in another event loop")
        job: Job[T] = Job(loop=self._loop)
        self._jobs.append((job, function))
        if at_once:
            self._wake_some()
        elif not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._kick)
        return job

    def _kick(self) -> None:
        """Once per turn of the loop: wake as many workers as there are jobs for."""
        self._kicked = False
        self._wake_some()

    def _wake_some(self) -> None:
        with self._lock:
            woken = [self._idle.pop() for _ in range(min(len(self._jobs), len(self._idle)))]
        for sleeping in woken:
            sleeping.release()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            with self._lock:
                self._alive -= 1
                is_last = self._alive == 0
            if is_last:
                with suppress(RuntimeError):  # the loop is gone; nobody waits any more
                    self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _work(self) -> None:
        mine = threading.Lock()
        mine.acquire()
        while True:
            with self._lock:
                if not self._jobs:
                    if self._closing:
                        return
                    self._idle.append(mine)
                    sleep = True
                else:
                    sleep = False
            if sleep:
                mine.acquire()
            while True:
                try:
                    job, function = self._jobs.popleft()
                except IndexError:
                    break
                result: Any = None
                error: BaseException | None = None
                try:
                    result = function()
                except BaseException as exc:  # handed to the awaiting task
                    error = exc
                self._done.append((job, result, error))
                del job, function, result, error
                if not self._posted:
                    self._posted = True
                    try:
                        self._loop.call_soon_threadsafe(self._drain)
                    except RuntimeError:
                        return  # the loop is gone; nobody waits any more

    def _drain(self) -> None:
        self._posted = False
        while self._done:
            job, result, error = self._done.popleft()
            if job.done():
                continue
            if error is None:
                job.set_result(result)
            elif isinstance(error, StopIteration):
                job.set_exception(RuntimeError("a job raised StopIteration"))
            else:
                job.set_exception(error)

    async def close(self) -> None:
        """Lets what runs end, then ends the threads, also when cancelled. Twice is fine."""
        with self._lock:
            self._closing = True
            idle, self._idle = self._idle, []
        for sleeping in idle:
            sleeping.release()
        loop = asyncio.get_running_loop()
        try:
            if loop is self._loop:
                await settle(self._ended)
            else:  # opened in another loop, which may be gone
                await settle(loop.run_in_executor(None, self._join))
        finally:
            self._join()  # each has left its work already
            if loop is self._loop:
                self._drain()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()


async def settle(future: asyncio.Future[T]) -> T:
    """The result of ``future``, waited for whatever happens to the task; a cancel that came
    meanwhile is raised once the future is done."""
    interrupted: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as exc:
            interrupted = exc
    if interrupted is not None:
        if not future.cancelled():
            future.exception()  # retrieved: the cancel wins
        raise interrupted
    return future.result()


_pools: dict[str, ThreadPoolExecutor] = {}


def _pool(name: str, workers: int) -> ThreadPoolExecutor:
    pool = _pools.get(name)
    if pool is None:
        pool = _pools[name] = ThreadPoolExecutor(workers, thread_name_prefix=f"trove-{name}")
    return pool


def cpu_pool() -> ThreadPoolExecutor:
    """For work on memory (hashing, compressing) that holds the loop too long. As wide as the
    cores: more workers only cost cache."""
    return _pool("cpu", CORES)


def io_pool() -> ThreadPoolExecutor:
    """For reading callers' own files and pipes, which may block for long."""
    return _pool("body", 8)


def _after_fork() -> None:
    _pools.clear()  # the child has none of the threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
