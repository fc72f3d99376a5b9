"""An open object: read once, in whatever way, and never cut short without an error."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Observer, Tag
from trove_async import (
    ChecksumMismatchError,
    ObjectNotFoundError,
    ObjectReader,
    RetryPolicy,
    StreamConsumedError,
    Trove,
    TroveError,
    UnavailableError,
)

DATA = bytes(i * 7 & 0xFF for i in range(10_500))


@pytest.fixture
def faulty() -> Faulty:
    return Faulty(chunk=1000)


@pytest.fixture
async def store(faulty: Faulty) -> AsyncIterator[Trove]:
    async with trove.open(faulty, retry=RetryPolicy(attempts=1)) as opened:
        await opened.create_bucket("box")
        await opened.put("box", "k", DATA, metadata={"n": "1"})
        await opened.put("box", "none", b"")
        yield opened
        assert faulty.unclosed == 0


async def test_iterating_gives_bytes_that_are_never_empty(store: Trove) -> None:
    async with store.get("box", "k") as reader:
        chunks = [chunk async for chunk in reader]
    assert b"".join(chunks) == DATA
    assert all(type(chunk) is bytes and chunk for chunk in chunks)
    assert len(chunks) > 1


async def test_reading_gives_exactly_what_is_asked_until_the_end(store: Trove) -> None:
    async with store.get("box", "k") as reader:
        assert await reader.read(0) == b""
        assert await reader.read(1) == DATA[:1]
        assert await reader.read(2500) == DATA[1:2501]
        assert await reader.read(0) == b""
        assert await reader.read() == DATA[2501:]
        assert await reader.read() == b""
        assert await reader.read(5) == b""


async def _read_in(sizes: list[int]) -> None:
    async with trove.open(Faulty(chunk=1000)) as store:
        await store.create_bucket("box")
        await store.put("box", "k", DATA)
        async with store.get("box", "k") as reader:
            position = 0
            for size in sizes:
                piece = await reader.read(size)
                assert type(piece) is bytes
                assert piece == DATA[position : position + size]
                position += len(piece)
            assert await reader.read(-1) == DATA[position:]


@given(st.lists(st.integers(0, 3000), max_size=8))
def test_any_sequence_of_reads_gives_the_bytes_in_order(sizes: list[int]) -> None:
    asyncio.run(_read_in(sizes))


async def test_an_empty_object_has_no_chunk(store: Trove) -> None:
    async with store.get("box", "none") as reader:
        assert [chunk async for chunk in reader] == []
    async with store.get("box", "none") as reader:
        assert await reader.read() == b""
        assert await reader.read(5) == b""


async def test_the_info_is_that_of_the_head_also_for_a_range(store: Trove) -> None:
    head = await store.head("box", "k")
    async with store.get("box", "k") as reader:
        assert reader.info == head
        assert reader.length == len(DATA)
    async with store.get("box", "k", range=slice(10, 30)) as part:
        assert part.info == head
        assert part.length == 20
        assert await part.read() == DATA[10:30]


async def test_a_reader_is_read_once(store: Trove) -> None:
    async with store.get("box", "k") as reader:
        async for _ in reader:
            pass
        with pytest.raises(StreamConsumedError) as caught:
            aiter(reader)
        assert caught.value.key == "k"
    async with store.get("box", "k") as reader:
        await reader.read(5)
        with pytest.raises(StreamConsumedError):
            aiter(reader)
    async with store.get("box", "k") as reader:
        aiter(reader)
        with pytest.raises(StreamConsumedError):
            aiter(reader)


@pytest.mark.parametrize("began", [False, True])
async def test_a_closed_reader_gives_no_bytes_and_no_end(store: Trove, began: bool) -> None:
    reader = await store.get("box", "k")
    if began:
        await reader.read(10)
    await reader.aclose()
    await reader.aclose()
    for size in (-1, 0, 5):
        with pytest.raises(StreamConsumedError):
            await reader.read(size)
    with pytest.raises(StreamConsumedError):
        aiter(reader)


async def test_a_reader_closed_while_it_is_iterated_is_not_taken_for_ended(store: Trove) -> None:
    reader = await store.get("box", "k")
    chunks = aiter(reader)
    assert await anext(chunks)
    await reader.aclose()
    with pytest.raises(StreamConsumedError):
        await anext(chunks)


@pytest.mark.parametrize("layered", [False, True])
async def test_after_an_error_the_reader_does_not_pretend_to_be_at_the_end(
    store: Trove, faulty: Faulty, layered: bool
) -> None:
    if layered:
        store.use(Tag("t"))
        await store.put("box", "k", DATA)
    faulty.body(3500)
    async with store.get("box", "k") as reader:
        with pytest.raises(UnavailableError):
            await reader.read()
        for size in (5, -1, 0):
            with pytest.raises(StreamConsumedError):
                await reader.read(size)


async def test_after_a_wrong_digest_the_reader_does_not_pretend_to_be_at_the_end(
    store: Trove, faulty: Faulty
) -> None:
    faulty.body(9000, "corrupt")
    async with store.get("box", "k") as reader:
        seen = b""
        with pytest.raises(ChecksumMismatchError) as caught:
            while piece := await reader.read(500):
                seen += piece
        assert len(seen) < len(DATA)
        assert (caught.value.key, caught.value.operation) == ("k", "get")
        with pytest.raises(StreamConsumedError):
            await reader.read(500)


@pytest.mark.parametrize("layered", [False, True])
async def test_after_a_cancelled_read_the_reader_does_not_pretend_to_be_at_the_end(
    store: Trove, faulty: Faulty, layered: bool
) -> None:
    if layered:
        store.use(Tag("t"))
        await store.put("box", "k", DATA)
    faulty.body(3500, "hang")
    async with store.get("box", "k") as reader:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read()
        with pytest.raises(StreamConsumedError):
            await reader.read()


async def test_a_read_to_the_end_closes_the_body_before_the_reader_is_closed(
    store: Trove, faulty: Faulty
) -> None:
    faulty.forget()
    reader = await store.get("box", "k")
    assert faulty.unclosed == 1
    async for _ in reader:
        pass
    assert faulty.unclosed == 0
    await reader.aclose()
    assert [body.closed for body in faulty.bodies] == [1]


async def test_leaving_early_closes_the_body_once(store: Trove, faulty: Faulty) -> None:
    faulty.forget()
    async with store.get("box", "k") as reader:
        async for _ in reader:
            break
    async with store.get("box", "k"):
        pass
    with pytest.raises(KeyError):
        async with store.get("box", "k") as reader:
            await reader.read(1)
            raise KeyError("mine")
    assert [body.closed for body in faulty.bodies] == [1, 1, 1]


async def test_a_cancel_while_the_body_hangs_closes_it(store: Trove, faulty: Faulty) -> None:
    faulty.forget()
    faulty.body(2000, "hang")
    reading = asyncio.Event()

    async def read() -> None:
        async with store.get("box", "k") as reader:
            async for _ in reader:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [body.closed for body in faulty.bodies] == [1]


async def test_dropping_an_open_reader_is_warned_of(store: Trove, faulty: Faulty) -> None:
    reader: ObjectReader | None = await store.get("box", "k")
    faulty.forget()
    with pytest.warns(ResourceWarning, match="'k' was dropped open"):
        reader = None
        gc.collect()
    assert reader is None


async def test_dropping_a_closed_or_read_reader_is_not_warned_of(store: Trove) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = await store.get("box", "k")
        await read.read()
        closed = await store.get("box", "k")
        await closed.aclose()
        del read, closed
        gc.collect()


@pytest.mark.parametrize("size", [0, 10, len(DATA)])
async def test_what_waits_for_the_close_is_called_once(store: Trove, size: int) -> None:
    called: list[str] = []

    async def later() -> None:
        await asyncio.sleep(0)
        called.append("later")

    reader = await store.get("box", "k")
    reader.on_close(lambda: called.append("now"))
    reader.on_close(later)
    await reader.read(size)
    await reader.aclose()
    await reader.aclose()
    assert called == ["now", "later"]


async def test_what_waits_for_the_close_is_called_also_when_closing_fails(store: Trove) -> None:
    called: list[int] = []
    tag = Tag("t")
    store.use(tag)
    await store.put("box", "t", b"x" * 5000)
    tag.fail = "close"
    reader = await store.get("box", "t")
    reader.on_close(lambda: called.append(1))
    with pytest.raises(RuntimeError, match="t cannot close"):
        await reader.aclose()
    assert called == [1]


async def test_an_object_that_is_not_there_is_found_out_before_the_block(store: Trove) -> None:
    with pytest.raises(ObjectNotFoundError):
        async with store.get("box", "gone"):
            raise AssertionError("not entered")
    with pytest.raises(ObjectNotFoundError):
        await store.get("box", "gone")


async def test_an_observer_that_refuses_at_the_end_keeps_the_last_chunk_back(store: Trove) -> None:
    store.use(Observer(refuse=TroveError("refused")))
    seen = b""
    with pytest.raises(TroveError, match="refused"):
        async with store.get("box", "k") as reader:
            async for chunk in reader:
                seen += chunk
    assert DATA.startswith(seen)


async def test_a_reader_is_a_body_for_another_object(store: Trove, faulty: Faulty) -> None:
    async with store.get("box", "k", range=slice(100, 5000)) as reader:
        await store.put("box", "copy", reader)
    assert await store.get_bytes("box", "copy") == DATA[100:5000]
    async with store.get("box", "k") as reader:
        assert await reader.read(100) == DATA[:100]
        with pytest.raises(StreamConsumedError):
            await store.put("box", "rest", reader)
    assert not await store.exists("box", "rest")


async def test_a_reader_tells_its_state(store: Trove) -> None:
    reader = await store.get("box", "k")
    assert repr(reader) == f"<ObjectReader 'k' {len(DATA)} bytes, new>"
    await reader.read(1)
    assert "open" in repr(reader)
    await reader.aclose()
    assert "closed" in repr(reader)
