"""What a test of the Azure driver holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from tests.servers.proxy import Proxy
from trove_async import Trove
from trove_async.drivers.azure import AzureDriver
from trove_async.model import KiB

__all__ = ["PART", "Place", "pieces", "settled"]

PART = 256 * KiB


@dataclass(slots=True)
class Place:
    store: Trove
    """Through the proxy."""
    driver: AzureDriver
    beside: Trove
    """Straight to the server, to see what is really there."""
    plain: AzureDriver
    proxy: Proxy
    bucket: str

    async def stored(self, key: str = "k") -> bytes:
        return await self.beside.get_bytes(self.bucket, key)

    async def uploads(self) -> list[str]:
        return [upload.key for upload in await self.plain.list_uploads(self.bucket, "")]


async def pieces(
    count: int, error: BaseException | None = None, at: int = -1, size: int = PART // 4
) -> AsyncGenerator[bytes, None]:
    """``count`` chunks of ``size`` bytes, each of another byte; ``error`` in place of one."""
    for number in range(count):
        if number == at and error is not None:
            raise error
        yield bytes([number % 251]) * size


def settled() -> list[asyncio.Task[object]]:
    """Tasks that are still there, but for the test's own."""
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
