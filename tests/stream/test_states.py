"""Which call is legal when, and who wins: the table of the API, line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from tests.stream.gate import Gate, turns
from trove_async import (
    Chunks,
    Context,
    Direction,
    ObjectChangedError,
    ObjectNotFoundError,
    Stage,
    Stream,
    StreamClosedError,
    StreamDirection,
    StreamNotActiveError,
    StreamState,
    StreamStateError,
    Trove,
)

UP, DOWN = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD
S = StreamState
CALLS: dict[str, Callable[[Stream], Awaitable[object]]] = {
    "start": lambda s: s.start(),
    "write": lambda s: s.write(b"x"),
    "pause": lambda s: s.pause(),
    "resume": lambda s: s.resume(),
    "complete": lambda s: s.complete(),
    "seek": lambda s: s.seek(0),
    "cancel": lambda s: s.cancel(),
    "fail": lambda s: s.fail(OSError("given up")),
    "aclose": lambda s: s.aclose(),
}
ENDS = {"cancel", "fail", "aclose"}
LEGAL = {
    S.IDLE: {"start", *ENDS},
    S.ACTIVE: {"write", "pause", "complete", *ENDS},
    S.PAUSED: {"resume", "complete", *ENDS},  # and write, which waits
    S.COMPLETING: {*ENDS},
    S.COMPLETED: {"complete", *ENDS},
    S.FAILED: {*ENDS},
    S.CANCELLED: {*ENDS},
}


async def brought_to(store: Trove, gate: Gate, state: StreamState) -> Stream:
    stream = await store.stream("box", "k", UP)
    if state is S.CANCELLED:
        await stream.cancel()
    elif state is S.FAILED:
        await stream.fail(OSError("before"))
    elif state is not S.IDLE:
        await stream.start()
        await stream.write(b"body")
        if state is S.PAUSED:
            await stream.pause()
        if state is S.COMPLETED:
            gate.open()
            await stream.complete()
    assert stream.state is state or state is S.COMPLETING
    return stream


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", S)
async def test_what_is_legal(store: Trove, gate: Gate, state: StreamState, call: str) -> None:
    stream = await brought_to(store, gate, state)
    completing = None
    if state is S.COMPLETING:
        completing = asyncio.create_task(stream.complete())
        await turns()
    assert stream.state is state
    if (state, call) == (S.PAUSED, "write"):
        writing = asyncio.create_task(stream.write(b"later"))
        await turns()
        assert not writing.done()
        await stream.resume()
        await writing
        await stream.cancel()
        return
    if call in LEGAL[state]:
        if call == "complete":
            gate.open()
        await CALLS[call](stream)
    else:
        kind = StreamStateError
        if call == "write":
            kind = StreamClosedError if state.is_terminal else StreamNotActiveError  # type: ignore[assignment]
        with pytest.raises(kind) as caught:
            await CALLS[call](stream)
        assert stream.state is state, "a refused call changes nothing"
        if state is S.FAILED:
            assert isinstance(caught.value.__cause__, OSError)
    await stream.cancel()
    if completing is not None:
        with pytest.raises((StreamClosedError, OSError)):
            await completing
    assert await store.exists("box", "k") == (stream.state is S.COMPLETED)


async def test_a_stream_is_idle_when_awaited_and_started_when_entered(store: Trove) -> None:
    stream = await store.stream("box", "k", UP)
    states = [stream.state]
    async with stream:
        states.append(stream.state)
    assert [*states, stream.state] == [S.IDLE, S.ACTIVE, S.COMPLETED]
    assert await store.get_bytes("box", "k") == b""


async def test_completing_twice_gives_the_same_answer(store: Trove) -> None:
    async with store.stream("box", "k", UP) as stream:
        await stream.write(b"body")
        first = await stream.complete()
        assert await stream.complete() is first
    assert stream.info is first
    assert first.size == 4


async def test_an_exception_in_the_block_publishes_nothing(store: Trove) -> None:
    with pytest.raises(KeyError):
        async with store.stream("box", "k", UP) as stream:
            await stream.write(b"half")
            raise KeyError("of the user")
    assert stream.state is S.CANCELLED
    assert isinstance(stream.error, KeyError)
    assert not await store.exists("box", "k")


async def test_leaving_an_unfinished_download_cancels_it(store: Trove) -> None:
    await store.put("box", "k", b"0123456789")
    async with store.stream("box", "k", DOWN, chunk_size=3) as stream:
        assert (await anext(stream)).data == b"012"
    assert stream.state is S.CANCELLED


async def test_the_last_chunk_completes_a_download(store: Trove) -> None:
    await store.put("box", "k", b"0123456789")
    async with store.stream("box", "k", DOWN, chunk_size=4) as stream:
        chunks = [chunk async for chunk in stream]
    assert [(c.index, c.offset, c.data, c.final) for c in chunks] == [
        (0, 0, b"0123", False),
        (1, 4, b"4567", False),
        (2, 8, b"89", True),
    ]
    assert stream.state is S.COMPLETED
    assert stream.info is not None
    assert stream.info.size == 10


async def test_a_download_can_be_sought_until_its_end_was_seen(store: Trove) -> None:
    await store.put("box", "k", b"0123456789")
    async with store.stream("box", "k", DOWN) as stream:
        assert await stream.read(4) == b"0123"
        assert stream.offset == 4
        await stream.seek(1)
        assert await stream.read(9) == b"123456789"
        assert stream.offset == 10
        await stream.seek(9)
        assert (await anext(stream)).data == b"9"
        await stream.pause()
        await stream.seek(10)
        await stream.resume()
        assert await stream.read() == b""
        with pytest.raises(StreamStateError):
            await stream.seek(0)
    assert stream.state is S.COMPLETED


@pytest.mark.parametrize("leave", ["block", "aclose", "drop"])
async def test_a_download_that_was_read_whole_is_completed(store: Trove, leave: str) -> None:
    await store.put("box", "k", b"0123456789")
    stream = await store.stream("box", "k", DOWN, on_complete=lambda info: told.append(info.size))
    told: list[int] = []
    await stream.start()
    assert await stream.read(10) == b"0123456789"
    if leave == "block":
        async with stream:
            pass
    elif leave == "aclose":
        await stream.aclose()
    else:
        del stream
        await turns()
    assert told == [10]


async def test_a_range_is_read_and_sought_within_its_bounds(store: Trove) -> None:
    await store.put("box", "k", b"0123456789")
    for range, start, stop in (
        (slice(2, 6), 2, 6),
        (slice(-3, None), 7, 10),
        (slice(4, 99), 4, 10),
    ):
        async with store.stream("box", "k", DOWN, range=range, chunk_size=2) as stream:
            assert (await anext(stream)).offset == start
            for wrong in (start - 1, stop + 1):
                with pytest.raises(ValueError):
                    await stream.seek(wrong)
            await stream.seek(stop - 1)
            assert await stream.read() == b"0123456789"[stop - 1 : stop]


async def test_a_replaced_object_is_not_read_on(store: Trove) -> None:
    await store.put("box", "k", b"0123456789")
    with pytest.raises(ObjectChangedError):
        async with store.stream("box", "k", DOWN, chunk_size=2) as stream:
            await anext(stream)
            await store.put("box", "k", b"9876543210")
            await stream.seek(4)
    assert stream.state is S.FAILED


async def test_the_seek_itself_says_that_the_object_was_replaced(store: Trove) -> None:
    """Also when the answer takes its time, and what was read before has not come to its end."""
    await store.put("box", "k", b"0123456789")
    driver: Any = store.driver
    real = driver.get

    async def late(*options: Any) -> Any:
        await asyncio.sleep(0.01)
        return await real(*options)

    driver.get = late
    async with store.stream("box", "k", DOWN, chunk_size=2, queue_size=1) as stream:
        await anext(stream)
        await store.put("box", "k", b"9876543210")
        with pytest.raises(ObjectChangedError):
            await stream.seek(4)
    assert stream.state is S.FAILED


async def test_a_failure_of_the_transfer_is_raised_where_the_block_is_left(
    store: Trove, gate: Gate
) -> None:
    with pytest.raises(OSError, match="disk"):
        async with store.stream("box", "k", UP) as stream:
            await stream.write(b"body")
            gate.fail(OSError("disk"))
            await turns()
            assert stream.state is S.FAILED
    assert not await store.exists("box", "k")


async def test_a_dead_consumer_wakes_a_writer_with_its_error(store: Trove, gate: Gate) -> None:
    async with store.stream("box", "k", UP, queue_size=1) as stream:
        await stream.write(b"first")
        writing = asyncio.create_task(stream.write(b"second"))
        await turns()
        assert not writing.done()
        gate.fail(OSError("disk"))
        with pytest.raises(OSError, match="disk"):
            await writing
        with pytest.raises(StreamClosedError) as caught:
            await stream.write(b"third")
        assert isinstance(caught.value.__cause__, OSError)


async def test_what_is_missing_is_said_by_start(store: Trove) -> None:
    stream = await store.stream("box", "gone", DOWN)
    with pytest.raises(ObjectNotFoundError):
        await stream.start()
    assert stream.state is S.FAILED
    with pytest.raises(StreamClosedError):
        await anext(stream)


async def test_a_write_cut_short_fails_the_stream(store: Trove, gate: Gate) -> None:
    stream = await store.stream("box", "k", UP, queue_size=2, chunk_size=1)
    await stream.start()
    writing = asyncio.create_task(stream.write(b"12345"))
    await turns()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert stream.state is S.FAILED, "nobody knows where to go on"
    await stream.cancel()
    assert not await store.exists("box", "k")


async def test_a_write_that_had_to_wait_may_be_cancelled_and_tried_again(
    store: Trove, gate: Gate
) -> None:
    async with store.stream("box", "k", UP, queue_size=1) as stream:
        await stream.write(b"one,")
        writing = asyncio.create_task(stream.write(b"two,"))
        await turns()
        writing.cancel()
        await asyncio.wait([writing])
        gate.open()
        await stream.write(b"two")
    assert await store.get_bytes("box", "k") == b"one,two"


async def test_a_write_under_way_when_complete_is_called_is_whole(store: Trove, gate: Gate) -> None:
    async with store.stream("box", "k", UP, queue_size=1, chunk_size=2) as stream:
        writing = asyncio.create_task(stream.write(b"123456"))
        await turns()
        completing = asyncio.create_task(stream.complete())
        await turns()
        assert stream.state is S.COMPLETING
        gate.open()
        await writing
        assert (await completing).size == 6


async def test_what_can_no_more_be_stopped_is_completed(store: Trove) -> None:
    """A cancel while the driver publishes: the state tells what is there."""
    async with store.stream("box", "k", UP) as stream:
        await stream.write(b"body")
        completing = asyncio.create_task(stream.complete())
        await asyncio.sleep(0)
        await stream.cancel()
        await asyncio.wait([completing])
    assert stream.state in (S.COMPLETED, S.CANCELLED)
    assert await store.exists("box", "k") == (stream.state is S.COMPLETED)


async def test_pausing_stops_what_is_pulled(store: Trove, gate: Gate) -> None:
    gate.open()
    async with store.stream("box", "k", UP) as stream:
        await stream.write(b"one")
        await turns()
        await stream.pause()
        writing = asyncio.create_task(stream.write(b"two"))
        await turns()
        assert gate.taken == [b"one"]
        await stream.resume()
        await writing
        await turns()
        assert gate.taken == [b"one", b"two"]


async def test_both_ways_at_once_reads_the_old_and_writes_the_new(store: Trove) -> None:
    await store.put("box", "k", b"abcdef")
    async with store.stream("box", "k", StreamDirection.BIDI, chunk_size=2) as stream:
        async for chunk in stream:
            assert isinstance(chunk.data, bytes)
            await stream.write(chunk.data.upper())
        assert await store.get_bytes("box", "k") == b"abcdef"
    assert await store.get_bytes("box", "k") == b"ABCDEF"
    async with store.stream("box", "new", StreamDirection.BIDI) as stream:
        assert [chunk async for chunk in stream] == []
        await stream.write(b"first")
    assert await store.get_bytes("box", "new") == b"first"


@pytest.mark.filterwarnings("ignore:a stream of:ResourceWarning")
async def test_a_dropped_stream_is_cancelled_and_gives_its_slot_back(store: Trove) -> None:
    stream = await store.stream("box", "k", UP)
    await stream.start()
    await stream.write(b"half")
    with pytest.warns(ResourceWarning, match="dropped while active"):
        del stream
    await turns()
    assert store.pool.active_count == 0
    assert not await store.exists("box", "k")


async def test_who_reads_the_old_object_is_woken_when_the_new_one_is_there(store: Trove) -> None:
    await store.put("box", "k", b"0123456789")
    layer = Breaking(None)
    store.use(layer)
    async with store.stream("box", "k", StreamDirection.BIDI, chunk_size=2) as stream:
        reading = asyncio.create_task(stream.read())
        await stream.write(b"new")
        await turns()
        assert (await stream.complete()).size == 3
        with pytest.raises(StreamClosedError):
            await reading
    assert layer.closed == 1


class Breaking:
    """Gives the body up to a place and then an error, or nothing any more."""

    name = "breaking"
    direction = Direction.READ
    stage = Stage.OBSERVE

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        self.closed = 0

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        return self._broken(chunks)

    async def _broken(self, chunks: Chunks) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield bytes(chunk[:5])
                if self.error is not None:
                    raise self.error
                await asyncio.Event().wait()
        finally:
            self.closed += 1


async def test_a_dead_producer_wakes_who_reads_with_its_error(store: Trove) -> None:
    await store.put("box", "k", b"0123456789")
    layer = Breaking(OSError("the wire"))
    store.use(layer)
    stream = await store.stream("box", "k", DOWN, chunk_size=2, queue_size=1)
    with pytest.raises(OSError, match="the wire"):
        async with stream:
            async for _ in stream:
                pass
    assert stream.state is S.FAILED
    assert layer.closed == 1


@pytest.mark.parametrize("call", ["cancel", "fail", "aclose"])
async def test_who_reads_is_woken_when_the_stream_ends(store: Trove, call: str) -> None:
    await store.put("box", "k", b"0123456789")
    layer = Breaking(None)
    store.use(layer)
    stream = await store.stream("box", "k", DOWN, chunk_size=5)
    await stream.start()
    reading = asyncio.create_task(stream.read())
    await turns()
    await CALLS[call](stream)
    with pytest.raises(StreamClosedError):
        await reading
    assert layer.closed == 1
    with pytest.raises(StreamClosedError):
        await anext(stream)
    with pytest.raises(StreamNotActiveError):
        await stream.write(b"to a download")
