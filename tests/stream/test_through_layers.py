"""Streams over real drivers and layers, and uploads that are gone on with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from trove_async import Backpressure, KiB, MiB, StreamDirection, StreamState, Trove
from trove_async.middleware import Compress, Encrypt, Keyring

UP, DOWN = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD
KEYS = Keyring.generate()


@pytest.fixture(params=["mem", "local"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "mem://" if request.param == "mem" else f"file://{tmp_path}?durability=none"


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
async def layered(request: pytest.FixtureRequest, target: str) -> AsyncIterator[Trove]:
    layers: list[Any] = [Compress(), Encrypt(KEYS)] if request.param else []
    async with trove.open(target, middleware=layers) as store:
        await store.create_bucket("box")
        yield store
        assert store.pool.active_count == 0


@pytest.mark.parametrize("policy", [p for p in Backpressure if p is not Backpressure.DROP])
async def test_what_is_written_is_what_is_read(layered: Trove, policy: Backpressure) -> None:
    body = os.urandom(300_001) + bytes(300_000)
    async with layered.stream(
        "box", "k", UP, backpressure=policy, chunk_size=50 * KiB, queue_size=2
    ) as stream:
        at = 0
        for size in [1, 100, 70_000, 5, 300_000, 1_000_000]:
            await stream.write(body[at : at + size])
            at += size
    async with layered.stream("box", "k", DOWN, backpressure=policy, chunk_size=64 * KiB) as stream:
        chunks = [chunk async for chunk in stream]
    assert b"".join(bytes(chunk.data) for chunk in chunks) == body
    assert stream.info is not None
    assert stream.info.size == len(body)
    if policy is not Backpressure.ADAPTIVE:
        assert {len(chunk.data) for chunk in chunks[:-1]} == {64 * KiB}


async def test_a_sealed_object_can_be_sought(layered: Trove) -> None:
    body = os.urandom(3 * MiB)
    await layered.put("box", "k", body)
    async with layered.stream("box", "k", DOWN, chunk_size=100_000) as stream:
        for offset in (2_000_000, 5, 3 * MiB - 1, 1_048_575):
            await stream.seek(offset)
            assert await stream.read(150_000) == body[offset : offset + 150_000]


async def test_a_wrong_checksum_publishes_nothing(layered: Trove) -> None:
    with pytest.raises(trove.ChecksumMismatchError):
        async with layered.stream("box", "k", UP, checksum="sha256:" + "0" * 64) as stream:
            await stream.write(b"body")
    assert stream.state is StreamState.FAILED
    assert not await layered.exists("box", "k")


async def test_a_resumable_upload_goes_on_after_a_cancel(layered: Trove) -> None:
    body = os.urandom(12 * MiB)
    options: dict[str, Any] = {"resumable": True, "fingerprint": "v1", "part_size": 5 * MiB}
    stream = await layered.stream("box", "k", UP, **options)
    await stream.start()
    writing = asyncio.create_task(stream.write(body[: 11 * MiB]))
    async with asyncio.timeout(30):
        while stream.offset < 5 * MiB:  # noqa: ASYNC110 -- a part is acknowledged with no event
            await asyncio.sleep(0.005)
    await asyncio.wait([writing])
    await stream.cancel()
    assert not await layered.exists("box", "k")
    stream = await layered.stream("box", "k", UP, **options)
    at = stream.offset
    if layered.registrations():
        assert at == 0, "they see the whole source again"
    else:
        assert at >= 5 * MiB
    with pytest.raises(ValueError):
        await stream.seek(at + 1)
    await stream.seek(at)
    async with stream:
        await stream.write(body[at:])
    assert await layered.get_bytes("box", "k") == body


async def test_a_session_can_be_named(layered: Trove) -> None:
    session = await layered.uploads.create("box", "k", part_size=5 * MiB)
    await session.aclose()
    with pytest.raises(trove.InvalidInputError):
        await layered.stream("box", "other", UP, session=session.id)
    async with layered.stream("box", "k", UP, session=session.id) as stream:
        await stream.write(b"all of it")
    assert await layered.get_bytes("box", "k") == b"all of it"


async def test_an_idle_resumable_stream_lets_go_of_its_session(layered: Trove) -> None:
    options: dict[str, Any] = {"resumable": True, "fingerprint": "v1"}
    stream = await layered.stream("box", "k", UP, **options)
    await stream.cancel()
    async with layered.stream("box", "k", UP, **options) as stream:
        await stream.write(b"body")
    assert await layered.get_bytes("box", "k") == b"body"
