"""The rest of the table of legal calls: downloads, streams both ways, resumable uploads, and that
an end stays what it is. Plain uploads are in test_states."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stream.test_states import CALLS, DOWN, ENDS, UP, S
from trove_async import (
    Stream,
    StreamClosedError,
    StreamDirection,
    StreamNotActiveError,
    StreamState,
    StreamStateError,
    Trove,
)

BOTH = StreamDirection.BIDI
BODY = b"0123456789"
STATES = [state for state in S if state is not S.COMPLETING]
LEGAL = {  # of a download; those of BOTH besides: write
    S.IDLE: {"start", *ENDS},
    S.ACTIVE: {"pause", "complete", "seek", *ENDS},
    S.PAUSED: {"resume", "complete", "seek", *ENDS},
    S.COMPLETED: {"complete", *ENDS},
    S.FAILED: {*ENDS},
    S.CANCELLED: {*ENDS},
}
AFTER = {
    "start": S.ACTIVE,
    "write": S.ACTIVE,
    "pause": S.PAUSED,
    "resume": S.ACTIVE,
    "complete": S.COMPLETED,
    "cancel": S.CANCELLED,
    "fail": S.FAILED,
    "aclose": S.CANCELLED,
}


async def brought_to(store: Trove, direction: StreamDirection, state: StreamState) -> Stream:
    await store.put("box", "k", BODY)
    stream = await store.stream("box", "k", direction, chunk_size=4)
    if state is S.CANCELLED:
        await stream.cancel()
    elif state is S.FAILED:
        await stream.fail(OSError("before"))
    elif state is not S.IDLE:
        await stream.start()
        if state is S.PAUSED:
            await stream.pause()
        if state is S.COMPLETED:
            await stream.complete()
    assert stream.state is state
    return stream


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("direction", [DOWN, BOTH])
async def test_what_is_legal_to_who_reads(
    store: Trove, direction: StreamDirection, state: StreamState, call: str
) -> None:
    stream = await brought_to(store, direction, state)
    before = (stream.state, stream.error, stream.info)
    legal = LEGAL[state] | ({"write"} if direction is BOTH and state is S.ACTIVE else set())
    if (direction, state, call) == (BOTH, S.PAUSED, "write"):
        return await stream.cancel()  # waits: test_states
    if call in legal:
        answer = await CALLS[call](stream)
        if state.is_terminal:
            assert (stream.state, stream.error, stream.info) == before, "an end stays what it is"
            assert answer is (stream.info if call == "complete" else None)
        elif call == "seek":
            assert stream.state is state
        else:
            assert stream.state is AFTER[call]
    else:
        kind: type[Exception] = StreamStateError
        if call == "write":
            ended = direction is BOTH and state.is_terminal
            kind = StreamClosedError if ended else StreamNotActiveError
        with pytest.raises(kind):
            await CALLS[call](stream)
        assert (stream.state, stream.error, stream.info) == before, "a refused call changes nothing"
    await stream.cancel()
    return None


@pytest.mark.parametrize("second", sorted(ENDS))
@pytest.mark.parametrize("first", sorted(ENDS))
@pytest.mark.parametrize("direction", [UP, DOWN, BOTH])
async def test_the_first_end_wins(
    store: Trove, direction: StreamDirection, first: str, second: str
) -> None:
    stream = await brought_to(store, direction, S.ACTIVE)
    await CALLS[first](stream)
    ended = (stream.state, stream.error)
    assert stream.state is AFTER[first]
    await CALLS[second](stream)
    assert (stream.state, stream.error) == ended
    assert await store.get_bytes("box", "k") == BODY


@pytest.mark.parametrize("state", S)
async def test_an_upload_is_sought_before_its_start_to_where_its_session_is(
    store: Trove, state: StreamState
) -> None:
    options: dict[str, Any] = {"resumable": True, "fingerprint": "v1", "part_size": 4}
    stream = await store.stream("box", "k", UP, **options)
    await stream.start()
    await stream.write(BODY)
    while stream.offset < 8:  # noqa: ASYNC110 -- a part is acknowledged with no event
        await asyncio.sleep(0.001)
    await stream.cancel()
    stream = await store.stream("box", "k", UP, **options)
    assert stream.offset == 8
    if state is S.IDLE:
        for wrong in (0, 7, 9):
            with pytest.raises(ValueError):
                await stream.seek(wrong)
        await stream.seek(8)
        assert stream.state is S.IDLE
        async with stream:
            await stream.write(BODY[8:])
        assert await store.get_bytes("box", "k") == BODY
        return
    if state is S.CANCELLED:
        await stream.cancel()
    elif state is S.FAILED:
        await stream.fail()
    else:
        await stream.start()
        if state is S.PAUSED:
            await stream.pause()
        elif state is not S.ACTIVE:
            await stream.write(BODY)
            await stream.complete()
    with pytest.raises(StreamStateError):
        await stream.seek(8)
    await stream.cancel()


async def test_an_upload_without_a_session_cannot_be_sought(store: Trove) -> None:
    stream = await store.stream("box", "k", UP)
    with pytest.raises(StreamStateError):
        await stream.seek(0)
    await stream.cancel()
