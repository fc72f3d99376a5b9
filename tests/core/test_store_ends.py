"""A store that is cancelled while it closes, with streams and upload sessions under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from trove_async import Chunks, Context, Direction, Stage, StreamDirection
from trove_async.catalog import MemoryCatalog
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import PolicyError
from trove_async.middleware import Encrypt, Keyring


class Lingering:
    """Takes its time to close."""

    name = "lingering"
    direction = Direction.WRITE
    stage = Stage.OBSERVE

    def __init__(self) -> None:
        self.closed = 0

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        return self._passed(chunks)

    async def _passed(self, chunks: Chunks) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield bytes(chunk)
        finally:
            try:
                await asyncio.sleep(0.02)
            finally:
                self.closed += 1


class Releasing(MemoryCatalog):
    def __init__(self) -> None:
        super().__init__()
        self.released = 0

    async def release(self, *args: Any) -> None:
        await asyncio.sleep(0.02)
        await super().release(*args)
        self.released += 1


@pytest.mark.parametrize("delays", [[0.0], [0.01], [0.03], [0.0, 0.0], [0.005, 0.01, 0.01]])
async def test_a_cancel_while_streams_and_sessions_end_leaves_no_driver_open(
    delays: list[float],
) -> None:
    layer, first, second, catalog = Lingering(), Faulty(), Faulty(), Releasing()
    store = trove.Trove(first, backends={"other": second}, middleware=[layer], catalog=catalog)
    multipart = MemoryDriver()
    await store.aopen()
    await store.create_bucket("box")
    held = trove.Trove(multipart, catalog=catalog)
    await held.aopen()
    await held.create_bucket("box")
    stream = await store.stream("box", "k", StreamDirection.UPLOAD)
    await stream.start()
    await stream.write(b"half")
    await asyncio.sleep(0.01)
    session = await held.uploads.create("box", "k")
    await session.write(b"half")
    for each in (store, held):
        closing = asyncio.create_task(each.aclose())
        for delay in delays:
            await asyncio.sleep(delay)
            closing.cancel()
        await asyncio.wait([closing])
        assert each._core.loop is None
    assert (first.closed, second.closed) == (1, 1)
    assert stream.state is trove.StreamState.CANCELLED
    assert layer.closed == 1
    assert catalog.released == 1
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, "nobody is left at work"


async def test_an_encrypt_that_is_there_for_reads_alone_refuses_raw_puts() -> None:
    layer = Encrypt(Keyring({"k": bytes(32)}, active="k"))
    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        store.use(layer, scope=trove.keys("secret/*"), direction=Direction.READ)
        with pytest.raises(PolicyError):
            await store.put("box", "secret/k", b"plain", raw=True)
        assert not await store.exists("box", "secret/k")
        await store.put("box", "public/k", b"plain", raw=True)
