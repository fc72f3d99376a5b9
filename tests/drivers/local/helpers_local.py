"""Bodies, shorthands and a stepper that cancels at a chosen suspension."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

from trove_async._chunks import OneChunk, collect
from trove_async.driver import (
    Bytes,
    Chunks,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
)
from trove_async.drivers.local import LocalDriver
from trove_async.model import ObjectInfo

T = TypeVar("T")
MiB = 1024 * 1024


class Pieces:
    """A body of several chunks that knows whether it was closed."""

    def __init__(self, *pieces: Bytes, fail: BaseException | None = None) -> None:
        self._pieces = list(pieces)
        self._fail = fail
        self.pulled = 0
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        await asyncio.sleep(0)
        if not self._pieces:
            if self._fail is not None:
                raise self._fail
            raise StopAsyncIteration
        self.pulled += 1
        return self._pieces.pop(0)

    async def aclose(self) -> None:
        self.closed += 1


def body(data: bytes) -> Chunks:
    return OneChunk(data)


def large(size: int = 3 * MiB + 17, seed: int = 1) -> bytes:
    return bytes((i * seed + 7) & 0xFF for i in range(4096)) * (size // 4096 + 1)


async def put(
    driver: LocalDriver, key: str, data: bytes, options: PutOptions | None = None
) -> ObjectInfo:
    return await driver.put("bucket", key, body(data), options or PutOptions())


async def read(driver: LocalDriver, key: str, bucket: str = "bucket") -> bytes:
    found = await driver.get(bucket, key, GetOptions())
    try:
        return await collect(found.body)
    finally:
        await found.body.aclose()


async def head(driver: LocalDriver, key: str) -> ObjectInfo:
    return await driver.head("bucket", key, HeadOptions())


async def keys(driver: LocalDriver, **options: Any) -> list[str]:
    """All pages, groups included, in the order given."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await driver.list("bucket", ListOptions(cursor=cursor, **options))
        found += sorted([info.key for info in page.objects] + page.prefixes)
        cursor = page.cursor
        if cursor is None:
            return found


class Stepper:
    """Runs a coroutine as a task and cancels it at its n-th suspension, once or twice."""

    def __init__(self, cancel_at: int, twice: bool = False) -> None:
        self._cancel_at = cancel_at
        self._twice = twice
        self.steps = 0
        self.finished = False

    async def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        task = asyncio.ensure_future(self._stepped(work))
        self._task = task
        try:
            result = await task
        except asyncio.CancelledError:
            assert task.cancelled(), "the cancel was swallowed"
            return None
        self.finished = True
        return result

    async def _stepped(self, work: Coroutine[Any, Any, T]) -> T:
        return await _Steps(work, self._suspended)

    def _suspended(self) -> None:
        self.steps += 1
        if self.steps == self._cancel_at or (self._twice and self.steps == self._cancel_at + 1):
            asyncio.get_running_loop().call_soon(self._task.cancel)


class _Steps(Awaitable[T]):
    def __init__(self, work: Coroutine[Any, Any, T], suspended: Callable[[], None]) -> None:
        self._work = work
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, T]:
        work = self._work
        thrown: BaseException | None = None
        value: Any = None
        while True:
            try:
                waited = work.send(value) if thrown is None else work.throw(thrown)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._suspended()
            thrown = None
            try:
                value = yield waited
            except BaseException as exc:  # handed to the work, which decides
                thrown = exc


async def every_cancel(
    work: Callable[[], Coroutine[Any, Any, object]],
    check: Callable[[], Coroutine[Any, Any, None]],
    *,
    twice: bool = False,
    most: int = 500,
) -> int:
    """Runs ``work`` with a cancel at its 1st, 2nd, ... suspension until it ends by itself;
    returns how many suspensions there were."""
    for step in range(1, most):
        stepper = Stepper(step, twice)
        fds = descriptors()
        tasks = len(asyncio.all_tasks())
        await stepper.run(work())
        await check()
        assert len(asyncio.all_tasks()) == tasks
        for _ in range(200):  # the kernel's notifier is closed by a thread of its own
            if descriptors() == fds:
                break
            await asyncio.sleep(0.01)
        assert descriptors() == fds, "a descriptor leaks"
        if stepper.finished:
            return step
    raise AssertionError("it never ends")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    """Of ours; the loop keeps some of its own."""
    return sum(thread.name.startswith("trove") for thread in threading.enumerate())


async def threads_come_down_to(count: int) -> bool:
    for _ in range(500):
        if threads() <= count:
            return True
        await asyncio.sleep(0.01)
    return False


def leftovers(root: Path) -> list[str]:
    """Files of the private folder that belong to nothing finished."""
    state = root / ".trove"
    rooms = [p for room in (state / "tmp").iterdir() for p in room.iterdir() if p.name != "lock"]
    return [str(path) for path in rooms]
