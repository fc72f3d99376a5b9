"""The open levels of one operation: each is closed once, whatever happens; the tap in front."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Observer, Source, Tag
from trove_async import (
    BucketNotFoundError,
    ChecksumMismatchError,
    RetryPolicy,
    TrailingDataError,
    Trove,
    TruncatedError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.middleware.pipeline import Chain

STACKS = [[], ["a"], ["a", "b"], ["a", "b", "c"]]


@pytest.fixture
def faulty() -> Faulty:
    return Faulty()


@pytest.fixture
async def store(faulty: Faulty) -> AsyncIterator[Trove]:
    async with trove.open(faulty, retry=RetryPolicy(attempts=1)) as opened:
        await opened.create_bucket("box")
        await opened.put("box", "k", b"old")
        yield opened


def layers(store: Trove, names: list[str], **failing: str) -> tuple[list[Tag], list[str]]:
    log: list[str] = []
    tags = [Tag(name, log=log, fail=failing.get(name, "")) for name in names]
    for tag in tags:
        store.use(tag)
    return tags, log


def assert_closed_once(tags: list[Tag]) -> None:
    for tag in tags:
        assert [level.closed for level in tag.levels] == [1] * len(tag.levels), tag.name


@pytest.mark.parametrize("names", STACKS)
async def test_a_put_to_the_end_closes_every_level_once(store: Trove, names: list[str]) -> None:
    tags, log = layers(store, names)
    source = Source()
    await store.put("box", "k", source)
    assert source.closed == 1
    assert_closed_once(tags)
    closings = [line for line in log if line.startswith("close")]
    assert closings == [f"close {name}" for name in reversed(names)]
    assert await store.get_bytes("box", "k") == b"onetwothree"


@pytest.mark.parametrize("names", STACKS)
async def test_a_driver_that_refuses_before_pulling_leaves_nothing_open(
    store: Trove, faulty: Faulty, names: list[str]
) -> None:
    tags, _ = layers(store, names)
    source = Source()
    faulty.fail("put", UnavailableError("no"))
    with pytest.raises(UnavailableError):
        await store.put("box", "k", source)
    assert (source.closed, source.given) == (1, 0)
    assert_closed_once(tags)
    with pytest.raises(BucketNotFoundError):
        await store.put("nowhere", "k", source := Source())
    assert source.closed == 1
    assert_closed_once(tags)


@pytest.mark.parametrize("names", STACKS)
async def test_a_source_that_fails_is_closed_and_nothing_is_published(
    store: Trove, names: list[str]
) -> None:
    tags, _ = layers(store, names)
    source = Source(at=2, error=OSError("the disk is gone"))
    with pytest.raises(OSError, match="the disk is gone"):
        await store.put("box", "k", source)
    assert source.closed == 1
    assert_closed_once(tags)
    for tag in tags:
        store.remove(tag.name)
    assert await store.get_bytes("box", "k") == b"old"


@pytest.mark.parametrize("names", STACKS)
async def test_a_cancelled_put_closes_every_level_once(store: Trove, names: list[str]) -> None:
    tags, _ = layers(store, names)
    source = Source(at=1)
    task = asyncio.create_task(store.put("box", "k", source))
    await source.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed == 1
    assert_closed_once(tags)
    for tag in tags:
        store.remove(tag.name)
    assert await store.get_bytes("box", "k") == b"old"


@pytest.mark.parametrize("where", ["decide", "chunk", "flush"])
@pytest.mark.parametrize("who", ["a", "b", "c"])
async def test_F50_a_layer_that_raises_on_a_write_publishes_nothing(
    store: Trove, where: str, who: str
) -> None:
    tags, log = layers(store, ["a", "b", "c"], **{who: where})
    source = Source()
    with pytest.raises(RuntimeError, match=f"^{who} "):
        await store.put("box", "k", source)
    assert source.closed == 1
    assert_closed_once(tags)
    opened = [line[6:] for line in log if line.startswith("write")]
    if where == "decide":
        opened.remove(who)
    closed = [line[6:] for line in log if line.startswith("close")]
    assert closed == opened[::-1]
    for tag in tags:
        store.remove(tag.name)
    assert await store.get_bytes("box", "k") == b"old"


@pytest.mark.parametrize("who", ["a", "b", "c"])
async def test_F50_a_layer_that_cannot_close_does_not_keep_the_others_open(
    store: Trove, who: str
) -> None:
    tags, _ = layers(store, ["a", "b", "c"], **{who: "close"})
    source = Source()
    with pytest.raises(RuntimeError, match=f"{who} cannot close"):
        await store.put("box", "k", source)
    assert source.closed == 1
    assert_closed_once(tags)


async def test_F50_the_first_error_wins_over_one_from_closing(store: Trove) -> None:
    layers(store, ["a", "b"], b="close")
    with pytest.raises(OSError, match="gone") as caught:
        await store.put("box", "k", Source(at=1, error=OSError("gone")))
    assert any("closing" in note for note in caught.value.__notes__)


async def test_F47_a_cancel_wins_over_an_error_from_closing(store: Trove) -> None:
    layers(store, ["a", "b"], b="close")
    source = Source(at=1)
    task = asyncio.create_task(store.put("box", "k", source))
    await source.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed == 1


@pytest.mark.parametrize("where", ["open", "read", "close"])
@pytest.mark.parametrize("who", ["a", "b", "c"])
async def test_F50_a_layer_that_raises_on_a_read_leaves_nothing_open(
    store: Trove, faulty: Faulty, where: str, who: str
) -> None:
    tags, _ = layers(store, ["a", "b", "c"])
    await store.put("box", "k", b"body")
    for tag in tags:
        tag.levels.clear()
        tag.fail = where if tag.name == who else ""
    faulty.forget()
    with pytest.raises(RuntimeError, match=f"^{who} "):
        async with store.get("box", "k") as reader:
            await reader.read()
    assert_closed_once(tags)
    assert [body.closed > 0 for body in faulty.bodies] == [True]


async def test_a_reader_that_stops_early_closes_every_level(store: Trove, faulty: Faulty) -> None:
    tags, _ = layers(store, ["a", "b"])
    await store.put("box", "k", bytes(5000))
    faulty.forget()
    for tag in tags:
        tag.levels.clear()
    async with store.get("box", "k") as reader:
        async for _ in reader:
            break
    assert_closed_once(tags)
    assert [body.closed > 0 for body in faulty.bodies] == [True]
    async with store.get("box", "k"):
        pass  # nothing pulled at all
    assert_closed_once(tags)
    assert faulty.unclosed == 0


async def test_a_cancelled_read_closes_every_level(store: Trove, faulty: Faulty) -> None:
    tags, _ = layers(store, ["a", "b"])
    await store.put("box", "k", bytes(5000))
    for tag in tags:
        tag.levels.clear()
    faulty.forget()
    faulty.body(1500, "hang")

    async def reading() -> None:
        async with store.get("box", "k") as reader:
            await reader.read()

    task = asyncio.create_task(reading())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_closed_once(tags)
    assert [body.closed > 0 for body in faulty.bodies] == [True]


async def test_a_chain_goes_on_when_a_level_fails_to_close() -> None:
    closed: list[int] = []

    class Level(Source):
        def __init__(self, number: int, error: BaseException | None = None) -> None:
            super().__init__()
            self.number = number
            self.refusal = error

        async def aclose(self) -> None:
            closed.append(self.number)
            if self.refusal is not None:
                raise self.refusal

    chain = Chain(Level(0), Level(1, OSError("first")), Level(2, OSError("second")))
    with pytest.raises(OSError, match="second"):
        await chain.aclose()
    assert closed == [2, 1, 0]
    await chain.aclose()
    assert closed == [2, 1, 0]


# -- bodies that never come so far ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": -1}, ValueError),
        ({"checksum": "md5:00"}, trove.InvalidInputError),
        ({"metadata": {"trovefmt": "1"}}, trove.InvalidMetadataError),
        ({"content_type": "no type"}, trove.InvalidInputError),
        ({"if_none_match": "etag"}, ValueError),
        ({"part_size": 0}, ValueError),
        ({"storage_class": "a\r\nb"}, trove.InvalidInputError),
    ],
)
async def test_a_refused_put_closes_the_iterator_it_was_given(
    store: Trove, options: dict[str, Any], error: type[Exception]
) -> None:
    source = Source()
    with pytest.raises(error):
        await store.put("box", "k", source, **options)
    assert (source.closed, source.given) == (1, 0)


async def test_an_unsupported_condition_closes_the_iterator() -> None:
    driver = Faulty(features=trove.Features(late_metadata=True))
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        refused: list[dict[str, Any]] = [
            {"if_none_match": "*"},
            {"if_match": "x"},
            {"tags": {"a": "b"}},
        ]
        for options in refused:
            source = Source()
            with pytest.raises(UnsupportedError):
                await store.put("box", "k", source, **options)
            assert (source.closed, source.given) == (1, 0)
        assert "put" not in driver.verbs()


# -- the tap -------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [[], ["a", "b"]])
@pytest.mark.parametrize("body", ["bytes", "iterator"])
@pytest.mark.parametrize(("size", "error"), [(3, TrailingDataError), (99, TruncatedError)])
async def test_a_wrong_size_is_never_published(
    store: Trove, names: list[str], body: str, size: int, error: type[Exception]
) -> None:
    tags, _ = layers(store, names)
    source = Source()
    with pytest.raises(error):
        await store.put("box", "k", b"onetwothree" if body == "bytes" else source, size=size)
    assert body == "bytes" or source.closed == 1
    assert_closed_once(tags)
    for tag in tags:
        store.remove(tag.name)
    assert await store.get_bytes("box", "k") == b"old"


@pytest.mark.parametrize("names", [[], ["a", "b"]])
@pytest.mark.parametrize("algorithm", ["blake3", "sha256", "xxh3"])
@pytest.mark.parametrize("body", ["bytes", "iterator"])
async def test_an_expected_checksum_is_of_the_logical_bytes(
    store: Trove, names: list[str], algorithm: str, body: str
) -> None:
    from trove_async.checksum import digest_of

    layers(store, names)
    data = b"onetwothree"
    wanted = digest_of(algorithm, data)
    info = await store.put("box", "k", data if body == "bytes" else Source(), checksum=wanted)
    assert info.checksum == digest_of("blake3", data)  # the configured one is recorded
    wrong = digest_of(algorithm, b"other")
    with pytest.raises(ChecksumMismatchError):
        await store.put("box", "k2", data if body == "bytes" else Source(), checksum=wrong)
    assert not await store.exists("box", "k2")


async def test_a_store_without_checksums_still_checks_an_expected_one() -> None:
    async with trove.open("mem://", checksum=None) as store:
        await store.create_bucket("box")
        good = "sha256:" + hashlib.sha256(b"onetwothree").hexdigest()
        for body in (b"onetwothree", Source()):
            info = await store.put("box", "k", body, checksum=good)
            assert info.checksum is None
        with pytest.raises(ChecksumMismatchError):
            await store.put("box", "k", b"x", checksum=good)


async def test_an_observer_stands_before_the_tap(store: Trove) -> None:
    seen = Observer()
    store.use(seen)
    with pytest.raises(TruncatedError):
        await store.put("box", "k", Source(), size=50)
    assert seen.seen == b"onetwothree"
    assert await store.get_bytes("box", "k") == b"old"


async def test_an_empty_chunk_from_a_careless_layer_does_not_end_the_body(store: Trove) -> None:
    class Careless(Tag):
        async def _read(self, chunks: trove.Chunks):  # type: ignore[no-untyped-def]  # as its base
            async for chunk in super()._read(chunks):
                yield b""
                yield chunk

    store.use(Careless("careless"))
    await store.put("box", "k", bytes(range(250)) * 10)
    async with store.get("box", "k") as reader:
        assert b"".join([chunk async for chunk in reader]) == bytes(range(250)) * 10
    async with store.get("box", "k") as reader:
        assert await reader.read() == bytes(range(250)) * 10
