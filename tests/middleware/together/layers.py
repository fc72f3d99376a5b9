"""Stacks of the ready-made layers, and a driver that counts what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trove_async as trove
from trove_async import Chunks, Driver, GetOptions, HeadOptions, ObjectInfo, PutOptions, RawObject
from trove_async._chunks import collect
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Encrypt, Keyring

__all__ = ["RING", "STACKS", "Counting", "small", "usual"]

RING = Keyring({"k": bytes(range(32))}, active="k")
Make = Callable[[], list[trove.Middleware]]


def usual(*names: str) -> list[trove.Middleware]:
    made: dict[str, Callable[[], trove.Middleware]] = {
        "zstd": Compress,
        "aes": lambda: Encrypt(RING),
    }
    return [made[name]() for name in names]


def small(*names: str) -> list[trove.Middleware]:
    """The same with tiny frames, so that a small object has many."""
    made: dict[str, Callable[[], trove.Middleware]] = {
        "zstd": lambda: Compress(
            min_size=0, frame_size=1000, skip_extensions=(), skip_content_types=()
        ),
        "aes": lambda: Encrypt(RING, frame_size=256),
        "bound": lambda: Encrypt(RING, frame_size=128, bind="key"),
    }
    return [made[name]() for name in names]


STACKS: dict[str, Make] = {
    "zstd": lambda: small("zstd"),
    "aes": lambda: small("aes"),
    "zstd+aes": lambda: small("zstd", "aes"),
    "zstd+bound": lambda: small("zstd", "bound"),
}


class Counting(MemoryDriver):
    """Counts requests; like S3 it takes no metadata after the body of an object over one part."""

    def __init__(self, part: int | None = None) -> None:
        super().__init__()
        self._part = part
        self.asked: list[tuple[str, int]] = []

    def clear(self) -> None:
        self.asked.clear()

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.asked)

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        if self._part is None:
            return await super().put(bucket, key, body, options)
        data = await collect(body)
        if len(data) <= self._part:
            late = dict(options.late()) if options.late is not None else {}
            options = replace(options, metadata={**options.metadata, **late})
        options = replace(options, late=None, size=len(data))
        return await super().put(bucket, key, trove_one(data), options)

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        found = await super().get(bucket, key, options)
        self.asked.append(("get", found.stop - found.start))
        return found

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        self.asked.append(("head", 0))
        return await super().head(bucket, key, options)


def trove_one(data: bytes) -> Chunks:
    from trove_async._chunks import OneChunk

    return OneChunk(data)


assert isinstance(Counting(), Driver)
