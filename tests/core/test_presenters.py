"""Layers that shape what a reader sees: sizes, ranges and streams stay exact."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.core.layers import Observer
from tests.transforms import Flip, Xor
from trove_async import Context, Direction, RangeSource, Stage
from trove_async._chunks import OneChunk, chunks_of, collect
from trove_async._store.present import Shown
from trove_async.driver.base import Chunks
from trove_async.errors import InvalidConfigError, InvalidInputError, InvalidRangeError
from trove_async.middleware import Edit

Bytes = bytes | bytearray | memoryview
STACKS: dict[str, list[type[Xor] | type[Flip]]] = {
    "plain": [],
    "xor": [Xor],
    "flip": [Flip],
    "both": [Xor, Flip],
}
BODY = bytes(range(256)) * 40


class Stamp:
    """Inserts marks; looks at the start and at the end of the object to place them."""

    direction = Direction.READ
    stage = Stage.PRESENT

    def __init__(self, *marks: tuple[int, bytes], name: str = "stamp", looks: bool = True) -> None:
        self.name = name
        self.marks = marks
        self.looks = looks
        self.seen: list[tuple[int, str]] = []

    async def edits(self, below: RangeSource, context: Context) -> Sequence[Edit]:
        self.seen.append((below.size, context.content_type))
        if self.looks and below.size:
            for start, stop in ((0, 1), (below.size - 1, below.size)):
                async with aclosing(below.read(start, stop)) as chunks:
                    assert len(await collect(chunks)) == 1
        at = [(below.size if o < 0 else min(o, below.size), data) for o, data in self.marks]
        return [Edit(offset, data) for offset, data in sorted(at, key=lambda mark: mark[0])]


def shown(body: bytes, *marks: tuple[int, bytes]) -> bytes:
    at = sorted(
        [(len(body) if o < 0 else min(o, len(body)), data) for o, data in marks],
        key=lambda mark: mark[0],
    )
    result, position = b"", 0
    for offset, data in at:
        result += body[position:offset] + data
        position = offset
    return result + body[position:]


async def opened(stack: str, *layers: trove.Middleware) -> trove.Trove:
    made: list[trove.Middleware] = [make() for make in STACKS[stack]]
    store = await trove.open("mem://", default_bucket="box", middleware=[*made, *layers])
    await store.create_bucket("box")
    return store


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    "marks",
    [
        ((0, b"head"),),
        ((33, b"in the middle"),),
        ((-1, b"at the end"),),
        ((0, b"a"), (5, b"bc"), (5, b"d"), (-1, b"efg")),
    ],
)
async def test_whole_reads_and_every_kind_of_range_are_of_what_is_shown(
    stack: str, marks: tuple[tuple[int, bytes], ...]
) -> None:
    stamp = Stamp(*marks)
    async with await opened(stack, stamp) as store:
        await store.put(None, "a.txt", BODY)
        expected = shown(BODY, *marks)
        async with store.get(None, "a.txt") as reader:
            assert reader.info.size == reader.length == len(expected)
            assert await reader.read() == expected
        edges = [0, 1, 4, 5, 6, 8, 33, 40, 46, len(BODY), len(expected) - 1, len(expected)]
        for start in edges:
            for stop in edges:
                if start < stop:
                    wanted = slice(start, stop)
                    assert await store.get_bytes(None, "a.txt", range=wanted) == expected[wanted]
        for n in (1, 5, 11, 2000, len(expected) + 5):
            assert await store.get_bytes(None, "a.txt", range=slice(-n, None)) == expected[-n:]
        with pytest.raises(InvalidRangeError):
            await store.get_bytes(None, "a.txt", range=slice(len(expected), None))
        parts = await store.get_ranges(None, "a.txt", [slice(0, 9), slice(30, 50)], coalesce=0)
        assert parts == [expected[:9], expected[30:50]]


@pytest.mark.parametrize("stack", STACKS)
async def test_head_list_and_copies_are_of_the_object_itself(stack: str) -> None:
    async with await opened(stack, Stamp((0, b"x"))) as store:
        await store.put(None, "a", BODY)
        assert (await store.head(None, "a")).size == len(BODY)
        assert [info.size for info in (await store.list_page(None)).objects] == [len(BODY)]
        await store.copy(None, "a", None, "b", metadata={"new": "1"})
        assert (await store.head(None, "b")).size == len(BODY)
        store.use(Observer("reads"))  # the target has what the source had not: streamed
        await store.copy(None, "a", None, "c")
        store.remove("stamp")
        assert await store.get_bytes(None, "c") == await store.get_bytes(None, "b") == BODY


@pytest.mark.parametrize("stack", STACKS)
async def test_each_presenter_sees_what_the_one_below_it_shows(stack: str) -> None:
    inner, outer = Stamp((1, b"in"), name="inner"), Stamp((2, b"OUT"), name="outer")
    async with await opened(stack, outer, inner) as store:  # registered first: nearest the user
        await store.put(None, "a", BODY)
        expected = shown(shown(BODY, (1, b"in")), (2, b"OUT"))
        assert await store.get_bytes(None, "a") == expected
        for start in range(12):
            wanted = slice(start, start + 5)
            assert await store.get_bytes(None, "a", range=wanted) == expected[wanted]
        assert outer.seen[0][0] == len(BODY) + 2


@pytest.mark.parametrize("stack", STACKS)
async def test_observers_see_the_logical_bytes_once(stack: str) -> None:
    observer = Observer("eye", Direction.READ)
    async with await opened(stack, Stamp((3, b"stamp")), observer) as store:
        await store.put(None, "a", BODY)
        await store.get_bytes(None, "a")
        assert observer.seen == BODY
        await store.get_bytes(None, "a", range=slice(1, 12))
        assert observer.seen == BODY[1:7]


async def test_a_scope_is_asked_with_the_real_content_type() -> None:
    stamp = Stamp((0, b"!"))
    async with await opened("plain") as store:
        store.use(stamp, scope=trove.content_types("image/*"))
        await store.put(None, "a.txt", BODY, content_type="image/png")
        await store.put(None, "b.png", BODY, content_type="text/plain")
        assert await store.get_bytes(None, "a.txt", range=slice(0, 3)) == b"!" + BODY[:2]
        assert await store.get_bytes(None, "b.png", range=slice(0, 3)) == BODY[:3]
        assert await store.get_bytes(None, "a.txt") == b"!" + BODY
        assert await store.get_bytes(None, "b.png") == BODY


async def test_what_is_not_edited_passes_as_it_is() -> None:
    async with await opened("plain", Stamp()) as store:
        await store.put(None, "a", BODY)
        await store.put(None, "empty", b"")
        assert await store.get_bytes(None, "a") == BODY
        assert await store.get_bytes(None, "a", range=slice(2, 9)) == BODY[2:9]
        assert await store.get_bytes(None, "empty") == b""
        assert await store.get_bytes(None, "empty", range=slice(0, 5)) == b""


async def test_raw_reads_show_the_stored_bytes() -> None:
    async with await opened("plain", Stamp((0, b"x"))) as store:
        await store.put(None, "a", BODY)
        async with store.get(None, "a", raw=True, range=slice(0, 4)) as reader:
            assert await reader.read() == BODY[:4]


async def test_a_presenter_that_fails_fails_the_get_and_leaves_nothing_open() -> None:
    class Broken(Stamp):
        async def edits(self, below: RangeSource, context: Context) -> Sequence[Edit]:
            raise InvalidInputError("too long")

    async with await opened("both", Broken((0, b"x"))) as store:
        await store.put(None, "a", BODY)
        for wanted in (None, slice(0, 5)):
            with pytest.raises(InvalidInputError):
                await store.get(None, "a", range=wanted)


def test_a_presenter_only_reads_and_stands_nearest_the_user() -> None:
    for name, value in (("stage", Stage.OBSERVE), ("direction", Direction.READ_WRITE)):
        stamp = Stamp((0, b"x"))
        setattr(stamp, name, value)
        with pytest.raises(InvalidConfigError):
            trove.Trove(trove.lookup("mem")(trove.parse_dsn("mem://")), middleware=[stamp])


class _Source:
    def __init__(self, data: bytes, size: int) -> None:
        self.data = data
        self.size = len(data)
        self._chunk = size

    def read(self, start: int, stop: int) -> Chunks:
        if start >= stop:
            return OneChunk(b"")
        return chunks_of(self.data[start:stop], self._chunk)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=9)), max_size=5),
    st.integers(1, 7),
    st.data(),
)
async def test_any_range_of_what_is_shown_equals_the_slice(
    body: bytes, marks: list[tuple[int, bytes]], chunk: int, data: st.DataObject
) -> None:
    expected = shown(body, *marks)
    edits = sorted(
        (Edit(min(offset, len(body)), text) for offset, text in marks), key=lambda e: e.offset
    )
    layer = Shown(_Source(body, chunk), edits)
    assert layer.size == len(expected)
    start = data.draw(st.integers(0, layer.size))
    stop = data.draw(st.integers(start, layer.size))

    async def pieces() -> AsyncGenerator[Bytes, None]:
        async with aclosing(layer.read(start, stop)) as chunks:
            async for piece in chunks:
                assert len(piece)
                yield piece

    assert await collect(pieces()) == expected[start:stop]
