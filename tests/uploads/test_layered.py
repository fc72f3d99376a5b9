"""Sessions where layers stand between: written in order, put by number, gone on with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.uploads.ledger import sample
from trove_async import StreamStateError, Trove
from trove_async.middleware import Compress, Encrypt, Keyring

KiB = 1024
DATA = sample(500 * KiB, 3)
SECRET = b"a secret that no disk may hold " * 40
KEYRING = Keyring({"k": bytes(range(32))}, active="k")
STACKS: dict[str, list[Any]] = {
    "zstd": [Compress(frame_size=32 * KiB)],
    "aes": [Encrypt(KEYRING, frame_size=4 * KiB, bind="key")],
    "zstd+aes": [Compress(frame_size=32 * KiB), Encrypt(KEYRING, frame_size=4 * KiB)],
}


@pytest.fixture(params=[*STACKS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Trove]:
    url = f"file://{tmp_path}/root?durability=none"
    async with trove.open(url, middleware=STACKS[request.param], chunk_size=64 * KiB) as opened:
        await opened.create_bucket("bucket")
        yield opened


def files_below(path: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(path) for name in names]


async def test_parts_put_out_of_order_are_sealed_in_order(store: Trove, tmp_path: Path) -> None:
    session = await store.uploads.create("bucket", "k", metadata={"n": "v"}, part_size=64 * KiB)
    await session.put_part(2, DATA[100 * KiB :])
    await session.put_part(1, b"replaced")
    await session.put_part(1, DATA[: 100 * KiB])
    assert [(part.number, part.size) for part in session.parts] == [
        (1, 100 * KiB),
        (2, 400 * KiB),
    ]
    with pytest.raises(StreamStateError):
        await session.write(b"x")
    info = await session.complete()
    assert info.size == len(DATA) and info.checksum is not None and info.encodings
    assert await store.get_bytes("bucket", "k") == DATA
    assert (await store.head("bucket", "k")).metadata == {"n": "v"}
    staged = tmp_path / "root" / ".trove" / "staged"
    assert not files_below(staged)


async def test_staged_parts_are_gone_on_with_and_swept(store: Trove, tmp_path: Path) -> None:
    session = await store.uploads.create("bucket", "k")
    await session.put_part(3, DATA[300 * KiB :])
    await session.aclose()
    again = await store.uploads.resume(session.id)
    assert [part.number for part in again.parts] == [3]
    await again.put_part(1, DATA[: 300 * KiB])
    assert (await again.complete()).size == len(DATA)
    assert await store.get_bytes("bucket", "k") == DATA
    session = await store.uploads.create("bucket", "l")
    await session.put_part(1, DATA)
    await session.abort()
    assert not files_below(tmp_path / "root" / ".trove" / "staged")


async def test_no_plaintext_is_staged_under_encryption(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/root"
    async with trove.open(url, middleware=STACKS["zstd+aes"]) as store:
        await store.create_bucket("bucket")
        session = await store.uploads.create("bucket", "k", part_size=4 * KiB)
        await session.put_part(2, SECRET)
        await session.put_part(1, SECRET)
        found = files_below(tmp_path)
        assert any("staged" in str(path) for path in found)
        assert not [path for path in found if SECRET[:31] in path.read_bytes()]
        await session.complete()
        assert await store.get_bytes("bucket", "k") == SECRET * 2


async def test_what_was_written_is_made_again_and_not_sent_again(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k", part_size=32 * KiB)
    for start in range(0, 400 * KiB, 50_000):
        await session.write(DATA[start : start + 50_000])
    while not session.parts:  # noqa: ASYNC110 -- nothing tells of it
        await asyncio.sleep(0.001)
    await session.aclose()
    again = await store.uploads.resume(session.id)
    before = again.parts
    assert before and again.offset == 0
    await again.write(DATA)
    info = await again.complete()
    assert info.checksum == (await store.put("bucket", "l", DATA)).checksum
    assert await store.get_bytes("bucket", "k") == DATA


async def test_another_source_is_refused(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k", part_size=32 * KiB)
    await session.write(DATA)
    while not session.parts:  # noqa: ASYNC110 -- nothing tells of it
        await asyncio.sleep(0.001)
    await session.aclose()
    again = await store.uploads.resume(session.id)
    with pytest.raises(trove.ObjectChangedError):
        await again.write(b"x" + DATA[1:])
        await again.complete()
    await again.abort()
    assert not await store.exists("bucket", "k")


async def test_a_checksum_holds_for_staged_parts(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k", checksum="sha256:" + "0" * 64)
    await session.put_part(1, DATA)
    with pytest.raises(trove.ChecksumMismatchError):
        await session.complete()
    assert not await store.exists("bucket", "k")


async def test_cancelled_at_any_turn_an_upload_can_be_gone_on_with(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    async with trove.open("mem://", middleware=STACKS["zstd+aes"], chunk_size=64 * KiB) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "k", b"old")
        await asyncio.sleep(0)
        for turn in range(160):
            task = asyncio.create_task(
                store.upload("bucket", f"k{turn % 3}", source, resumable=True, part_size=64 * KiB)
            )
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert len(asyncio.all_tasks()) == 1
        for number in range(3):
            await store.upload("bucket", f"k{number}", source, resumable=True, part_size=64 * KiB)
            assert await store.get_bytes("bucket", f"k{number}") == DATA
        assert not [session async for session in store.uploads.list()]
        multipart: Any = store.driver
        assert not await multipart.list_uploads("bucket", "")


async def test_cancelled_at_any_time_a_local_upload_is_free_for_the_next(
    store: Trove, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    for turn in range(25):
        task = asyncio.create_task(
            store.upload("bucket", "k", source, resumable=True, part_size=64 * KiB)
        )
        await asyncio.sleep(turn * 0.004)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            assert task.exception() is None
        assert len(asyncio.all_tasks()) == 1
    await store.upload("bucket", "k", source, resumable=True, part_size=64 * KiB)
    assert await store.get_bytes("bucket", "k") == DATA
    assert not [session async for session in store.uploads.list()]
