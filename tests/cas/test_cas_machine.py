"""Content-addressed storage against a dict: random histories with crashes and a clock."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.cas.contents import DAY, HOUR, cut_tiny, name_of, read, streamed
from tests.cas.mortal import World, counting, cut
from tests.catalog.conftest import Clock, new_database
from trove_async import BlobNotFoundError, CasInvariantError
from trove_async.catalog import Catalog, MemoryCatalog, open_catalog

R = TypeVar("R")
SOME = random.Random(6).randbytes(1000)
CONTENTS = [b"", b"a", b"b", counting(1, 300), counting(2, 700), SOME, SOME[:600] + b"else" * 50]
contents = st.sampled_from(CONTENTS)
owners = st.sampled_from(["x", "y", None])
steps = st.integers(1, 40)


class Blobs(RuleBasedStateMachine):
    chunking: Literal["fastcdc"] | None = None
    total = 0
    kills = 0

    def make_catalog(self, clock: Clock) -> Catalog:
        return MemoryCatalog(clock=clock)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.catalog = self.make_catalog(self.clock)
        self.run(self.catalog.open())
        self.world = World(self.catalog, self.clock, self.chunking)
        self.world.contents = {name_of(data): data for data in CONTENTS}
        self.owned: set[tuple[str, str]] = set()
        self.anonymous: Counter[str] = Counter()
        self.pins: list[tuple[str, str, float | None]] = []
        """Id, digest, and the time at which it ends."""

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        type(self).total += 1
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        try:
            self.run(self.finish())
        finally:
            self.run(self.catalog.close())
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()

    # -- what is wanted ----------------------------------------------------------------------

    def now(self) -> float:
        return self.clock.now.timestamp()

    def references(self, digest: str) -> int:
        return sum(d == digest for _, d in self.owned) + self.anonymous[digest]

    def wanted(self) -> set[str]:
        pinned = {d for _, d, until in self.pins if until is None or until > self.now()}
        return {d for d in self.world.contents if self.references(d)} | pinned

    @invariant()
    def what_is_wanted_reads(self) -> None:
        self.run(self.check())

    async def check(self) -> None:
        async with self.world.process() as (_, cas):
            for digest in self.wanted():
                assert await read(cas, digest) == self.world.contents[digest]
                assert (await cas.stat(digest)).references == self.references(digest)

    async def finish(self) -> None:
        async with self.world.process() as (store, cas):
            for pin, _, _ in self.pins:
                await cas.unpin(pin)
            self.pins.clear()
            # The chunks of content begin their own grace when it is deleted.
            for _ in range(2 if self.chunking is None else 4):
                self.clock.pass_(DAY + 2 * HOUR)
                assert (await cas.gc()).errors == []
            chunked = [info.digest async for info in cas.list() if info.chunked]
            chunks = {name for d in chunked for name, _ in cut(self.world.contents[d])}
            left = sorted(self.wanted() | chunks)
            assert set(chunked) <= self.wanted()
            assert [info.digest async for info in cas.list()] == left
            if any(bucket.name == "cas" for bucket in await store.list_buckets()):
                keys = [entry async for entry in store.list("cas")]
                assert len(keys) == len(left)
            report = await cas.verify(repair=True)
            assert (report.corrupt, report.missing, report.recounted) == ([], [], 0)

    # -- what is done ------------------------------------------------------------------------

    @rule(data=contents, owner=owners, is_stream=st.booleans())
    def store(self, data: bytes, owner: str | None, is_stream: bool) -> None:
        async def work() -> None:
            async with self.world.process() as (_, cas):
                body = streamed(data, 100) if is_stream else data
                stored = await cas.store(body, owner=owner)
                assert stored.digest == name_of(data)
                if stored.digest in self.wanted():
                    assert stored.deduplicated

        self.run(work())
        if owner is None:
            self.anonymous[name_of(data)] += 1
        else:
            self.owned.add((owner, name_of(data)))

    @rule(data=contents, owner=owners)
    def release(self, data: bytes, owner: str | None) -> None:
        digest = name_of(data)

        async def work() -> None:
            async with self.world.process() as (_, cas):
                await cas.release(digest, owner=owner)

        if owner is not None:
            self.run(work())
            self.owned.discard((owner, digest))
        elif self.anonymous[digest]:
            self.run(work())
            self.anonymous[digest] -= 1
        else:
            with pytest.raises((CasInvariantError, BlobNotFoundError)):
                self.run(work())

    @rule(data=contents, hours=st.sampled_from([1, 30, None]))
    def pin(self, data: bytes, hours: float | None) -> None:
        digest = name_of(data)
        ttl = None if hours is None else hours * HOUR

        async def work() -> str:
            async with self.world.process() as (_, cas):
                return await cas.pin(digest, ttl=ttl)

        try:
            made = self.run(work())
        except BlobNotFoundError:
            assert digest not in self.wanted()
        else:
            self.pins.append((made, digest, None if ttl is None else self.now() + ttl))

    @rule(number=st.integers(0, 5))
    def unpin(self, number: int) -> None:
        async def work(pin: str) -> int:
            async with self.world.process() as (_, cas):
                return await cas.unpin(pin)

        if self.pins:
            pin, _, until = self.pins.pop(number % len(self.pins))
            assert self.run(work(pin)) == (until is None or until > self.now())

    @rule(hours=st.sampled_from([1, 25, 31 * 24]))
    def wait(self, hours: float) -> None:
        self.clock.pass_(hours * HOUR)

    @rule(dry=st.booleans(), at_once=st.booleans())
    def gc(self, dry: bool, at_once: bool) -> None:
        async def work() -> None:
            async with self.world.process() as (_, cas):
                if at_once:
                    result = await cas.gc(grace=0, settle=0, dry_run=dry)
                else:
                    result = await cas.gc(dry_run=dry)
                assert result.errors == []

        self.run(work())

    @rule(data=contents, at=steps, is_stream=st.booleans())
    def crash_in_store(self, data: bytes, at: int, is_stream: bool) -> None:
        self.crash(lambda cas: cas.store(streamed(data, 100) if is_stream else data, owner="x"), at)
        self.store(data, "x", is_stream)  # told nothing, it asks again

    @rule(data=contents, at=steps)
    def crash_in_release(self, data: bytes, at: int) -> None:
        self.crash(lambda cas: cas.release(name_of(data), owner="y"), at)
        self.release(data, "y")

    @rule(at=steps, at_once=st.booleans())
    def crash_in_gc(self, at: int, at_once: bool) -> None:
        self.crash(lambda cas: cas.gc(grace=0, settle=0) if at_once else cas.gc(), at)

    @rule(data=contents, at=steps)
    def crash_in_a_store_that_is_given_up(self, data: bytes, at: int) -> None:
        owner = "gone"
        self.crash(lambda cas: cas.store(data, owner=owner), at)

        async def work() -> None:
            async with self.world.process() as (_, cas):
                await cas.release(name_of(data), owner=owner)

        self.run(work())

    def crash(self, action: Any, at: int) -> None:
        type(self).kills += self.run(self.world.killed(action, at))

    @rule()
    def rebuild(self) -> None:
        async def work() -> None:
            async with self.world.process() as (_, cas):
                report = await cas.rebuild()
                for digest in report.recovered:
                    known = self.world.contents.get(digest)  # else a chunk
                    assert await read(cas, digest) == known or known is None
                    await cas.unpin(f"sha256:{digest.partition(':')[2]}")
                self.pins = [pin for pin in self.pins if pin[1] not in report.recovered]

        self.run(work())

    @rule()
    def verify(self) -> None:
        async def work() -> None:
            async with self.world.process() as (_, cas):
                report = await cas.verify(repair=True)
                assert (report.corrupt, report.missing, report.recounted) == ([], [], 0)

        self.run(work())


class InChunks(Blobs):
    """Some are stored in chunks, some are not, and some are both in turn."""

    chunking = "fastcdc"

    @rule(data=contents, owner=owners, is_stream=st.booleans())
    def store_whole(self, data: bytes, owner: str | None, is_stream: bool) -> None:
        self.world.chunking = None
        try:
            self.store(data, owner, is_stream)
        finally:
            self.world.chunking = "fastcdc"


@pytest.fixture(autouse=True)
def small_is_less(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("trove_async.cas.writing.SMALL", 100)
    yield


def ran(machine: type[Blobs], examples: int, length: int) -> None:
    machine.total = machine.kills = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=length,
            deadline=None,
            database=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
    print(f"\n{machine.__name__}: {machine.total} operations, {machine.kills} kills")


def test_histories_of_content_are_those_of_a_dict() -> None:
    ran(Blobs, 12, 25)


def test_histories_of_content_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_tiny(monkeypatch)
    ran(InChunks, 12, 25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_histories_in_memory() -> None:
    ran(Blobs, 600, 50)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_histories_in_chunks_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_tiny(monkeypatch)
    ran(InChunks, 400, 50)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_histories_in_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(1_000_000))

        class OnSQLite(Blobs):
            def make_catalog(self, clock: Clock) -> Catalog:
                return open_catalog(f"sqlite:///{Path(folder)}/{next(numbers)}.sqlite", clock=clock)

        ran(OnSQLite, 200, 50)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_histories_in_postgresql(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres")

    class OnPostgreSQL(Blobs):
        def make_catalog(self, clock: Clock) -> Catalog:
            return open_catalog(self.loop.run_until_complete(new_database(server)), clock=clock)

    ran(OnPostgreSQL, 200, 50)
