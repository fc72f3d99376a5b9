"""A key service that is slow, counts, and fails when told to; and looking at who still runs."""

from __future__ import annotations

import asyncio

import pytest

from trove_async.errors import KeyNotFoundError
from trove_async.middleware import Context
from trove_async.middleware.encrypt.provider import CachedKeyProvider

A = bytes(range(100, 132))
B = bytes(range(180, 212))


def at(key: str = "key", bucket: str = "bucket") -> Context:
    return Context("get", bucket, key)


class KMS:
    """A key service at the other end of a wire: slow, counting, sometimes out of order."""

    def __init__(self, keys: dict[str, bytes] | None = None) -> None:
        self.keys = {"a": A} if keys is None else keys
        self.active = next(iter(self.keys))
        self.calls = 0
        self.running = 0
        self.cancelled = 0
        self.failure: BaseException | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def _travel(self) -> None:
        self.calls += 1
        self.running += 1
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if self.failure is not None:
            raise self.failure

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        await self._travel()
        return self.active, self.keys[self.active]

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        await self._travel()
        if key_id not in self.keys:
            raise KeyNotFoundError(f"the service has no key {key_id!r}")
        return self.keys[key_id]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def others() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def ask(cached: CachedKeyProvider, way: str) -> object:
    if way == "wrap":
        return await cached.wrapping_key(at())
    return await cached.unwrapping_key("a", at())


def asking(cached: CachedKeyProvider, way: str) -> asyncio.Task[object]:
    return asyncio.create_task(ask(cached, way))


ANSWER = {"wrap": ("a", A), "unwrap": A}
both = pytest.mark.parametrize("way", ["wrap", "unwrap"])
