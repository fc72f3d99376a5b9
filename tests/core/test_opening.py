"""`Opening`: awaited or entered; and what a store is opened with."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Tag
from trove_async import (
    BackendNotFoundError,
    DriverClosedError,
    InvalidBucketNameError,
    InvalidConfigError,
    Opening,
    OperationTimeoutError,
    Registration,
    Timeouts,
    Trove,
    UnavailableError,
    keys,
)
from trove_async.drivers.memory import MemoryDriver


class Thing(AbstractAsyncContextManager["Thing"]):
    def __init__(self, *, swallow: bool = False, enter: BaseException | None = None) -> None:
        self.swallow = swallow
        self.enter = enter
        self.entered = 0
        self.left: list[BaseException | None] = []

    async def __aenter__(self) -> Thing:
        self.entered += 1
        if self.enter is not None:
            raise self.enter
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        await asyncio.sleep(0)
        self.left.append(error)
        return self.swallow


def opening(thing: Thing, started: list[int] | None = None) -> Opening[Thing]:
    async def start() -> Thing:
        await asyncio.sleep(0)
        if started is not None:
            started.append(1)
        return thing

    return Opening(start)


async def test_awaiting_gives_the_thing_and_leaves_it_open() -> None:
    thing = Thing()
    assert await opening(thing) is thing
    assert (thing.entered, thing.left) == (0, [])


async def test_entering_gives_the_thing_and_leaves_by_its_own_exit() -> None:
    thing = Thing()
    async with opening(thing) as given:
        assert given is thing
        assert (thing.entered, thing.left) == (1, [])
    assert thing.left == [None]


async def test_the_exit_of_the_thing_sees_the_error_and_may_swallow_it() -> None:
    error = KeyError("in the block")
    plain, forgiving = Thing(), Thing(swallow=True)

    def fail() -> None:
        raise error

    with pytest.raises(KeyError):
        async with opening(plain):
            fail()
    async with opening(forgiving):
        fail()
    assert plain.left == forgiving.left == [error]


async def test_an_unused_opening_starts_nothing_and_warns_nothing() -> None:
    started: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unused = opening(Thing(), started)
        del unused
        gc.collect()
    assert started == []


async def test_an_error_at_the_start_reaches_the_caller_both_ways() -> None:
    async def start() -> Thing:
        raise UnavailableError("down")

    with pytest.raises(UnavailableError):
        await Opening(start)
    with pytest.raises(UnavailableError):
        async with Opening(start):
            raise AssertionError("not entered")


async def test_an_opening_can_be_used_again() -> None:
    thing = Thing()
    again = opening(thing)
    for _ in range(3):
        async with again:
            pass
    assert (thing.entered, len(thing.left)) == (3, 3)


async def test_a_cancel_while_it_starts_ends_it() -> None:
    begun = asyncio.Event()

    async def start() -> Thing:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def enter() -> None:
        async with Opening(start):
            raise AssertionError("not entered")

    task = asyncio.create_task(enter())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- a store -----------------------------------------------------------------------------------


async def test_a_store_opens_from_a_driver_a_string_a_path_and_a_file(tmp_path: Path) -> None:
    toml = tmp_path / "trove.toml"
    toml.write_text('[stores.main]\nurl = "mem://"\n')
    for target in (MemoryDriver(), "mem://", toml, str(toml)):
        store = await trove.open(target)
        try:
            assert isinstance(store, Trove)
            assert isinstance(store.driver, MemoryDriver)
        finally:
            await store.aclose()
        async with trove.open(target) as entered:
            assert set(await entered.ping()) == {"default"}
    assert os.fspath(toml).endswith(".toml")


async def test_the_block_opens_and_closes_every_driver_once_whatever_their_names() -> None:
    first, second = Faulty(), Faulty()
    backends = {"one": second, "again": second, "self": first}
    async with trove.open(first, backends=backends) as store:
        assert (first.opened, second.opened) == (1, 1)
        assert list(await store.ping()) == ["default", "one", "again", "self"]
    assert (first.closed, second.closed) == (1, 1)
    with pytest.raises(DriverClosedError):
        await store.head("box", "k")


async def test_an_error_in_the_block_closes_and_is_not_hidden() -> None:
    faulty = Faulty()
    with pytest.raises(KeyError):
        async with trove.open(faulty):
            raise KeyError("mine")
    assert faulty.closed == 1


async def test_what_opened_before_a_failing_driver_is_closed() -> None:
    first, second, third = Faulty(), Faulty(), Faulty()
    second.fail("open", UnavailableError("down"))
    with pytest.raises(UnavailableError):
        await trove.open(first, backends={"second": second, "third": third})
    assert [d.closed for d in (first, second, third)] == [1, 1, 0]
    assert third.opened == 0


async def test_a_driver_that_does_not_open_in_time_is_closed() -> None:
    first, slow = Faulty(), Faulty()
    slow.hang("open")
    with pytest.raises(OperationTimeoutError) as caught:
        await trove.open(first, backends={"slow": slow}, timeouts=Timeouts(connect=0.05))
    assert (caught.value.backend, caught.value.operation) == ("slow", "open")
    assert (first.closed, slow.closed) == (1, 1)


async def test_the_first_error_of_closing_is_raised_and_all_are_closed() -> None:
    drivers = [Faulty(), Faulty(), Faulty()]
    drivers[0].fail("close", UnavailableError("first"))
    drivers[2].fail("close", UnavailableError("third"))
    store = await trove.open(drivers[0], backends={"b": drivers[1], "c": drivers[2]})
    with pytest.raises(UnavailableError, match="third"):
        await store.aclose()
    assert [driver.closed for driver in drivers] == [1, 1, 1]
    await store.aclose()
    assert [driver.closed for driver in drivers] == [1, 1, 1]


async def test_the_middleware_given_to_open_is_used_in_its_scope() -> None:
    async with trove.open(
        "mem://", middleware=[Tag("all"), Registration(Tag("some"), keys("x*"))]
    ) as store:
        await store.create_bucket("box")
        assert (await store.put("box", "y", b"1")).encodings == ("all",)
        assert (await store.put("box", "x", b"1")).encodings == ("all", "some")
        assert await store.get_bytes("box", "x", range=slice(0, None)) == b"1"


@pytest.mark.parametrize("algorithm", ["blake3", "sha256", "xxh3", None])
async def test_the_checksum_is_of_the_algorithm_asked(algorithm: Any) -> None:
    async with trove.open("mem://", checksum=algorithm) as store:
        await store.create_bucket("box")
        info = await store.put("box", "k", b"abc")
        head = await store.head("box", "k")
    assert info.checksum == head.checksum
    assert (info.checksum or "").partition(":")[0] == (algorithm or "")


async def test_chunk_size_is_how_much_is_read_of_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))
    tag = Tag("t")
    sizes: list[int] = []

    async def noted(chunks: Any) -> Any:
        async for chunk in chunks:
            sizes.append(len(chunk))
            yield chunk

    tag._written = noted  # type: ignore[method-assign]  # the body as the layer sees it
    async with trove.open("mem://", chunk_size=1000, middleware=[tag]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", path)
    assert sum(sizes) == 10_000
    assert max(sizes) <= 1000


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"backends": {"default": "mem://"}}, ValueError),
        ({"backends": {"x": 7}}, TypeError),
        ({"routes": [("*", "nowhere")]}, BackendNotFoundError),
        ({"routes": ["*.log"]}, TypeError),
        ({"routes": [("*.log",)]}, TypeError),
        ({"routes": [("*" * 2000, "default")]}, InvalidConfigError),
        ({"checksum": "md5"}, ValueError),
        ({"chunk_size": 0}, ValueError),
        ({"default_bucket": "No"}, InvalidBucketNameError),
        ({"middleware": [object()]}, TypeError),
    ],
)
async def test_a_wrong_setting_is_refused_before_anything_opens(
    options: dict[str, Any], error: type[Exception]
) -> None:
    faulty = Faulty()
    with pytest.raises(error):
        await trove.open(faulty, **options)
    assert (faulty.opened, faulty.calls) == (0, [])


@pytest.mark.parametrize("target", [None, 7, b"mem://", object()])
async def test_what_is_no_target_is_a_type_error(target: Any) -> None:
    with pytest.raises(TypeError):
        await trove.open(target)


async def test_the_default_bucket_stands_where_none_is_named() -> None:
    async with trove.open("mem://", default_bucket="box") as store:
        await store.create_bucket("box")
        for name in (None, "", "box"):
            await store.put(name, "k", b"x")
            assert await store.get_bytes(name, "k") == b"x"
        assert await store.bucket().get_bytes("k") == b"x"
        assert store.bucket().name == "box"
        assert await store.backend("default").get_bytes(None, "k") == b"x"
    async with trove.open("mem://") as bare:
        for name in (None, ""):
            with pytest.raises(InvalidBucketNameError):
                await bare.put(name, "k", b"x")
            with pytest.raises(InvalidBucketNameError):
                bare.bucket(name)


async def test_the_store_says_what_it_is_over_without_a_secret() -> None:
    async with trove.open("mem://", backends={"far": Faulty()}) as store:
        assert repr(store) == "<Trove over default, far, open>"
        assert repr(store.backend("far")) == "<Trove over far, open>"
    assert repr(store) == "<Trove over default, far, not open>"
