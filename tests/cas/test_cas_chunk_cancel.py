"""A store in chunks that is cancelled at any call of its index, by whoever waits for it: what
was committed stays whole, and what was not leaves nothing that is referred to."""

from __future__ import annotations

import asyncio
import inspect
import random
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.cas.contents import blob_keys, cut_tiny, name_of, read, streamed
from trove_async import ConflictError, Trove
from trove_async.cas import CAS
from trove_async.catalog import Catalog, MemoryCatalog, open_catalog
from trove_async.drivers.memory import MemoryDriver

DATA = random.Random(4).randbytes(2600)


class Patient:
    """Counts the calls of the index; at one of them the task that waits for all is cancelled."""

    def __init__(self) -> None:
        self.at = self.count = 0
        self.victim: asyncio.Task[Any] | None = None

    async def tick(self) -> None:
        self.count += 1
        if self.count == self.at and self.victim is not None:
            self.victim.cancel()
            await asyncio.sleep(0)


class PatientIndex:
    def __init__(self, inner: Any, patient: Patient) -> None:
        self.inner = inner
        self.patient = patient

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)
        assert inspect.iscoroutinefunction(call), name

        async def ticking(*args: Any, **options: Any) -> Any:
            await self.patient.tick()
            found = await call(*args, **options)
            await self.patient.tick()
            return found

        return ticking


class PatientCatalog:
    def __init__(self, inner: Any, patient: Patient) -> None:
        self.inner = inner
        self.patient = patient

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def blobs(self, space: str) -> PatientIndex:
        return PatientIndex(self.inner.blobs(space), self.patient)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_tiny(monkeypatch)


async def consistent(store: Trove, cas: CAS) -> bool:
    """Whether the content is there; all that is said of it is true."""
    pairs = [pair async for pair in cas.owners("")]
    chunked = [info async for info in cas.list() if info.chunked]
    assert len({owner for owner, _ in pairs if owner.startswith("manifest:")}) == len(chunked)
    if ("a", name_of(DATA)) in pairs:
        assert await read(cas, name_of(DATA)) == DATA
        await cas.gc(grace=0, settle=0)
        assert await read(cas, name_of(DATA)) == DATA
    report = await cas.verify(repair=True)
    assert (report.corrupt, report.missing, report.recounted) == ([], [], 0)
    await cas.release(name_of(DATA), owner="a")
    await cas.gc(grace=0, settle=0)
    assert [info async for info in cas.list()] == []
    assert [pair async for pair in cas.owners("")] == []
    return bool(chunked)


async def cancelled_at(catalog: Catalog, at: int, *, is_stream: bool) -> tuple[bool, bool]:
    """Whether it was cancelled, and whether it had been stored by then."""
    patient = Patient()
    watched: Any = PatientCatalog(catalog, patient)
    async with trove.open(MemoryDriver(), catalog=watched) as store:
        cas = store.cas(chunking="fastcdc")
        body = streamed(DATA, 700) if is_stream else DATA
        task = asyncio.create_task(cas.store(body, owner="a"))
        patient.at, patient.victim = at, task
        try:
            await task
        except asyncio.CancelledError:
            return True, await consistent(store, cas)
        return False, await consistent(store, cas)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_cancel_at_any_call_leaves_all_or_nothing(
    kind: str, is_stream: bool, tmp_path: Path
) -> None:
    catalog: Catalog = MemoryCatalog()
    if kind == "sqlite":
        catalog = open_catalog(f"sqlite:///{tmp_path}/c.sqlite")
    await catalog.open()
    at, outcomes = 1, set()
    while (outcome := await cancelled_at(catalog, at, is_stream=is_stream))[0]:
        outcomes.add(outcome[1])
        at += 1 if kind == "memory" else 9
    await catalog.close()
    assert outcome == (False, True) and at > 20
    assert kind != "memory" or outcomes == {False, True}, "also when the commit was under way"


async def test_a_writer_whose_chunks_were_collected_is_told_and_leaves_nothing(
    timed: Trove, clock: Any
) -> None:
    """Its lease has ended: it was stopped for longer than a day."""
    cas = timed.cas(chunking="fastcdc")

    async def slow() -> Any:
        for number, chunk in enumerate([DATA[:2000], DATA[2000:]]):
            if number:
                clock.pass_(25 * 3600)
                await timed.cas().gc(grace=0, settle=0)
                assert [pair async for pair in cas.owners("manifest:")] == []
            yield chunk

    with pytest.raises(ConflictError, match="store it again"):
        await cas.store(slow(), owner="a")
    assert [pair async for pair in cas.owners("")] == []
    assert (await cas.verify(repair=True)).recounted == 0
    clock.pass_(3 * 24 * 3600)
    for _ in range(3):
        await cas.gc(grace=0, settle=0, orphan_after=0)
    assert [info async for info in cas.list()] == [] and await blob_keys(timed) == []


async def test_a_writer_whose_chunks_were_collected_finds_the_content_there(
    timed: Trove, clock: Any
) -> None:
    """Of the chunks that it stored since then nobody else knows."""
    cas = timed.cas(chunking="fastcdc")

    async def slow() -> Any:
        yield DATA[:2000]
        clock.pass_(25 * 3600)
        await timed.cas().gc(grace=0, settle=0)
        await timed.cas().store(DATA, owner="b")
        yield DATA[2000:]

    assert (await cas.store(slow(), owner="a")).deduplicated
    assert {pair async for pair in cas.owners("")} == {("a", name_of(DATA)), ("b", name_of(DATA))}
    assert (await cas.verify(repair=True)).recounted == 0
