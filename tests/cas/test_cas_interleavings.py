"""Writers, readers and collectors in every order: each call of backend and index may be put off
behind what the others do, and the clock jumps."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import pytest

import trove_async as trove
from tests.cas.contents import DAY, HOUR, cut_tiny, key_of, name_of, read, streamed
from tests.cas.mortal import counting
from tests.catalog.conftest import Clock
from trove_async import BlobNotFoundError, ConflictError
from trove_async.catalog import MemoryCatalog
from trove_async.drivers.memory import MemoryDriver

SOME = random.Random(6).randbytes(1500)
CONTENTS = [b"small", counting(3, 900), SOME, SOME[:1000] + counting(4, 500)]
VERBS = ("put", "get", "head", "delete", "delete_many", "list", "copy", "move", "create_bucket")


class Dice:
    """Lets the others go first, some times."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def __call__(self) -> None:
        for _ in range(self.random.choice((0, 0, 1, 2, 5, 15))):
            await asyncio.sleep(0)


class LateDriver(MemoryDriver):
    """Is late before each call, and answers late after it."""

    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self.dice = dice

    def beside_it(self) -> LateDriver:
        """Of another client."""
        other = LateDriver(self.dice)
        other._state = self._state
        return other


def _late(name: str) -> Callable[..., Any]:
    async def method(self: LateDriver, *args: Any) -> Any:
        await self.dice()
        found = await getattr(super(LateDriver, self), name)(*args)
        await self.dice()
        return found

    return method


for _name in VERBS:
    setattr(LateDriver, _name, _late(_name))


class LateIndex:
    def __init__(self, inner: Any, dice: Dice) -> None:
        self.inner = inner
        self.dice = dice

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)
        assert inspect.iscoroutinefunction(call), name

        async def late(*args: Any, **options: Any) -> Any:
            await self.dice()
            found = await call(*args, **options)
            await self.dice()
            return found

        return late


