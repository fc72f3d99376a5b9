"""Streams, and downloads that go on, mean the same on every backend, plain and through layers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.servers.azurite import azurite
from tests.servers.gcs import gcs
from tests.servers.s3 import moto, rclone
from tests.servers.sshd import sshd
from tests.uploads.ledger import sample
from tests.uploads.test_backends import MAKERS
from trove_async import (
    Chunks,
    Driver,
    GetOptions,
    KiB,
    MiB,
    ObjectChangedError,
    RawObject,
    RetryPolicy,
    StreamDirection,
    StreamState,
    Trove,
    UnavailableError,
)
from trove_async.driver import MultipartDriver, capability
from trove_async.driver.registry import driver_for
from trove_async.middleware import Compress, Encrypt, Keyring

__all__ = ["azurite", "gcs", "moto", "rclone", "sshd"]

UP, DOWN, BOTH = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD, StreamDirection.BIDI
KEYS = Keyring({"k": bytes(32)}, active="k")
BACKENDS = ["memory", "local", "rclone", "azurite", "gcs", "sshd"]
DATA = sample(18 * MiB + 7, 3)
MARK = 8 * MiB
"""As much is kept of a download that was stopped."""


@dataclass
class Place:
    store: Trove
    driver: Driver
    bucket: str
    asked: list[GetOptions] = field(default_factory=list)
    left: int | None = None
    """Bytes after which what is read breaks."""
    given: int = 0
    """Bytes read."""

    async def keys(self) -> list[str]:
        return [entry.key for entry in (await self.store.list_page(self.bucket)).objects]


class Cut:
    """A body in pieces, which breaks once all bodies together have given so many bytes."""

    def __init__(self, body: Chunks, place: Place) -> None:
        self._body = body
        self._place = place
        self._held = memoryview(b"")

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return self

    async def __anext__(self) -> memoryview:
        if not self._held:
            self._held = memoryview(bytes(await anext(self._body)))
        piece, self._held = self._held[: 64 * KiB], self._held[64 * KiB :]
        self._place.given += len(piece)
        if self._place.left is not None:
            self._place.left -= len(piece)
            if self._place.left < 0:
                raise UnavailableError("the wire broke")
        return piece

    async def aclose(self) -> None:
        await self._body.aclose()


def watched(driver: Any, place: Place) -> None:
    real: Callable[..., Any] = driver.get

    async def get(bucket: str, key: str, options: GetOptions) -> RawObject:
        place.asked.append(options)
        raw: RawObject = await real(bucket, key, options)
        raw.body = Cut(raw.body, place)
        return raw

    driver.get = get


@pytest.fixture(params=BACKENDS)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    name: str = request.param
    if name in MAKERS:
        return MAKERS[name](request.getfixturevalue(name))
    dsn = "mem://" if name == "memory" else f"file://{tmp_path}/root?durability=none"
    return driver_for(dsn)[0]


@pytest.fixture(params=["plain", "sealed"])
async def place(request: pytest.FixtureRequest, driver: Driver) -> AsyncIterator[Place]:
    layers: list[Any] = [Compress(), Encrypt(KEYS)] if request.param == "sealed" else []
    bucket = f"trove-{secrets.token_hex(6)}"
    async with trove.open(driver, middleware=layers, retry=RetryPolicy(attempts=1)) as store:
        await store.create_bucket(bucket)
        place = Place(store, driver, bucket)
        watched(driver, place)
        yield place
        assert store.pool.active_count == 0
        await store.delete_bucket(bucket, force=True)


async def test_streams_both_ways_with_pause_seek_and_cancel(place: Place) -> None:
    store, bucket = place.store, place.bucket
    body = DATA[: MiB + 77]

    # up, paused in the middle
    async with store.stream(bucket, "a/k", UP, chunk_size=64 * KiB, queue_size=2) as stream:
        await stream.write(body[: 400 * KiB])
        await stream.pause()
        writing = asyncio.create_task(stream.write(body[400 * KiB :]))
        await asyncio.sleep(0.02)
        assert not writing.done() and not await store.exists(bucket, "a/k")
        await stream.resume()
        await writing
    assert stream.info is not None and stream.info.size == len(body)
    assert await store.get_bytes(bucket, "a/k") == body

    # down, paused and sought
    async with store.stream(bucket, "a/k", DOWN, chunk_size=100_000) as stream:
        assert await stream.read(150_000) == body[:150_000]
        await stream.pause()
        await stream.seek(700_001)
        await stream.resume()
        assert await stream.read(50_000) == body[700_001:750_001]
        await stream.seek(10)
        assert await stream.read() == body[10:]
    assert stream.state is StreamState.COMPLETED

    # a seek reads the same version or nothing
    with pytest.raises(ObjectChangedError):
        async with store.stream(bucket, "b", BOTH) as both:
            assert [chunk async for chunk in both] == []
            await both.write(body)
            await both.complete()
            async with store.stream(bucket, "b", DOWN, chunk_size=1000, queue_size=1) as stream:
                await stream.read(1)
                await store.put(bucket, "b", body[::-1])
                await stream.seek(2)

    # both ways: the old one is read while the new one is written
    async with store.stream(bucket, "b", BOTH, chunk_size=64 * KiB) as both:
        async for chunk in both:
            await both.write(bytes(chunk.data).swapcase())
        assert await store.get_bytes(bucket, "b") == body[::-1]
    assert await store.get_bytes(bucket, "b") == body[::-1].swapcase()

    # cancelled: the old one stays, and of a new one there is nothing
    for key in ("a/k", "fresh"):
        stream = await store.stream(bucket, key, UP, chunk_size=64 * KiB)
        await stream.start()
        await stream.write(body[::-1])
        await stream.cancel()
        assert stream.state is StreamState.CANCELLED
    assert await store.get_bytes(bucket, "a/k") == body
    assert await place.keys() == ["a/k", "b"]
    multipart = capability(place.driver, MultipartDriver)
    if multipart is not None and place.driver.name != "azure":  # which forgets blocks by itself
        assert await multipart.list_uploads(bucket, "") == []


async def test_a_download_goes_on_from_its_file(place: Place, tmp_path: Path) -> None:
    store, bucket = place.store, place.bucket
    etag = (await store.put(bucket, "k", DATA)).etag
    target = tmp_path / "target"
    target.write_bytes(b"old")

    async def stopped() -> Path:
        """A download whose bodies break behind its first mark."""
        place.left = (await store.head(bucket, "k")).stored_size * 19 // 20
        with pytest.raises(UnavailableError):
            await store.download(bucket, "k", target, resumable=True, concurrency=1)
        assert target.read_bytes() == b"old"
        place.left, place.given = None, 0
        place.asked.clear()
        return next(tmp_path.glob(".trove-*.part"))

    async def gone_on(expected: bytes) -> float:
        """The part of the object that was read."""
        await store.download(bucket, "k", target, resumable=True)
        assert target.read_bytes() == expected
        assert not [*tmp_path.glob(".trove-*")]
        target.write_bytes(b"old")
        return place.given / (await store.head(bucket, "k")).stored_size

    partial = await stopped()
    assert partial.read_bytes()[:MARK] == DATA[:MARK]
    assert await gone_on(DATA) < 0.7
    assert {options.if_match for options in place.asked} == {etag}, "of the same version alone"
    if (await store.head(bucket, "k")).encodings == ():
        starts = [options.range.start for options in place.asked if options.range is not None]
        assert len(starts) == len(place.asked) and min(starts) >= MARK

    # bytes that are not what was written are not taken over
    partial = await stopped()
    with partial.open("r+b") as file:
        file.seek(MARK // 2)
        file.write(bytes(b ^ 1 for b in DATA[MARK // 2 : MARK // 2 + 9]))
    assert await gone_on(DATA) >= 1

    # and what was begun of another version neither
    await stopped()
    await store.put(bucket, "k", DATA[::-1])
    assert await gone_on(DATA[::-1]) >= 1
