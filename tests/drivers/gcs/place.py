"""What a test of the GCS driver holds in its hands."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.servers.gcs import Server
from tests.servers.proxy import Proxy
from trove_async import RetryPolicy, Timeouts, Trove
from trove_async.drivers.gcs import GCSConfig, GCSDriver
from trove_async.model import MiB

__all__ = ["Place", "opened", "pieces", "settled"]


@dataclass(slots=True)
class Place:
    store: Trove
    """Through the proxy."""
    driver: GCSDriver
    beside: Trove
    """Straight to the server, to see what is really there."""
    proxy: Proxy
    server: Server
    bucket: str

    async def stored(self, key: str = "k") -> bytes:
        return await self.beside.get_bytes(self.bucket, key)

    async def uploads(self) -> list[str]:
        """Open on the server, once it has ended what a dropped connection began."""
        found: list[str] = []
        for _ in range(20):
            every = await asyncio.to_thread(self.server.uploads)
            found = [name for name in every if name.startswith(f"{self.bucket}/")]
            if not found:
                break
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def opened(server: Server, **settings: Any) -> AsyncIterator[Place]:
    """A bucket of its own, a client through a proxy, and one beside it."""
    name = f"trove-{secrets.token_hex(6)}"
    given: dict[str, Any] = {
        "credentials": str(server.credentials),
        "project": "trove-test",
        "part_size": MiB,
        "read_timeout": 2.0,
        **settings,
    }
    async with Proxy("127.0.0.1", server.port) as proxy:
        plain = GCSDriver(
            GCSConfig(
                endpoint=server.endpoint,
                credentials=str(server.credentials),
                project="trove-test",
                versioning=given.get("versioning", False),
            )
        )
        driver = GCSDriver(GCSConfig(endpoint=proxy.endpoint, **given))
        retry = RetryPolicy(attempts=3, base=0.01, maximum=0.1)
        store = Trove(driver, retry=retry, timeouts=Timeouts(read=5.0))
        beside = Trove(plain)
        async with store, beside:
            await beside.create_bucket(name)
            yield Place(store, driver, beside, proxy, server, name)
            proxy.clear()
            await asyncio.to_thread(server.control, "clear")


async def pieces(
    count: int, error: BaseException | None = None, at: int = -1, size: int = MiB // 2
) -> AsyncIterator[bytes]:
    """``count`` chunks of ``size`` bytes, each of another byte; ``error`` in place of one."""
    for number in range(count):
        if number == at and error is not None:
            raise error
        yield bytes([number % 251]) * size


def settled() -> list[asyncio.Task[object]]:
    """Tasks of the package that are still there."""
    return [
        task
        for task in asyncio.all_tasks()
        if "/trove_async/" in getattr(task.get_coro(), "cr_code", settled.__code__).co_filename
    ]
