"""A backend and an index that die at a chosen step, and what must hold after the restart."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

import trove_async as trove
from tests.cas.contents import DAY, name_of, read
from tests.catalog.conftest import Clock
from tests.uploads.ledger import Crash, Steps
from trove_async import Chunks, ObjectInfo, PutOptions, Trove
from trove_async.cas import CAS
from trove_async.cas.chunking import Cutter
from trove_async.cas.index import BlobIndex
from trove_async.catalog import Catalog
from trove_async.drivers.memory import MemoryDriver

__all__ = ["Crash", "MortalDriver", "MortalIndex", "Steps", "World", "counting", "cut"]

_VERBS = ("get", "head", "delete", "delete_many", "list", "copy", "move", "create_bucket")


class MortalDriver(MemoryDriver):
    """May die before and after each call, and before each chunk of a body."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps
        self.keys: set[str] = set()
        """All that there ever were."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        self.steps.tick()
        self.keys.add(key)

        async def watched() -> AsyncIterator[bytes]:
            async for chunk in body:
                self.steps.tick()
                yield bytes(chunk)

        chunks: Any = watched()
        try:
            info = await super().put(bucket, key, chunks, options)
        finally:
            await chunks.aclose()
        self.steps.tick()
        return info


def _stepped(name: str) -> Callable[..., Any]:
    async def method(self: MortalDriver, *args: Any) -> Any:
        self.steps.tick()
        found = await getattr(super(MortalDriver, self), name)(*args)
        self.steps.tick()
        return found

    return method


for _name in _VERBS:
    setattr(MortalDriver, _name, _stepped(_name))


class MortalIndex:
    """``inner``, which may die before and after each call."""

    def __init__(self, inner: BlobIndex, steps: Steps) -> None:
        self.inner = inner
        self.steps = steps

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)
        assert inspect.iscoroutinefunction(call), name

        async def stepped(*args: Any, **options: Any) -> Any:
            self.steps.tick()
            found = await call(*args, **options)
            self.steps.tick()
            return found

        return stepped


class _MortalCatalog:
    def __init__(self, inner: Catalog, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def blobs(self, space: str) -> MortalIndex:
        return MortalIndex(cast(Any, self._inner).blobs(space), self._steps)


Action = Callable[[CAS], Awaitable[object]]


class World:
    """One backend and one index, on which processes come and die."""

    def __init__(
        self, catalog: Catalog, clock: Clock, chunking: Literal["fastcdc"] | None = None
    ) -> None:
        self.chunking: Literal["fastcdc"] | None = chunking
        self.steps = Steps()
        self.driver = MortalDriver(self.steps)
        self.catalog = catalog
        self.clock = clock
        self.contents: dict[str, bytes] = {}
        """By digest: all that was ever stored."""
        self.refs: set[tuple[str, str]] = set()
        """(owner, digest) of references that were told to be there."""

    @asynccontextmanager
    async def process(self) -> AsyncIterator[tuple[Trove, CAS]]:
        """A new one, which may end as by a kill."""
        catalog: Any = _MortalCatalog(self.catalog, self.steps)
        async with trove.open(self.driver, catalog=catalog, chunk_size=64) as store:
            yield store, store.cas(chunking=self.chunking)

    @property
    def index(self) -> BlobIndex:
        return cast(BlobIndex, cast(Any, self.catalog).blobs("cas"))

    async def put(self, cas: CAS, data: bytes, owner: str) -> str:
        digest = (await cas.store(data, owner=owner)).digest
        self.contents[digest] = data
        self.refs.add((owner, digest))
        return digest

    async def killed(self, action: Action, at: int | None) -> bool:
        """Whether it died before it ended."""
        self.steps.arm(None)
        try:
            async with self.process() as (_, cas):
                self.steps.arm(at)
                await action(cas)
        except Crash:
            return True
        except BaseExceptionGroup as group:
            assert group.subgroup(Crash) is not None, group
            return True
        finally:
            self.steps.at, self.steps.dead = None, False
        return False

    async def check(self, doubtful: Iterable[tuple[str, str]] = ()) -> None:
        """What has a reference reads whole and verified; the counts are right."""
        doubt = set(doubtful)
        async with self.process() as (_, cas):
            every = {pair async for pair in cas.owners("")}
            told = {pair for pair in every if not pair[0].startswith("manifest:")}
            assert told - doubt == self.refs - doubt, "references are as they were told"
            for _, digest in told:
                assert await read(cas, digest) == self.contents[digest]
            counts = {info.digest: info.references async for info in cas.list()}
            for digest, count in counts.items():
                assert count == sum(d == digest for _, d in every)
            report = await cas.verify(repair=True)
            assert (report.corrupt, report.missing, report.recounted) == ([], [], 0)
            self.refs = told

    async def check_no_garbage(self, pinned: Iterable[str] = ()) -> None:
        """After two runs only what is wanted is left; tombstones go after thirty days."""
        wanted = {digest for _, digest in self.refs} | set(pinned)
        async with self.process() as (store, cas):
            # The chunks of content begin their own grace when it is deleted.
            for _ in range(2 if self.chunking is None else 4):
                self.clock.pass_(DAY + 3700)
                result = await cas.gc()
                assert result.errors == []
            chunked = [info.digest async for info in cas.list() if info.chunked]
            held = {pair async for pair in cas.owners("manifest:")}
            assert len({owner for owner, _ in held}) == len(chunked)
            assert {digest for _, digest in held} == {
                name for digest in chunked for name, _ in cut(self.contents[digest])
            }
            wanted |= {digest for _, digest in held}
            left = [entry async for entry in store.list("cas")] if await _any(store) else []
            names = [cast(ObjectInfo, entry).key for entry in left]
            digests = sorted(f"sha256:{name.split('/')[-1].split('~')[0]}" for name in names)
            assert digests == sorted(wanted), names
            assert [info.digest async for info in cas.list()] == sorted(wanted)
            assert (await self.index.count())[0] == len(wanted)
            self.clock.pass_(2 * DAY)
            assert await self.index.expired(100) == []
            self.clock.pass_(31 * DAY)
            await cas.gc()
            now = await self.index.now()  # of keys that the last run deleted, this one is told
            assert await self.index.orphans(sorted(self.driver.keys), 0, now, dry=True) == []
            assert await self.index.count() == (len(wanted), len(wanted))
        await self.check()


async def _any(store: Trove) -> bool:
    return any(bucket.name == "cas" for bucket in await store.list_buckets())


def cut(data: bytes) -> list[tuple[str, bytes]]:
    """(digest, bytes) of the chunks of content."""
    return Cutter("sha256").feed(data, is_last=True)


def counting(start: int, size: int) -> bytes:
    """Content unlike that of any other ``start``."""
    data = b"".join(number.to_bytes(4, "big") for number in range(start, start + size // 4 + 1))
    assert name_of(data)
    return data[:size]
