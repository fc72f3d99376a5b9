"""What a test of the S3 driver holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.servers.proxy import Proxy
from trove_async import Trove
from trove_async.drivers.s3 import S3Driver
from trove_async.model import MiB

__all__ = ["Place", "pieces", "settled"]


@dataclass(slots=True)
class Place:
    store: Trove
    """Through the proxy."""
    driver: S3Driver
    beside: Trove
    """Straight to the server, to see what is really there."""
    plain: S3Driver
    proxy: Proxy
    bucket: str

    async def stored(self, key: str = "k") -> bytes:
        return await self.beside.get_bytes(self.bucket, key)

    async def uploads(self) -> list[str]:
        """Open on the server, once it has ended what a dropped connection began."""
        for _ in range(20):
            found = await self.plain.list_uploads(self.bucket, "")
            if not found:
                break
            await asyncio.sleep(0.1)
        return [upload.key for upload in found]


async def pieces(
    count: int, error: BaseException | None = None, at: int = -1, size: int = MiB
) -> AsyncIterator[bytes]:
    """``count`` chunks of ``size`` bytes, each of another byte; ``error`` in place of one."""
    for number in range(count):
        if number == at and error is not None:
            raise error
        yield bytes([number % 251]) * size


def settled() -> list[asyncio.Task[object]]:
    """Tasks that are still there, but for the test's own."""
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
