"""What the tests of the command share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trove_async as trove

__all__ = ["Cli", "Ran", "filled"]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    raw: bytes


Cli = Callable[..., Ran]


def filled(objects: Mapping[str, bytes], bucket: str = "photos") -> str:
    """The DSN of a memory store shared in this process, which can hold any key."""
    dsn = f"mem://cli-{uuid.uuid4()}"

    async def fill() -> None:
        async with trove.open(dsn) as store:
            await store.create_bucket(bucket)
            for key, body in objects.items():
                await store.put(bucket, key, body)

    asyncio.run(fill())
    return dsn
