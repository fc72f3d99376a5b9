"""`acknowledged` of a session: bytes of the source in the parts that are with the backend, also
through layers and in another process than the one that sent them; and `offset`, where to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import zstandard

import trove_async as trove
from tests.transforms import Flip
from tests.uploads.ledger import sample
from trove_async import Chunks, PartInfo, StreamDirection
from trove_async._chunks import OneChunk
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Encrypt, Keyring

KiB = 1024
DATA = sample(900 * KiB, 5)
PART, FRAME = 64 * KiB, 20_000
KEYRING = Keyring({"k": bytes(range(32))}, active="k")


class Kept(MemoryDriver):
    """Remembers the bytes of the parts it took, and takes no more than it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[int, bytes] = {}
        self.most = 1 << 30

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        if number > self.most:
            await asyncio.Event().wait()
        data = b"".join([bytes(chunk) async for chunk in body])

        async def again() -> AsyncGenerator[bytes, None]:
            yield data

        part = await super().upload_part(bucket, key, upload_id, number, again(), size)
        self.taken[number] = data
        return part


def whole_frames(packed: bytes) -> int:
    """Bytes that the complete zstd frames at the start of ``packed`` hold."""
    held = 0
    while packed:
        if packed[1:4] == b"\x2a\x4d\x18":  # skippable
            packed = packed[8 + int.from_bytes(packed[4:8], "little") :]
            continue
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        data = unpacker.decompress(packed)
        if not unpacker.eof:
            break
        held, packed = held + len(data), unpacker.unused_data
    return held


async def stopped(driver: Kept, layers: list[Any], after: int, **options: Any) -> tuple[int, int]:
    """What is acknowledged after ``after`` parts, as the process that sent them sees it, and the
    next."""
    driver.most = after
    async with trove.open(driver, middleware=layers, chunk_size=10_000) as store:
        await store.create_bucket("bucket")
        session = await store.uploads.create("bucket", "k", part_size=PART, **options)

        async def written() -> None:
            for start in range(0, len(DATA), 7_777):
                await session.write(DATA[start : start + 7_777])

        writing = asyncio.create_task(written())
        async with asyncio.timeout(10):
            while len(session.parts) < after:  # noqa: ASYNC110 -- nothing tells of it
                await asyncio.sleep(0.001)
        seen = session.acknowledged
        assert session.offset == seen, "this process has the state of the layers"
        writing.cancel()
        await asyncio.wait([writing])
        await session.aclose()
        driver.most = 1 << 30
        again = await store.uploads.resume(session.id)
        resumed = again.acknowledged
        assert again.offset == (0 if layers or options else resumed)
        await again.write(DATA[again.offset :])
        info = await again.complete()
        assert info.size == again.offset == again.acknowledged == len(DATA)
        assert await store.get_bytes("bucket", "k") == DATA
        return seen, resumed


@pytest.mark.parametrize("after", [1, 2, 4])
async def test_compressed_whole_frames_count(after: int) -> None:
    driver = Kept()
    layers = [Compress(frame_size=FRAME)]
    seen, resumed = await stopped(driver, layers, after)
    sent = b"".join(driver.taken[number] for number in range(1, after + 1))
    assert seen == resumed == whole_frames(sent)
    assert seen % FRAME == 0 and after * PART < seen < len(DATA), "of what compresses"
    sealed = [Compress(frame_size=FRAME), Encrypt(KEYRING, frame_size=4 * KiB)]
    assert await stopped(Kept(), sealed, after) == (seen, seen), "sealing changes no place"


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "sealed", "checksum"])
async def test_where_nothing_changes_lengths_it_is_exact(kind: str, after: int) -> None:
    layers = [Encrypt(KEYRING, frame_size=4 * KiB)] if kind == "sealed" else []
    options: dict[str, Any] = {}
    if kind == "checksum":
        async with trove.open("mem://") as store:
            await store.create_bucket("bucket")
            options["checksum"] = (await store.put("bucket", "k", DATA)).checksum
    assert await stopped(Kept(), layers, after, **options) == (after * PART, after * PART)


async def test_behind_a_transform_that_does_not_tell_it_is_zero() -> None:
    assert await stopped(Kept(), [Flip()], 2) == (0, 0)


async def test_a_stream_through_layers_goes_on_where_it_says() -> None:
    options: dict[str, Any] = {"resumable": True, "fingerprint": "v1", "part_size": PART}
    driver = Kept()
    driver.most = 2
    async with trove.open(driver, middleware=[Encrypt(KEYRING, frame_size=4 * KiB)]) as store:
        await store.create_bucket("bucket")
        stream = await store.stream("bucket", "k", StreamDirection.UPLOAD, **options)
        await stream.start()
        writing = asyncio.create_task(stream.write(DATA))
        async with asyncio.timeout(10):
            while stream.offset < 2 * PART:  # noqa: ASYNC110 -- nothing tells of it
                await asyncio.sleep(0.001)
        await stream.cancel()
        await asyncio.wait([writing])
        driver.most = 1 << 30
        stream = await store.stream("bucket", "k", StreamDirection.UPLOAD, **options)
        assert stream.offset == 0
        with pytest.raises(ValueError, match="goes on at 0"):
            await stream.seek(2 * PART)
        await stream.seek(stream.offset)
        async with stream:
            await stream.write(DATA[stream.offset :])
        assert await store.get_bytes("bucket", "k") == DATA


async def test_a_session_written_from_its_offset_is_later_sent_whole() -> None:
    """What was written from the offset on is no digest of the source from its first byte."""
    driver = Kept()
    async with trove.open(driver, chunk_size=10_000) as store:
        await store.create_bucket("bucket")
        session = await store.uploads.create("bucket", "k", part_size=PART)
        for until in (2, 4):
            driver.most = until
            writing = asyncio.create_task(session.write(DATA[session.offset :]))
            async with asyncio.timeout(10):
                while len(session.parts) < until:  # noqa: ASYNC110 -- nothing tells of it
                    await asyncio.sleep(0.001)
            writing.cancel()
            await asyncio.wait([writing])
            await session.aclose()
            session = await store.uploads.resume(session.id)
        driver.most = 1 << 30
        sent = set(driver.taken)
        driver.taken.clear()
        await session.send(lambda: OneChunk(DATA))
        assert not sent & set(driver.taken), "what is acknowledged is sent again"
        assert await store.get_bytes("bucket", "k") == DATA
