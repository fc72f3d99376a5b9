"""A process killed before and after every call of backend and index, and inside every body: the
next process finds all that is referenced, and two runs of the collector leave no garbage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tests.cas.contents import DAY, HOUR, key_of, name_of, read, streamed
from tests.cas.mortal import World, counting
from trove_async import BlobNotFoundError, IntegrityError, Trove
from trove_async.cas import CAS

OTHER = b"other content, which stays"
SMALL = b"content"
LARGE = counting(7, 1000)

Prepare = Callable[[World, Trove, CAS], Awaitable[None]]
Action = Callable[[CAS], Awaitable[object]]


@dataclass(frozen=True)
class Story:
    prepare: Prepare
    action: Action
    doubtful: list[tuple[str, str]] = field(default_factory=list)
    """References that the action adds or drops: it may have, or not."""
    pinned: list[str] = field(default_factory=list)
    """Digests that stay for a pin."""
    healing: bool = False
    """Content is corrupt until it is stored again."""


async def nothing(world: World, store: Trove, cas: CAS) -> None:
    pass


async def present(world: World, store: Trove, cas: CAS) -> None:
    await world.put(cas, SMALL, "first")
    await world.put(cas, LARGE, "first")


async def released(world: World, store: Trove, cas: CAS) -> None:
    await present(world, store, cas)
    for data in (SMALL, LARGE):
        await cas.release(name_of(data), owner="first")
        world.refs.discard(("first", name_of(data)))


async def condemned(world: World, store: Trove, cas: CAS) -> None:
    await released(world, store, cas)
    await cas.gc(grace=0)
    assert (await cas.stat(name_of(SMALL))).state == "condemned"


async def deleting(world: World, store: Trove, cas: CAS) -> None:
    """A collector died between its second step and its third."""
    await condemned(world, store, cas)
    assert len((await world.index.doom(0, "", 10, dry=False)).blobs) == 2


async def gone(world: World, store: Trove, cas: CAS) -> None:
    await released(world, store, cas)
    assert (await cas.gc(grace=0, settle=0)).deleted == 2


async def corrupt(world: World, store: Trove, cas: CAS) -> None:
    await present(world, store, cas)
    for data in (SMALL, LARGE):
        await store.put("cas", key_of(data), b"rot" + data[3:])
    assert len((await cas.verify()).corrupt) == 2


async def unfinished(world: World, store: Trove, cas: CAS) -> None:
    """Uploads whose writers have died, with their bytes and without."""
    for number in range(3):
        key = f"cas/tmp/{number}"
        await world.index.begin(f"u{number}", key, 1_000_000)
        if number:
            await store.put("cas", key, b"half")
    await world.index.claim(name_of(b"reserved"), "dead", 1_000_000)
    await world.index.claim(name_of(b"promoted"), "dead", 1_000_000)
    await store.put("cas", key_of(b"promoted"), b"promoted")
    world.clock.pass_(2 * HOUR)


async def orphaned(world: World, store: Trove, cas: CAS) -> None:
    """What no row knows: other generations, temporary objects, and strangers."""
    await gone(world, store, cas)
    await store.put("cas", key_of(SMALL), SMALL)
    await world.put(cas, LARGE, "again")
    await store.put("cas", key_of(LARGE), LARGE)
    await store.put("cas", "cas/tmp/stray", b"stray")
    await store.put("cas", key_of(b"stranger", 3), b"stranger")
    assert (await cas.gc()).deleted == 0  # seen once
    world.clock.pass_(2 * DAY)


async def unknown(world: World, store: Trove, cas: CAS) -> None:
    for number in range(3):
        data = b"lost %d" % number
        world.contents[name_of(data)] = data
        await store.put("cas", key_of(data, number), data)


def storing(data: bytes) -> Action:
    return lambda cas: cas.store(data, owner="second")


def streaming(data: bytes) -> Action:
    return lambda cas: cas.store(streamed(data, 200), owner="second")


def dropping(data: bytes) -> Action:
    return lambda cas: cas.release(name_of(data), owner="first")


def collecting(*, grace: float = DAY, settle: float = HOUR) -> Action:
    return lambda cas: cas.gc(grace=grace, settle=settle)


SECOND = [("second", name_of(SMALL)), ("second", name_of(LARGE))]
FIRST = [("first", name_of(SMALL))]
LOST = [name_of(b"lost %d" % number) for number in range(3)]

STORIES = {
    f"{how.__name__}-{of.__name__}-{len(data)}": Story(of, how(data), SECOND, healing=of is corrupt)
    for of in (nothing, present, condemned, deleting, gone, corrupt)
    for how, data in ((storing, SMALL), (storing, LARGE), (streaming, LARGE))
} | {
    "release": Story(present, dropping(SMALL), FIRST),
    "pin": Story(present, lambda cas: cas.pin(name_of(SMALL))),
    "pin-condemned": Story(condemned, lambda cas: cas.pin(name_of(SMALL), ttl=10)),
    "mark": Story(released, collecting(grace=0)),
    "sweep": Story(condemned, collecting(settle=0)),
    "sweep-again": Story(deleting, collecting()),
    "mark-and-sweep": Story(released, collecting(grace=0, settle=0)),
    "uploads": Story(unfinished, collecting()),
    "orphans": Story(orphaned, collecting()),
    "rebuild": Story(unknown, lambda cas: cas.rebuild(), pinned=LOST),
    "verify": Story(present, lambda cas: cas.verify(repair=True)),
    "retrieve": Story(present, lambda cas: read(cas, name_of(LARGE))),
}


async def killed_at(world: World, story: Story, at: int, again: bool) -> bool:
    async with world.process() as (store, cas):
        await world.put(cas, OTHER, "stays")
        await story.prepare(world, store, cas)
    for data in (SMALL, LARGE):
        world.contents[name_of(data)] = data
    died = await world.killed(story.action, at)
    if again:
        assert not await world.killed(story.action, None)
    if story.healing:
        await healed(world)
    await world.check(story.doubtful)
    pins = [name_of(SMALL)] if story is STORIES["pin"] and await _pinned(world) else []
    if story.pinned:
        async with world.process() as (_, cas):
            await cas.rebuild()
    await world.check_no_garbage([*story.pinned, *pins])
    return died


async def healed(world: World) -> None:
    """What does not read is told, also after a crash while it was written anew."""
    async with world.process() as (_, cas):
        report = await cas.verify()
        told = {*report.corrupt, *report.missing}
        for data in (SMALL, LARGE):
            try:
                assert await read(cas, name_of(data)) == data
                assert name_of(data) not in told
            except IntegrityError:
                assert name_of(data) in told
            await cas.store(data, owner="second")


async def _pinned(world: World) -> bool:
    row = await world.index.find(name_of(SMALL))
    return row is not None and row.pinned


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


@pytest.fixture(autouse=True)
def small_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a thousand bytes go through a temporary object."""
    monkeypatch.setattr("trove_async.cas.writing.SMALL", 100)


