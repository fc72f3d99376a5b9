"""F46: a cancel at every await of every operation leaves old or new, and nothing open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty, WatchedBody
from tests.core.layers import Source
from tests.strategies import STACKS
from trove_async import Chunks, GetOptions, ObjectNotFoundError, RawObject, Trove
from trove_async.testing.stepper import Step, cancel_everywhere

OLD, NEW = b"old " * 400, b"new! " * 700


class Yielding(Faulty):
    """Gives control to the loop before and after every request and every chunk."""

    async def _meet(self, verb: str, key: str, options: object) -> Any:
        await asyncio.sleep(0)
        return await super()._meet(verb, key, options)

    async def _leave(self, fault: Any) -> None:
        await asyncio.sleep(0)
        await super()._leave(fault)

    async def put(
        self, bucket: str, key: str, body: Chunks, options: trove.PutOptions
    ) -> trove.ObjectInfo:
        return await super().put(bucket, key, Slowly(body), options)

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        raw = await super().get(bucket, key, options)
        body = self.bodies[-1]
        return RawObject(raw.info, SlowBody(body), raw.start, raw.stop)


class Slowly:
    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def __aiter__(self) -> Slowly:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        return await self._chunks.__anext__()

    async def aclose(self) -> None:
        raise AssertionError("a driver never closes the body of a put")


class SlowBody(Slowly):
    def __init__(self, body: WatchedBody) -> None:
        super().__init__(body)

    async def aclose(self) -> None:
        await self._chunks.aclose()


async def read_whole(store: Trove) -> bytes:
    async with store.get("box", "k") as reader:
        return b"".join([chunk async for chunk in reader])


async def listed(store: Trove) -> list[str]:
    return [str(entry) async for entry in store.list("box", page_size=1)]


OPERATIONS: dict[str, Callable[[Trove], Coroutine[Any, Any, object]]] = {
    "put bytes": lambda s: s.put("box", "k", NEW),
    "put conditional": lambda s: s.put("box", "fresh", NEW, if_none_match="*"),
    "get": read_whole,
    "get_bytes": lambda s: s.get_bytes("box", "k"),
    "range": lambda s: s.get_bytes("box", "k", range=slice(5, 999)),
    "ranges": lambda s: s.get_ranges("box", "k", [slice(0, 3), slice(900, 999)], coalesce=0),
    "head": lambda s: s.head("box", "k"),
    "delete": lambda s: s.delete("box", "k"),
    "delete_many": lambda s: s.delete_many("box", ["k", "l", "m"]),
    "list": listed,
    "copy": lambda s: s.copy("box", "src", "box", "k"),
    "copy with metadata": lambda s: s.copy("box", "src", "box", "k", metadata={"a": "b"}),
    "copy across": lambda s: s.copy("box", "src", "box", "k.log"),
    "move": lambda s: s.move("box", "src", "box", "k"),
    "move across": lambda s: s.move("box", "src", "box", "k.log"),
    "ping": lambda s: s.ping(),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_F46_a_cancel_at_every_await_leaves_old_or_new(name: str, stack: str) -> None:
    main, logs = Yielding(chunk=600), Yielding(chunk=600)
    async with trove.open(
        main, backends={"logs": logs}, routes=[("*.log", "logs")], middleware=STACKS[stack]()
    ) as store:
        await store.create_bucket("box")

        async def prepare() -> None:
            for key in ("k", "l", "m", "k.log"):
                await store.put("box", key, OLD)
            await store.put("box", "src", NEW)
            await store.delete("box", "fresh")

        async def content(key: str) -> bytes | None:
            try:
                return await store.get_bytes("box", key)
            except ObjectNotFoundError:
                return None

        async def check(step: Step) -> None:
            assert step.error is None, f"{step}: {step.error!r}"
            assert main.unclosed == logs.unclosed == 0, step
            is_delete = name.startswith("delete")
            assert await content("k") in (OLD, NEW, *([None] if is_delete else [])), step
            assert await content("k.log") in (OLD, NEW), step
            assert await content("fresh") in (None, NEW), step
            source = await content("src")
            target = await content("k.log" if "across" in name else "k")
            assert source == NEW or ("move" in name and source is None and target == NEW), step

        before = asyncio.all_tasks()
        points = await cancel_everywhere(
            lambda: OPERATIONS[name](store), check=check, before=prepare, twice=True
        )
        assert points
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("stack", STACKS)
async def test_F46_the_body_of_a_cancelled_put_is_closed_once(stack: str) -> None:
    driver = Yielding()
    async with trove.open(driver, middleware=STACKS[stack]()) as store:
        await store.create_bucket("box")
        await store.put("box", "k", OLD)
        sources: list[Source] = []

        def work() -> Coroutine[Any, Any, object]:
            sources.append(Source([NEW[:900], NEW[900:]], pause=1e-9))
            return store.put("box", "k", sources[-1])

        async def check(step: Step) -> None:
            assert sources[-1].closed == 1, step
            assert await store.get_bytes("box", "k") in (OLD, NEW), step

        await cancel_everywhere(work, check=check)


async def test_F46_a_cancel_while_a_store_opens_or_closes_leaves_every_driver_closed() -> None:
    made: list[list[Yielding]] = []

    async def work() -> None:
        drivers = [Yielding(), Yielding(), Yielding()]
        made.append(drivers)
        store = trove.Trove(drivers[0], backends={"one": drivers[1], "two": drivers[2]})
        await store.aopen()
        try:
            await asyncio.sleep(0)
        finally:
            await store.aclose()

    async def check(step: Step) -> None:
        for driver in made[-1]:
            assert driver.closed >= driver.opened, step
            assert driver.closed <= 1, step

    assert await cancel_everywhere(work, check=check)


@pytest.mark.parametrize("verb", ["create_bucket", "delete_bucket"])
async def test_a_cancel_amid_buckets_leaves_them_on_all_or_is_mended_by_the_next_call(
    verb: str,
) -> None:
    drivers = [Yielding(), Yielding()]
    async with trove.open(drivers[0], backends={"one": drivers[1]}) as store:

        async def reset() -> None:
            for driver in drivers:
                for info in await driver.driver.list_buckets():
                    await driver.driver.delete_bucket(info.name)
            if verb == "delete_bucket":
                await store.create_bucket("box")

        async def check(step: Step) -> None:
            with suppress(trove.BucketExistsError, trove.BucketNotFoundError):
                await getattr(store, verb)("box")  # the cancelled one may have done it all
            for driver in drivers:
                found = [info.name for info in await driver.driver.list_buckets()]
                assert found == (["box"] if verb == "create_bucket" else []), step
            await reset()

        await reset()
        await cancel_everywhere(lambda: getattr(store, verb)("box"), check=check)