class LateCatalog(MemoryCatalog):
    def __init__(self, dice: Dice, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.dice = dice

    def blobs(self, space: str) -> Any:
        return LateIndex(super().blobs(space), self.dice)


async def history(seed: int, *, jumps: bool, chunking: Literal["fastcdc"] | None = None) -> int:
    """How many stores there were."""
    dice, clock = Dice(seed), Clock()
    driver, catalog = LateDriver(dice), LateCatalog(dice, clock)
    chance = random.Random(seed + 1)
    stores = 0

    async def writer(name: str) -> None:
        nonlocal stores
        async with trove.open(driver.beside_it(), catalog=catalog, chunk_size=64) as store:
            for _ in range(3):
                cas = store.cas(chunking=chunking if chance.random() < 0.7 else None)
                data = chance.choice(CONTENTS)
                body = data if chance.random() < 0.5 else streamed(data, 200)
                try:
                    digest = (await cas.store(body, owner=name)).digest
                except ConflictError:  # collected without a grace, or its lease ended
                    continue
                stores += 1
                assert await read(cas, digest) == data
                await dice()
                if chance.random() < 0.3:
                    pin = await cas.pin(digest)
                    await cas.release(digest, owner=name)
                    await dice()
                    assert await read(cas, digest) == data
                    await cas.unpin(pin)
                else:
                    assert await read(cas, digest) == data
                    await cas.release(digest, owner=name)

    async def reader() -> None:
        async with trove.open(driver.beside_it(), catalog=catalog, chunk_size=64) as store:
            for _ in range(6):
                data = chance.choice(CONTENTS)
                try:
                    assert await read(store.cas(), name_of(data)) == data
                except BlobNotFoundError:
                    await dice()

    async def collector() -> None:
        async with trove.open(driver.beside_it(), catalog=catalog, chunk_size=64) as store:
            for _ in range(4):
                result = await store.cas().gc(grace=0, settle=0, orphan_after=0)
                assert result.errors == []
                if jumps and chance.random() < 0.5:
                    clock.pass_(chance.choice((HOUR, DAY + 1, 3 * DAY)))

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(writer(f"w{number}"))
        group.create_task(reader())
        for _ in range(2):
            group.create_task(collector())
    async with trove.open(driver.beside_it(), catalog=catalog, chunk_size=64) as store:
        cas = store.cas()
        kept = (await cas.store(b"kept", owner="k")).digest
        for _ in range(3 if chunking is None else 5):
            clock.pass_(2 * DAY)
            assert (await cas.gc()).errors == []
        assert [pair async for pair in cas.owners("manifest:")] == []
        report = await cas.verify(repair=True)
        assert (report.corrupt, report.missing, report.recounted) == ([], [], 0)
        assert [info.digest async for info in cas.list()] == [kept]
        assert [entry.key async for entry in store.list("cas") if hasattr(entry, "key")] == [
            key_of(b"kept")
        ]
        clock.pass_(DAY)
        assert await catalog.blobs("cas").expired(10) == []
    return stores


@pytest.fixture(autouse=True)
def small_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trove_async.cas.writing.SMALL", 100)


@pytest.mark.parametrize("jumps", [False, True])
async def test_f24_what_is_referenced_reads_in_every_order(jumps: bool) -> None:
    stores = [await history(seed, jumps=jumps) for seed in range(20)]
    assert sum(stores) > 60


@pytest.mark.parametrize("jumps", [False, True])
async def test_content_in_chunks_reads_in_every_order(
    monkeypatch: pytest.MonkeyPatch, jumps: bool
) -> None:
    cut_tiny(monkeypatch)
    stores = [await history(seed, jumps=jumps, chunking="fastcdc") for seed in range(12)]
    assert sum(stores) > 40


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("jumps", [False, True])
async def test_content_in_chunks_in_two_thousand_orders(
    monkeypatch: pytest.MonkeyPatch, jumps: bool
) -> None:
    cut_tiny(monkeypatch)
    seeds = range(1000, 3000)
    stores = [await history(seed, jumps=jumps, chunking="fastcdc") for seed in seeds]
    print(f"\n{len(stores)} orders, {sum(stores)} stores")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("jumps", [False, True])
async def test_f24_five_thousand_orders(jumps: bool) -> None:
    stores = [await history(seed, jumps=jumps) for seed in range(1000, 6000)]
    print(f"\n{len(stores)} orders, {sum(stores)} stores")


# -- orders that are chosen ---------------------------------------------------------------------


class Held(MemoryDriver):
    """Holds one call back until it is let go."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.verb = verb
        self.is_armed = False
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def hold(self, verb: str) -> None:
        if self.is_armed and verb == self.verb:
            self.is_armed = False
            self.reached.set()
            await self.go.wait()

    async def get(self, *args: Any) -> Any:
        await self.hold("get")
        return await super().get(*args)

    async def delete_many(self, *args: Any) -> Any:
        await self.hold("delete_many")
        return await super().delete_many(*args)


async def test_a_delete_that_arrives_after_the_next_generation_harms_nothing() -> None:
    """Of a collector that hangs; another one did its work meanwhile."""
    driver = Held("delete_many")
    async with trove.open(driver, catalog=MemoryCatalog()) as store:
        cas = store.cas()
        digest = (await cas.store(b"content", owner="a")).digest
        await cas.release(digest, owner="a")
        driver.is_armed = True
        late = asyncio.create_task(cas.gc(grace=0, settle=0))
        await driver.reached.wait()
        assert (await cas.gc(grace=0, settle=0)).deleted == 1
        assert not (await cas.store(b"content", owner="b")).deduplicated
        driver.go.set()
        result = await late
        assert (result.deleted, result.freed_bytes, result.errors) == (0, 0, [])
        assert await read(cas, digest) == b"content"
        assert (await cas.stat(digest)).state == "live"
        assert (await cas.gc(grace=0, settle=0)).deleted == 0


class Vanishing(MemoryDriver):
    """An object goes when it is looked at, once."""

    is_armed = False

    async def head(self, bucket: str, key: str, options: Any) -> Any:
        if self.is_armed and key.endswith("~0"):
            self.is_armed = False
            await self.delete_many(bucket, [key])
        return await super().head(bucket, key, options)


async def test_an_object_in_the_way_that_is_collected_just_now_is_written() -> None:
    """It was another writer's, whose lease had ended."""
    driver = Vanishing()
    async with trove.open(driver, catalog=MemoryCatalog()) as store:
        cas = store.cas()
        await store.create_bucket("cas")
        await (await cas._open_index()).claim(name_of(b"content"), "dead", 1)
        await store.put("cas", key_of(b"content"), b"content")
        driver.is_armed = True
        assert not (await cas.store(b"content", owner="a")).deduplicated
        assert not driver.is_armed
        assert await read(cas, name_of(b"content")) == b"content"


async def test_a_reader_that_finds_its_generation_deleted_takes_the_next() -> None:
    driver = Held("get")
    async with trove.open(driver, catalog=MemoryCatalog()) as store:
        cas = store.cas()
        digest = (await cas.store(b"content", owner="a")).digest
        driver.is_armed = True
        reading = asyncio.create_task(read(cas, digest))
        await driver.reached.wait()
        await cas.release(digest, owner="a")
        assert (await cas.gc(grace=0, settle=0)).deleted == 1
        await cas.store(b"content", owner="b")
        driver.go.set()
        assert await reading == b"content"
        assert not (await cas.stat(digest)).damaged


async def test_a_reader_of_what_is_collected_meanwhile_is_told_that_it_is_not_there() -> None:
    driver = Held("get")
    async with trove.open(driver, catalog=MemoryCatalog()) as store:
        cas = store.cas()
        digest = (await cas.store(b"content", owner="a")).digest
        driver.is_armed = True
        reading = asyncio.create_task(read(cas, digest))
        await driver.reached.wait()
        await cas.release(digest, owner="a")
        await cas.gc(grace=0, settle=0)
        driver.go.set()
        with pytest.raises(BlobNotFoundError):
            await reading


@pytest.mark.parametrize("where", ["mem://", "file://{}/root?durability=none"])
async def test_a_reader_in_the_middle_of_what_is_collected_gets_it_whole(
    where: str, tmp_path: Path
) -> None:
    data = counting(1, 3 << 20)
    async with trove.open(where.format(tmp_path), catalog=MemoryCatalog()) as store:
        cas = store.cas()
        digest = (await cas.store(data, owner="a")).digest
        async with cas.retrieve(digest) as reader:
            chunks = aiter(reader)
            got = [bytes(await anext(chunks))]
            await cas.release(digest, owner="a")
            assert (await cas.gc(grace=0, settle=0)).deleted == 1
            got += [bytes(chunk) async for chunk in chunks]
        assert b"".join(got) == data


@pytest.mark.parametrize("days", [0.5, 1.1, 3, 40])
async def test_a_writer_slower_than_its_lease_stores_it_all_the_same(days: float) -> None:
    clock, driver, data = Clock(), MemoryDriver(), CONTENTS[1]
    async with trove.open(driver, catalog=MemoryCatalog(clock=clock), chunk_size=64) as store:
        cas = store.cas()
        await cas.store(b"other", owner="a")

        async def slowly() -> Any:
            for start in range(0, len(data), 100):
                yield data[start : start + 100]
                clock.pass_(days * DAY)
                assert (await cas.gc(orphan_after=0)).errors == []

        stored = await cas.store(slowly(), owner="slow")
        assert await read(cas, stored.digest) == data
        for _ in range(2):
            clock.pass_(2 * DAY)
            assert (await cas.gc()).errors == []
        assert await read(cas, stored.digest) == data
        keys = [cast(Any, entry).key async for entry in store.list("cas")]
        assert sorted(keys) == sorted([key_of(b"other"), key_of(data)])
