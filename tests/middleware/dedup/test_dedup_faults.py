"""Whatever fails or is cancelled, no object is without its content; what is counted too much
is found by a sweep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import trove_async as trove
from tests.middleware.dedup.worlds import BUCKET, World, world
from trove_async import Chunks, ObjectInfo, PutOptions
from trove_async._chunks import OneChunk, collect
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import PermissionDeniedError, TroveError, UnavailableError
from trove_async.testing.faults import Fault
from trove_async.testing.faulty import faulty
from trove_async.testing.stepper import Step, cancel_everywhere

OLD, NEW, OTHER = b"old" * 500, b"new" * 700, b"other" * 300
Allowed = Mapping[str, Sequence[bytes | None]]
SAME: Allowed = {"a": [OLD], "b": [OTHER], "twin": [OLD]}


async def _put(w: World) -> None:
    await w.store.put(BUCKET, "a", NEW)


async def _put_equal(w: World) -> None:
    await w.store.put(BUCKET, "n", OLD)


async def _stream(w: World) -> None:
    await w.store.put(BUCKET, "a", iter([NEW[:100], NEW[100:]]))


async def _create(w: World) -> None:
    await w.store.put(BUCKET, "n", OLD, if_none_match="*")


async def _copy(w: World) -> None:
    await w.store.copy(BUCKET, "a", BUCKET, "b")


async def _onto_itself(w: World) -> None:
    await w.store.copy(BUCKET, "a", BUCKET, "a", metadata={"x": "1"})


async def _move(w: World) -> None:
    await w.store.move(BUCKET, "a", BUCKET, "b")


async def _delete(w: World) -> None:
    await w.store.delete(BUCKET, "a")


async def _delete_many(w: World) -> None:
    await w.store.delete_many(BUCKET, ["a", "b"])


async def _upload(w: World) -> None:
    session = await w.store.uploads.create(BUCKET, "a")
    try:
        await session.write(NEW)
        await session.complete()
    finally:
        await session.aclose()


VERBS: dict[str, tuple[Callable[[World], Awaitable[None]], Allowed]] = {
    "put": (_put, {**SAME, "a": [OLD, NEW]}),
    "put_equal": (_put_equal, {**SAME, "n": [None, OLD]}),
    "stream": (_stream, {**SAME, "a": [OLD, NEW]}),
    "create": (_create, {**SAME, "n": [None, OLD]}),
    "copy": (_copy, {**SAME, "b": [OTHER, OLD]}),
    "onto_itself": (_onto_itself, SAME),
    "move": (_move, {**SAME, "a": [OLD, None], "b": [OTHER, OLD]}),
    "delete": (_delete, {**SAME, "a": [OLD, None]}),
    "delete_many": (_delete_many, {**SAME, "a": [OLD, None], "b": [OTHER, None]}),
    "upload": (_upload, {**SAME, "a": [OLD, NEW]}),
}


async def _filled(w: World) -> None:
    await w.store.put(BUCKET, "a", OLD)
    await w.store.put(BUCKET, "twin", OLD)
    await w.store.put(BUCKET, "b", OTHER)


async def _settled(w: World, allowed: Allowed) -> None:
    await w.check(allowed)
    await w.dedup.sweep(w.store, BUCKET, grace=0)
    assert await w.check(allowed) == 0


class _Hasty(MemoryDriver):
    """As a backend over a network: what was cancelled or has failed may still come true."""

    features = replace(MemoryDriver.features, decided=False)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("kind", "error", "after"),
    [
        pytest.param(MemoryDriver, UnavailableError, True, id="decided, answer lost"),
        pytest.param(None, UnavailableError, False, id="local, refused"),
        pytest.param(None, UnavailableError, True, id="local, answer lost"),
        pytest.param(_Hasty, UnavailableError, False, id="hasty, refused"),
        pytest.param(_Hasty, UnavailableError, True, id="hasty, answer lost"),
        pytest.param(_Hasty, PermissionDeniedError, False, id="hasty, forbidden"),
    ],
)
async def test_every_call_of_the_driver_may_fail(
    verb: str,
    kind: type[MemoryDriver] | None,
    error: type[TroveError],
    after: bool,
    tmp_path: Path,
) -> None:
    work, allowed = VERBS[verb]
    skip = 0
    while True:
        local = LocalConfig(tmp_path / str(skip), durability="none")
        driver = faulty(LocalDriver(local) if kind is None else kind(history=0))
        async with world(driver) as w:
            await _filled(w)
            driver.add(Fault(None, error, after=after, skip=skip))
            driver.calls.clear()
            with suppress(TroveError):
                await work(w)
            is_past = len(driver.calls) <= skip
            driver.faults.clear()
            await _settled(w, allowed)
        if is_past:
            assert skip > 1
            return
        skip += 1


@pytest.mark.parametrize("verb", VERBS)
async def test_a_cancel_at_every_await(verb: str) -> None:
    work, allowed = VERBS[verb]
    driver = faulty(MemoryDriver(history=0), yields=True)
    async with world(driver) as w:

        async def before() -> None:
            await w.store.delete_many(BUCKET, ["n"])
            await _filled(w)
            await w.dedup.sweep(w.store, BUCKET, grace=0)

        async def check(step: Step) -> None:
            await _settled(w, allowed)

        points = await cancel_everywhere(lambda: _coroutine(work, w), before=before, check=check)
        assert points > 3


async def _coroutine(work: Callable[[World], Awaitable[None]], w: World) -> None:
    await work(w)


async def test_failed_and_cancelled_puts_let_go_at_once_where_the_driver_is_decided() -> None:
    driver = faulty(MemoryDriver(history=0), yields=True)
    async with world(driver) as w:
        surplus: list[int] = []

        async def check(step: Step) -> None:
            surplus.append(await w.check({"n": [None, NEW]}))

        async def before() -> None:
            await w.store.delete(BUCKET, "n")
            await w.dedup.sweep(w.store, BUCKET, grace=0)

        await cancel_everywhere(lambda: w.store.put(BUCKET, "n", NEW), before=before, check=check)
        assert surplus and not any(surplus)


async def test_an_answer_that_was_lost_keeps_its_content() -> None:
    driver = faulty(MemoryDriver(history=0))
    async with world(driver) as w:
        driver.add(Fault("put", UnavailableError, after=True, key="n"))
        with pytest.raises(UnavailableError):
            await w.store.put(BUCKET, "n", NEW)
        assert await w.check({"n": [NEW]}) == 0


async def test_a_retry_after_a_lost_answer_leaves_nothing_over() -> None:
    driver = faulty(MemoryDriver(history=0))
    async with world(driver, retry=trove.RetryPolicy(base=0.001)) as w:
        driver.add(Fault("put", UnavailableError, after=True, key="n"))
        await w.store.put(BUCKET, "n", NEW, if_none_match="*")
        assert await w.check({"n": [NEW]}) == 0


class _Late(_Hasty):
    """Carries a put out some time after it has said that it failed."""

    def __init__(self) -> None:
        super().__init__(history=0)
        self.held: tuple[str, str, bytes, PutOptions] | None = None
        self.is_late = False

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        if not self.is_late or bucket != BUCKET:
            return await super().put(bucket, key, body, options)
        data = await collect(body)
        if options.late is not None:
            options = replace(options, metadata={**options.metadata, **options.late()}, late=None)
        self.held = bucket, key, data, options
        raise UnavailableError("no answer")

    async def arrive(self) -> None:
        assert self.held is not None
        bucket, key, data, options = self.held
        await super().put(bucket, key, OneChunk(data), options)


async def test_a_put_that_comes_true_after_it_failed_has_its_content() -> None:
    driver = _Late()
    async with world(driver) as w:
        driver.is_late = True
        with pytest.raises(UnavailableError):
            await w.store.put(BUCKET, "n", NEW)
        await w.cas.gc(grace=0, settle=0)
        await driver.arrive()
        assert await w.check({"n": [NEW]}) == 0