@pytest.mark.parametrize("fresh", ["memory"], indirect=True)
@pytest.mark.parametrize("name", STORIES)
async def test_a_kill_at_some_steps_loses_nothing_and_leaves_nothing(
    fresh: Callable[[], Awaitable[World]], name: str
) -> None:
    assert await swept(fresh, name, stride=4, offset=len(name) % 2) > 1


@pytest.mark.slow
@pytest.mark.parametrize("fresh", ["memory"], indirect=True)
@pytest.mark.parametrize("name", STORIES)
async def test_a_kill_at_every_step_loses_nothing_and_leaves_nothing(
    fresh: Callable[[], Awaitable[World]], name: str
) -> None:
    kills = await swept(fresh, name)
    assert kills > 3
    print(f"\n{name}: {kills} kills")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fresh", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("name", STORIES)
async def test_a_kill_at_every_third_step_with_a_database(
    fresh: Callable[[], Awaitable[World]], name: str
) -> None:
    print(f"\n{name}: {await swept(fresh, name, stride=3)} kills")


async def test_content_that_a_dead_writer_only_promoted_is_not_there_yet(
    fresh: Callable[[], Awaitable[World]],
) -> None:
    world = await fresh()
    index = world.index
    async with world.process() as (store, cas):
        await world.put(cas, OTHER, "stays")
        await index.claim(name_of(SMALL), "dead", 1_000_000)
        await store.put("cas", key_of(SMALL), SMALL)
        assert not await cas.exists(name_of(SMALL))
        with pytest.raises(BlobNotFoundError):
            await read(cas, name_of(SMALL))
        await world.put(cas, SMALL, "second")
    await world.check()
    await world.check_no_garbage()


@pytest.mark.parametrize("fresh", ["memory"], indirect=True)
@pytest.mark.parametrize(
    "name", [f"{how}-corrupt-{n}" for how, n in (("storing", 7), ("streaming", 1000))]
)
async def test_content_that_one_reading_took_for_corrupt_outlives_a_writer_that_died(
    fresh: Callable[[], Awaitable[World]], name: str
) -> None:
    """The store of content that is marked corrupt takes the next generation: until its bytes
    are there, those of the former one are neither unread nor collected."""
    at, died = 1, True
    while died:
        world = await fresh()
        async with world.process() as (store, cas):
            await present(world, store, cas)
            for data in (SMALL, LARGE):
                await world.index.damage(name_of(data), 0, True)
        died = await world.killed(STORIES[name].action, at)
        await world.check(SECOND)
        async with world.process() as (_, cas):
            for _ in range(3):
                world.clock.pass_(2 * DAY)
                assert (await cas.gc()).errors == []
        await world.check()
        async with world.process() as (_, cas):
            for data in (SMALL, LARGE):
                await cas.store(data, owner="first")
        await world.check()
        await world.check_no_garbage()
        at += 1
    assert at > 4
