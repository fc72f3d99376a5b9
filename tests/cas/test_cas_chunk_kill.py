"""A process killed while it stores, collects or rebuilds content in chunks: what is referenced
reads, and the collector leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tests.cas.contents import DAY, HOUR, blob_keys, cut_tiny, key_of, name_of, read, streamed
from tests.cas.mortal import World, cut
from trove_async import IntegrityError, Trove
from trove_async.cas import CAS

DATA = random.Random(4).randbytes(2600)
KIN = DATA[:1500] + random.Random(5).randbytes(700)
"""Shares chunks with it."""
NAME = name_of(DATA)
CHUNKING = "fastcdc"

Prepare = Callable[[World, Trove, CAS], Awaitable[None]]
Action = Callable[[CAS], Awaitable[object]]


@dataclass(frozen=True)
class Story:
    prepare: Prepare
    action: Action
    doubtful: list[tuple[str, str]] = field(default_factory=list)
    pinned: bool = False
    """Rebuilding pins what it finds."""
    healing: bool = False


async def nothing(world: World, store: Trove, cas: CAS) -> None:
    pass


async def kin(world: World, store: Trove, cas: CAS) -> None:
    await world.put(cas, KIN, "kin")


async def present(world: World, store: Trove, cas: CAS) -> None:
    await kin(world, store, cas)
    await world.put(cas, DATA, "first")


async def plain(world: World, store: Trove, cas: CAS) -> None:
    await world.put(store.cas(), DATA, "first")


async def released(world: World, store: Trove, cas: CAS) -> None:
    await present(world, store, cas)
    await cas.release(NAME, owner="first")
    world.refs.discard(("first", NAME))


async def condemned(world: World, store: Trove, cas: CAS) -> None:
    await released(world, store, cas)
    await cas.gc(grace=0)


async def deleting(world: World, store: Trove, cas: CAS) -> None:
    await condemned(world, store, cas)
    assert len((await world.index.doom(0, "", 10, dry=False)).blobs) == 1


async def gone(world: World, store: Trove, cas: CAS) -> None:
    await released(world, store, cas)
    assert (await cas.gc(grace=0, settle=0)).deleted > 3


async def rotten_chunk(world: World, store: Trove, cas: CAS) -> None:
    await present(world, store, cas)
    last = cut(DATA)[-1][1]
    assert last not in [data for _, data in cut(KIN)]
    await store.put("cas", key_of(last), b"rot" + last[3:])
    assert len((await cas.verify()).corrupt) == 2


async def rotten_manifest(world: World, store: Trove, cas: CAS) -> None:
    await present(world, store, cas)
    await store.put("cas", f"{key_of(DATA)}.chunks", b"rot")
    assert (await cas.verify()).corrupt == [NAME]


async def unfinished(world: World, store: Trove, cas: CAS) -> None:
    """A writer of each kind died when its object had its name."""
    await kin(world, store, cas)
    await world.index.begin("dead", "", 1_000_000)
    for digest, data in cut(KIN):
        assert (await world.index.claim(digest, "manifest:dead", 1_000_000)).is_shared, data
    await world.index.claim(NAME, "dead", 1_000_000)
    await store.put("cas", key_of(DATA), DATA)
    await store.put("cas", f"{key_of(DATA)}.chunks", b"{}")
    world.clock.pass_(2 * HOUR)


async def unknown(world: World, store: Trove, cas: CAS) -> None:
    """As after the loss of the index, of what there is in storage."""
    other = store.cas("other", chunking="fastcdc")
    for data in (DATA, KIN):
        world.contents[name_of(data)] = data
        await other.store(data)
    await store.create_bucket("cas")
    for key in await blob_keys(store, "other"):
        await store.copy("other", key, "cas", key)
    await store.delete_bucket("other", force=True)


def storing(cas: CAS) -> Awaitable[object]:
    return cas.store(DATA, owner="second")


def streaming(cas: CAS) -> Awaitable[object]:
    return cas.store(streamed(DATA, 700), owner="second")


def collecting(*, grace: float = DAY, settle: float = HOUR) -> Action:
    return lambda cas: cas.gc(grace=grace, settle=settle)


SECOND = [("second", NAME)]
STATES = (nothing, kin, present, plain, condemned, deleting, gone, rotten_chunk, rotten_manifest)
STORIES = {
    f"{how.__name__}-{of.__name__}": Story(of, how, SECOND, healing=of.__name__.startswith("rot"))
    for of in STATES
    for how in (storing, streaming)
} | {
    "release": Story(present, lambda cas: cas.release(NAME, owner="first"), [("first", NAME)]),
    "mark": Story(released, collecting(grace=0)),
    "sweep": Story(condemned, collecting(settle=0)),
    "sweep-again": Story(deleting, collecting()),
    "mark-and-sweep": Story(released, collecting(grace=0, settle=0)),
    "uploads": Story(unfinished, collecting()),
    "rebuild": Story(unknown, lambda cas: cas.rebuild(), pinned=True),
    "retrieve": Story(present, lambda cas: read(cas, NAME)),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_tiny(monkeypatch)


async def killed_at(world: World, story: Story, at: int, again: bool) -> bool:
    async with world.process() as (store, cas):
        await story.prepare(world, store, cas)
    world.contents[NAME] = DATA
    died = await world.killed(story.action, at)
    if again:
        assert not await world.killed(story.action, None)
    if story.healing:
        await healed(world)
    await world.check(story.doubtful)
    pinned: list[str] = []
    if story.pinned:
        async with world.process() as (_, cas):
            await cas.rebuild()
            pinned = [NAME, name_of(KIN)]
            for digest in pinned:
                assert await read(cas, digest) == world.contents[digest]
            for digest, _ in [*cut(DATA), *cut(KIN)]:  # held by what they are part of
                await cas.unpin(digest)
    await world.check_no_garbage(pinned)
    return died


async def healed(world: World) -> None:
    """What does not read is told, also after a crash while it was written anew."""
    async with world.process() as (_, cas):
        report = await cas.verify()
        try:
            assert await read(cas, NAME) == DATA
        except IntegrityError:
            assert NAME in report.corrupt
        await cas.store(DATA, owner="second")
        assert await read(cas, NAME) == DATA


async def swept(
    fresh: Callable[[], Awaitable[World]], name: str, *, stride: int = 1, offset: int = 0
) -> int:
    kills = 0
    for again in (False, True):
        at = 1 + offset
        while await killed_at(await fresh(), STORIES[name], at, again):
            kills += 1
            at += stride
    return kills


@pytest.mark.parametrize("fresh", ["memory"], indirect=True)
@pytest.mark.parametrize("name", STORIES)
async def test_a_kill_while_chunks_are_stored_or_collected_loses_and_leaves_nothing(
    fresh: Callable[[], Awaitable[World]], name: str
) -> None:
    assert await swept(fresh, name, stride=9, offset=len(name) % 3) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fresh", ["memory"], indirect=True)
@pytest.mark.parametrize("name", STORIES)
async def test_a_kill_at_every_step_of_chunks_loses_and_leaves_nothing(
    fresh: Callable[[], Awaitable[World]], name: str
) -> None:
    kills = await swept(fresh, name)
    assert kills > 3
    print(f"\n{name}: {kills} kills")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fresh", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("name", STORIES)
async def test_a_kill_at_some_steps_of_chunks_with_a_database(
    fresh: Callable[[], Awaitable[World]], name: str
) -> None:
    kills = await swept(fresh, name, stride=17, offset=len(name) % 7)
    print(f"\n{name}: {kills} kills")
