"""What the tests store, and what they look at."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from trove_async import Trove
from trove_async.cas import CAS, chunking

__all__ = ["DAY", "HOUR", "LARGE", "blob_keys", "cut_tiny", "key_of", "name_of", "read", "streamed"]

HOUR = 3600.0
DAY = 24 * HOUR
LARGE = bytes(range(256)) * (36 * 1024)  # 9 MiB: more than is held in memory


def name_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def key_of(data: bytes, gen: int = 0) -> str:
    value = hashlib.sha256(data).hexdigest()
    return f"cas/sha256/{value[:2]}/{value}~{gen}"


def cut_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 to 1024 bytes, so that little content has many, in several windows."""
    for name, size in (("SMALLEST", 64), ("AVERAGE", 256), ("LARGEST", 1024), ("WINDOW", 1500)):
        monkeypatch.setattr(chunking, name, size)


async def streamed(data: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(cas: CAS, digest: str) -> bytes:
    async with cas.retrieve(digest) as reader:
        return await reader.read()


async def blob_keys(store: Trove, bucket: str = "cas") -> list[str]:
    return [entry.key async for entry in store.list(bucket) if hasattr(entry, "key")]
