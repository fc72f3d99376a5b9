"""A store whose objects are deduplicated, its content-addressed storage, and what must hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trove_async as trove
from trove_async import Driver
from trove_async.cas import CAS
from trove_async.config import RetryPolicy
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Context, Dedup, Encrypt, Keyring
from trove_async.middleware.dedup import StoredContent, by_bucket
from trove_async.model import ObjectInfo

__all__ = ["BUCKET", "LAYERS", "World", "world"]

BUCKET = "photos"
_RING = Keyring({"k": bytes(range(32))}, active="k")
LAYERS: dict[str, Callable[[], list[trove.Middleware]]] = {
    "alone": list,
    "compress": lambda: [Compress(min_size=0, skip_extensions=(), skip_content_types=())],
    "encrypt": lambda: [Encrypt(_RING)],
    "compress+bound": lambda: [
        Encrypt(_RING, frame_size=128, bind="key"),
        Compress(min_size=0, frame_size=1000, skip_extensions=(), skip_content_types=()),
    ],
}


@dataclass(slots=True)
class World:
    store: trove.Trove
    cas: CAS
    dedup: Dedup

    async def blobs(self) -> dict[str, int]:
        """References by digest, of what a `gc` would leave."""
        return {blob.digest: blob.references async for blob in self.cas.list() if blob.references}

    async def owners(self) -> list[str]:
        return [owner async for owner, _ in self.cas.owners("dedup:")]

    async def keys(self, bucket: str = BUCKET) -> list[str]:
        return [
            entry.key async for entry in self.store.list(bucket) if isinstance(entry, ObjectInfo)
        ]

    async def check(
        self, allowed: Mapping[str, Sequence[bytes | None]], bucket: str = BUCKET
    ) -> int:
        """Takes all garbage away; then every object must have one of the contents it may have
        (None: it may be gone). How many references no object needs."""
        await self.cas.gc(grace=0, settle=0)
        there = await self.keys(bucket)
        assert set(there) <= set(allowed)
        for key, contents in allowed.items():
            found = await self.store.get_bytes(bucket, key) if key in there else None
            assert found in contents, f"{key}: {found!r:.60}"
        named = {f.owner for key in there for f in await self.store.owned(bucket, key)}
        prefix = f"dedup:{bucket}/"
        counted = {owner.split("/")[1] async for owner, _ in self.cas.owners(prefix)}
        assert named <= counted, "an object without a reference"
        return len(counted - named)


@asynccontextmanager
async def world(
    driver: Driver | None = None,
    *,
    layers: str = "alone",
    on_duplicate: Callable[[Context, StoredContent], None] | None = None,
    scope_by: Callable[[Context], str] = by_bucket,
    min_size: int = 0,
    buckets: Sequence[str] = (BUCKET,),
    retry: RetryPolicy | None = None,
    catalog: str = "memory://",
) -> AsyncIterator[World]:
    async with trove.open(
        MemoryDriver(history=0) if driver is None else driver,
        catalog=catalog,
        middleware=LAYERS[layers](),
        retry=retry or RetryPolicy(attempts=1),
    ) as store:
        for bucket in buckets:
            await store.create_bucket(bucket)
        cas = store.cas()
        dedup = Dedup(cas, on_duplicate=on_duplicate, scope_by=scope_by, min_size=min_size)
        store.use(dedup)
        yield World(store, cas, dedup)
