"""A range is the slice, and costs the frames it touches."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.core.faulty import Faulty
from tests.middleware.encrypt.sealing import (
    Stored,
    cut_up,
    drain,
    keyring,
    now,
    plain,
    reading,
    seal,
    stored,
    stored_as,
    unseal,
)
from trove_async import Middleware
from trove_async._chunks import OneChunk
from trove_async.errors import FrameAuthError, TrailingDataError, TruncatedError
from trove_async.middleware import Compress, Layout
from trove_async.middleware.encrypt import Encrypt
from trove_async.middleware.encrypt.message import message_size, parse_header

LAYER = Encrypt(keyring(), frame_size=128)
STRIDE = 128 + 32
BODY = plain(1024)
MESSAGE = seal(LAYER, BODY)
HEADER = parse_header(MESSAGE).length


def layout_of(
    message: bytes, layer: Encrypt = LAYER, chunk: int | None = None
) -> tuple[Stored, Layout]:
    below = Stored(message, chunk)
    layout = now(layer.layout(below, reading()))
    below.reads.clear()
    return below, layout


def span_of(start: int, stop: int, size: int, total: int) -> tuple[int, int]:
    """The frames that [start, stop) touches, from the definition of the format."""
    last = (size - 1) // 128 if size else 0
    high = total if (stop - 1) // 128 == last else HEADER + ((stop - 1) // 128 + 1) * STRIDE
    return HEADER + start // 128 * STRIDE, high


def check_every_range(step: int) -> None:
    below, layout = layout_of(MESSAGE)
    assert layout.size == 1024
    for start in range(1024):
        stops = {*range(start + 1, 1025, step), start + 1, 1023, 1024} - {start}
        for stop in stops:
            if stop <= start:
                continue
            found = b"".join(drain(layout.read(below, start, stop)))
            assert found == BODY[start:stop]
            assert below.reads == [span_of(start, stop, 1024, len(MESSAGE))]
            below.reads.clear()


def test_ranges_of_1_kib_are_slices_and_read_only_their_frames() -> None:
    check_every_range(13)


@pytest.mark.slow
def test_every_range_of_1_kib_is_a_slice_and_reads_only_its_frames() -> None:
    check_every_range(1)


@given(
    size=st.integers(0, 1000),
    ends=st.tuples(st.integers(0, 1100), st.integers(0, 1100)),
    chunk=st.integers(1, 400),
    pieces=st.lists(st.integers(1, 300), min_size=1, max_size=4),
)
def test_a_range_is_the_slice_however_it_comes_in(
    size: int, ends: tuple[int, int], chunk: int, pieces: list[int]
) -> None:
    body = plain(size)
    start, stop = sorted(min(end, size) for end in ends)
    message = seal(LAYER, body, cut_up(body, pieces))
    below, layout = layout_of(message, chunk=chunk)
    assert layout.size == size
    assert b"".join(drain(layout.read(below, start, stop))) == body[start:stop]
    assert unseal(LAYER, message, cut_up(message, [chunk, *pieces])) == body


@settings(max_examples=30)
@given(
    size=st.integers(0, 3 * 65536 + 7),
    frame=st.sampled_from([128, 4096, 65536]),
    pieces=st.lists(
        st.sampled_from([1000, 4095, 4096, 65536, 65568, 300_000]), min_size=1, max_size=4
    ),
)
def test_frames_of_every_size_go_there_and_back(size: int, frame: int, pieces: list[int]) -> None:
    body = plain(size)
    layer = Encrypt(keyring(), frame_size=frame)
    message = seal(layer, body, cut_up(body, pieces))
    assert unseal(LAYER, message, cut_up(message, pieces)) == body


def test_an_empty_range_reads_nothing() -> None:
    below, layout = layout_of(MESSAGE)
    assert drain(layout.read(below, 500, 500)) == []
    assert below.reads == []


def test_what_touches_the_last_byte_proves_the_end() -> None:
    changed = MESSAGE[:-1] + bytes([MESSAGE[-1] ^ 1])
    below, layout = layout_of(changed)
    for start in (0, 896, 1023):
        with pytest.raises(FrameAuthError):
            drain(layout.read(below, start, 1024))
    assert b"".join(drain(layout.read(below, 0, 896))) == BODY[:896]


def test_the_length_is_proven_when_that_is_asked_for() -> None:
    strict = Encrypt(keyring(), frame_size=128, verify_length=True)
    for size in (0, 1, 128, 129, 1024):
        message = seal(strict, plain(size))
        below = Stored(message)
        layout = now(strict.layout(below, reading()))
        assert layout.size == size
        assert below.reads[-1][1] == len(message)
        changed = message[:-1] + bytes([message[-1] ^ 1])
        with pytest.raises(FrameAuthError):
            now(strict.layout(Stored(changed), reading()))
    for cut in (1, 8, STRIDE, STRIDE + 8):
        with pytest.raises((TruncatedError, FrameAuthError)):
            now(strict.layout(Stored(MESSAGE[:-cut]), reading()))
    with pytest.raises(TrailingDataError):
        now(strict.layout(Stored(seal(LAYER, plain(1000)) + b"\0"), reading()))


@pytest.mark.parametrize(
    ("hint", "reads"), [(str(HEADER), 1), ("", 1), ("3", 2), ("x", 1), ("9" * 40, 1)]
)
def test_the_header_is_one_read_away(hint: str, reads: int) -> None:
    message = seal(LAYER, plain(10_000))
    below = Stored(message)
    context = reading()
    context.hints = {"h": hint}
    header = now(LAYER._header_at(below, context))
    assert header.length == HEADER
    assert len(below.reads) == reads
    assert below.reads[0] == (0, {str(HEADER): HEADER, "3": 3}.get(hint, 4096))


def test_a_message_that_ends_in_its_header_is_truncated() -> None:
    for stop in (1, 100, HEADER - 1):
        with pytest.raises(TruncatedError):
            layout_of(MESSAGE[:stop])


# -- in a store ---------------------------------------------------------------------------


def gets(faulty: Faulty) -> Iterator[tuple[int, int | None]]:
    for options in faulty.asked("get"):
        assert isinstance(options, trove.GetOptions)
        assert options.range is not None
        yield options.range.start, options.range.stop


async def test_a_cold_range_is_three_requests_and_a_warm_one_is_one() -> None:
    faulty = Faulty(chunk=1 << 20)
    size = 8 << 20
    body = os.urandom(size)
    async with trove.open(faulty, middleware=[Encrypt(keyring())], default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "k", body)
        faulty.forget()
        assert (
            await store.get_bytes(None, "k", range=slice(5_000_000, 5_000_100))
            == body[5_000_000:5_000_100]
        )
        assert faulty.verbs() in (["get"] * 3, ["get"] * 2)
        spans = [(start, stop) for start, stop in gets(faulty) if stop is not None and start >= 0]
        assert spans[-1] == (196 + 76 * 65568, 196 + 77 * 65568)
        faulty.forget()
        assert await store.get_bytes(None, "k", range=slice(100, 200_000)) == body[100:200_000]
        assert list(gets(faulty)) == [(196, 196 + 4 * 65568)]
        faulty.forget()
        assert await store.get_bytes(None, "k", range=slice(-10, None)) == body[-10:]
        assert faulty.verbs() == ["get"]


@pytest.mark.parametrize("wanted", [slice(0, 9), slice(9_000_000, 9_000_009), slice(-9, None)])
async def test_a_cold_range_under_compression_is_three_requests(wanted: slice) -> None:
    """The suffix brings the seek table, which Encrypt's share of it leaves whole."""
    faulty = Faulty(chunk=1 << 20)
    layers: list[Middleware] = [Compress(), Encrypt(keyring())]
    body = b"".join(os.urandom(500) + bytes(4500) for _ in range(4000))
    async with trove.open(faulty, middleware=layers, default_bucket="box") as store:
        await store.create_bucket("box")
        info = await store.put(None, "k", body)
        assert info.encodings == ("zstd", "aws-esdk")
        faulty.forget()
        assert await store.get_bytes(None, "k", range=wanted) == body[wanted]
        assert len(faulty.verbs()) <= 3
        faulty.forget()
        assert await store.get_bytes(None, "k", range=wanted) == body[wanted]
        assert len(faulty.verbs()) == 1


async def test_a_small_object_is_read_with_its_first_request() -> None:
    faulty = Faulty()
    async with trove.open(faulty, middleware=[Encrypt(keyring())], default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "k", plain(50_000))
        faulty.forget()
        assert await store.get_bytes(None, "k", range=slice(1000, 1010)) == plain(1010)[1000:]
        assert faulty.verbs() == ["get"]


async def test_head_of_an_object_whose_length_was_not_recorded() -> None:
    async with trove.open("mem://", middleware=[Encrypt(keyring())], default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "k", plain(200_000))
        message, metadata = await stored(store)
        del metadata["trovelen"], metadata["trovedig"]
        await store.driver.put("box", "bare", OneChunk(message), stored_as(metadata))
        info = await store.head(None, "bare")
        assert (info.size, info.stored_size) == (200_000, message_size(200_000, HEADER, 65536))
