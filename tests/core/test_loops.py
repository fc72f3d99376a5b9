"""A store's life: opened and closed once or twice, in its loop and its process, or cancelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Source
from trove_async import (
    DriverClosedError,
    ObjectReader,
    Trove,
    UnavailableError,
    WrongLoopError,
)
from trove_async.drivers.memory import MemoryDriver
from trove_async.testing.stepper import Step, cancel_everywhere

USES: dict[str, Callable[[Trove], Awaitable[object]]] = {
    "put": lambda store: store.put("box", "k", b"x"),
    "get": lambda store: _gotten(store),
    "get_bytes": lambda store: store.get_bytes("box", "k"),
    "get_ranges": lambda store: store.get_ranges("box", "k", [slice(0, 1)]),
    "head": lambda store: store.head("box", "k"),
    "exists": lambda store: store.exists("box", "k"),
    "delete": lambda store: store.delete("box", "k"),
    "delete_many": lambda store: store.delete_many("box", ["k"]),
    "list": lambda store: anext(store.list("box")),
    "list_page": lambda store: store.list_page("box"),
    "copy": lambda store: store.copy("box", "k", "box", "c"),
    "move": lambda store: store.move("box", "k", "box", "m"),
    "create_bucket": lambda store: store.create_bucket("other"),
    "delete_bucket": lambda store: store.delete_bucket("box"),
    "list_buckets": lambda store: store.list_buckets(),
    "ping": lambda store: store.ping(),
    "versions": lambda store: store.versions("box", "k"),
    "restore": lambda store: store.restore("box", "k", "v"),
    "get_tags": lambda store: store.get_tags("box", "k"),
    "set_tags": lambda store: store.set_tags("box", "k", {}),
    "get_lifecycle": lambda store: store.get_lifecycle("box"),
    "set_lifecycle": lambda store: store.set_lifecycle("box", []),
    "presign_get": lambda store: store.presign_get("box", "k"),
    "presign_put": lambda store: store.presign_put("box", "k"),
    "watch": lambda store: _watched(store),
}


async def _gotten(store: Trove) -> ObjectReader:
    async with store.get("box", "k") as reader:
        return reader


async def _watched(store: Trove) -> None:
    async with store.watch("box"):
        pass


async def _made(driver: MemoryDriver | Faulty | None = None) -> Trove:
    store = Trove(MemoryDriver() if driver is None else driver)
    await store.aopen()
    await store.create_bucket("box")
    await store.put("box", "k", b"body")
    return store


@pytest.mark.parametrize("verb", USES)
async def test_a_store_that_is_not_open_says_so(verb: str) -> None:
    store = Trove(MemoryDriver())
    with pytest.raises(DriverClosedError):
        await USES[verb](store)
    store = await _made()
    await store.aclose()
    with pytest.raises(DriverClosedError):
        await USES[verb](store)
    pinned = (await _made()).backend("default")
    await USES["head"](pinned)


@pytest.mark.parametrize("verb", USES)
def test_a_store_is_used_in_its_own_loop_only(verb: str) -> None:
    home = asyncio.new_event_loop()
    faulty = Faulty()

    async def stray() -> None:
        with pytest.raises(WrongLoopError):
            await USES[verb](store)

    try:
        store = home.run_until_complete(_made(faulty))
        faulty.forget()
        asyncio.run(stray())
        assert faulty.calls == []
        home.run_until_complete(store.head("box", "k"))
        home.run_until_complete(store.aclose())
    finally:
        home.close()
    assert faulty.closed == 1


def test_a_store_is_not_closed_from_another_loop() -> None:
    home = asyncio.new_event_loop()
    faulty = Faulty()

    async def stray() -> None:
        with pytest.raises(WrongLoopError):
            await store.aclose()
        with pytest.raises(WrongLoopError):
            await store.aopen()

    try:
        store = home.run_until_complete(_made(faulty))
        asyncio.run(stray())
        assert (faulty.opened, faulty.closed) == (1, 0)
        home.run_until_complete(store.aclose())
    finally:
        home.close()
    assert faulty.closed == 1


def test_a_closed_store_may_be_opened_in_another_loop() -> None:
    store = Trove(MemoryDriver())

    async def first() -> None:
        async with store:
            await store.create_bucket("box")
            await store.put("box", "k", b"kept")

    async def second() -> None:
        async with store:
            assert await store.get_bytes("box", "k") == b"kept"

    asyncio.run(first())
    asyncio.run(second())


async def test_opening_twice_opens_once_and_closing_twice_closes_once() -> None:
    faulty = Faulty()
    store = Trove(faulty)
    await store.aopen()
    await store.aopen()
    async with store:
        assert faulty.opened == 1
    await store.aclose()
    assert faulty.closed == 1
    await store.aopen()
    await store.ping()
    await store.aclose()
    assert (faulty.opened, faulty.closed) == (2, 2)


async def test_a_store_that_was_never_opened_closes_without_a_word() -> None:
    faulty = Faulty()
    await Trove(faulty).aclose()
    assert (faulty.opened, faulty.closed) == (0, 0)


async def test_a_second_opening_while_the_first_is_under_way_is_refused() -> None:
    faulty = Faulty()
    faulty.hang("open")
    store = Trove(faulty)
    first = asyncio.create_task(store.aopen())
    await asyncio.sleep(0)
    with pytest.raises(DriverClosedError):
        await store.aopen()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert faulty.closed == 1
    await store.aopen()
    await store.ping()
    await store.aclose()


async def test_a_failed_opening_may_be_tried_again() -> None:
    faulty = Faulty()
    faulty.fail("open", UnavailableError("down"))
    store = Trove(faulty)
    with pytest.raises(UnavailableError):
        await store.aopen()
    with pytest.raises(DriverClosedError):
        await store.ping()
    async with store:
        assert (await store.ping())["default"].ok


class Slow(Faulty):
    """Three suspensions in each of open and close."""

    async def open(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await super().open()

    async def close(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await super().close()


async def test_an_opening_cancelled_anywhere_leaves_every_begun_driver_closed() -> None:
    drivers: list[Slow] = []
    begun: list[Trove] = []

    async def make() -> None:
        drivers[:] = [Slow(), Slow()]
        begun[:] = [Trove(drivers[0], backends={"far": drivers[1]})]
        await begun[0].aopen()

    async def check(step: Step) -> None:
        assert drivers[0].closed == 1
        assert drivers[1].closed >= drivers[1].opened
        with pytest.raises(DriverClosedError):
            await begun[0].ping()

    assert await cancel_everywhere(make, check=check, twice=True) >= 6


async def test_a_closing_cancelled_anywhere_closes_every_driver() -> None:
    drivers: list[Slow] = []
    begun: list[Trove] = []

    async def before() -> None:
        drivers[:] = [Slow(), Slow()]
        begun[:] = [Trove(drivers[0], backends={"far": drivers[1]})]
        await begun[0].aopen()

    async def check(step: Step) -> None:
        assert [driver.closed for driver in drivers] == [1, 1]
        with pytest.raises(DriverClosedError):
            await begun[0].ping()
        await begun[0].aclose()
        assert [driver.closed for driver in drivers] == [1, 1]

    points = await cancel_everywhere(
        lambda: begun[0].aclose(), check=check, before=before, twice=True
    )
    assert points >= 1
    await begun[0].aclose()


async def test_a_block_cancelled_anywhere_leaves_the_driver_closed() -> None:
    drivers: list[Slow] = []

    async def make() -> None:
        drivers[:] = [Slow()]
        async with trove.open(drivers[0]) as store:
            await store.create_bucket("box")
            await store.put("box", "k", Source())
            await asyncio.sleep(0)

    async def check(step: Step) -> None:
        assert drivers[0].closed == 1, drivers[0].opened
        assert drivers[0].unclosed == 0

    assert await cancel_everywhere(make, check=check) >= 5


# -- forks ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_F_a_forked_child_is_told_and_the_parent_is_not_disturbed() -> None:
    home = asyncio.new_event_loop()
    faulty = Faulty()
    store = home.run_until_complete(_made(faulty))
    child = os.fork()
    if child == 0:
        answer = 1
        try:
            answer = _in_the_child(store)
        finally:
            os._exit(answer)
    try:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert home.run_until_complete(store.get_bytes("box", "k")) == b"body"
        home.run_until_complete(store.aclose())
    finally:
        home.close()
    assert faulty.closed == 1


def _in_the_child(store: Trove) -> int:
    """0: as it should be."""

    async def stray() -> int:
        for verb in ("head", "put", "list"):
            try:
                await USES[verb](store)
            except WrongLoopError as exc:
                if "fork" not in str(exc):
                    return 3
            else:
                return 2
        async with trove.open("mem://") as own:
            await own.create_bucket("box")
            await own.put("box", "k", b"x")
            return 0 if await own.get_bytes("box", "k") == b"x" else 4

    asyncio.set_event_loop(None)
    fresh = asyncio.new_event_loop()
    asyncio._set_running_loop(None)
    return fresh.run_until_complete(stray())
