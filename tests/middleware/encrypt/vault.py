"""A store to rotate keys in, and what the backend holds of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trove_async
from tests.middleware.encrypt.sealing import plain
from trove_async import (
    Middleware,
    ObjectChangedError,
    ObjectInfo,
    ObjectReader,
    PutOptions,
    Registration,
    RetryPolicy,
    Trove,
    keys,
)
from trove_async._chunks import OneChunk, collect
from trove_async.driver.options import GetOptions
from trove_async.middleware.encrypt import Encrypt, Keyring, RewrapReport

A = bytes(range(100, 132))
B = bytes(range(180, 212))
SIZES = (0, 1, 65_535, 65_536, 65_537, 200_000)
BODIES = {f"data/{size:06}": plain(size) for size in SIZES}


@dataclass(frozen=True, slots=True)
class Raw:
    """The stored truth of one object."""

    body: bytes
    metadata: dict[str, str]
    content_type: str
    etag: str


def ring() -> Keyring:
    return Keyring({"a": A}, active="a")


@asynccontextmanager
async def vault(kind: str, path: Path, *layers: Middleware | Registration) -> AsyncIterator[Trove]:
    """Memory or local, with bucket ``box`` as its default."""
    target = "mem://" if kind == "memory" else f"file://{path}?durability=none"
    retry = RetryPolicy(attempts=1)
    async with trove_async.open(
        target, middleware=layers, default_bucket="box", retry=retry
    ) as store:
        await store.create_bucket("box")
        yield store


def some(encrypt: Encrypt) -> Registration:
    """Everything but what is under ``plain/``."""
    return Registration(encrypt, scope=~keys("plain/*"))


async def filled(store: Trove) -> None:
    for key, body in BODIES.items():
        await store.put(None, key, body, content_type="text/x-test", metadata={"owner": "me"})
    await store.put(None, "plain/x", b"open")
    await store.put(None, "plain/empty", b"")


async def raw(store: Trove, key: str) -> Raw:
    found = await store.driver.get("box", key, GetOptions())
    body = await collect(found.body)
    info = found.info
    return Raw(body, dict(info.metadata), info.content_type, info.etag)


async def put_raw(store: Trove, key: str, body: bytes, metadata: dict[str, str]) -> None:
    """As somebody with the backend and no key would."""
    await store.driver.put("box", key, OneChunk(body), PutOptions(metadata=metadata))


async def everything(store: Trove) -> dict[str, Raw]:
    return {key: await raw(store, key) for key in (*BODIES, "plain/x", "plain/empty")}


def counts(report: RewrapReport) -> tuple[int, int, int, int, int]:
    failed = len(report.failed)
    assert report.examined == report.rewrapped + report.skipped + report.plain + failed
    return report.examined, report.rewrapped, report.skipped, report.plain, failed


class Watched:
    """A store whose calls are counted, and between whose calls others may do something."""

    def __init__(self, store: Trove) -> None:
        self._store = store
        self.calls: list[str] = []
        self.meddling: list[Any] = []
        self.after_looking: list[Any] = []
        self.races = 0
        self.pause = 0
        self.running = 0
        self.open = asyncio.Event()
        self.open.set()

    def bucket(self, name: str | None = None) -> Any:
        return self._store.bucket(name)

    def registrations(self) -> list[Registration]:
        return self._store.registrations()

    def list(self, bucket: str, **options: Any) -> Any:
        return self._store.list(bucket, **options)

    def get(
        self,
        bucket: str,
        key: str,
        *,
        range: slice | None = None,
        if_match: str | None = None,
        raw: bool = False,
    ) -> Any:
        assert raw and range is not None
        self.calls.append(f"get {range.start}:{range.stop}")
        return self._looking(bucket, key, range, if_match)

    @asynccontextmanager
    async def _looking(
        self, bucket: str, key: str, range: slice, if_match: str | None
    ) -> AsyncIterator[ObjectReader]:
        opening = self._store.get(bucket, key, range=range, if_match=if_match, raw=True)
        async with opening as reader:
            yield reader
        if self.after_looking:
            await self.after_looking.pop(0)

    async def copy(
        self,
        src_bucket: str,
        src_key: str,
        dst_bucket: str,
        dst_key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        raw: bool = False,
    ) -> ObjectInfo:
        assert raw and if_match is not None
        assert (src_bucket, src_key) == (dst_bucket, dst_key)
        self.calls.append("copy")
        if self.meddling:
            await self.meddling.pop(0)
        self.running += 1
        try:
            await self.open.wait()
            for _ in range(self.pause):
                await asyncio.sleep(0)
            return await self._store.copy(
                src_bucket,
                src_key,
                dst_bucket,
                dst_key,
                metadata=metadata,
                if_match=if_match,
                raw=raw,
            )
        except ObjectChangedError:
            self.races += 1
            raise
        finally:
            self.running -= 1
