"""What a catalog remembers of upload sessions, in memory, SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.catalog.conftest import Clock
from trove_async.catalog import Catalog
from trove_async.errors import ConflictError, UploadNotFoundError
from trove_async.stream.session import Message, PartRecord, Plan, SessionRecord

MESSAGE = Message("up1", ("zstd", "aws-esdk"), {"f": "65536"}, 8 << 20, "t0k", b"\x02\x04")


def alive(owner: str) -> bool:
    return False


def dead(owner: str) -> bool:
    return True


def record(clock: Clock, id: str = "upl_1", **plan: object) -> SessionRecord:
    full = Plan("default", "bucket", "a/ü", "text/x", {"n": "ü"}, {"t": "1"}, size=1 << 40)
    return SessionRecord(
        id,
        replace(full, **plan),  # type: ignore[arg-type]
        clock(),
        clock() + timedelta(days=2),
    )


async def test_what_was_created_is_given_back_whole(catalog: Catalog, clock: Clock) -> None:
    made = record(clock, checksum="sha256:00", part_size=5, fingerprint="f")
    await catalog.create(made)
    assert await catalog.get("upl_1") == made
    assert await catalog.get("upl_2") is None


async def test_only_one_works_on_it_until_the_lease_ends(catalog: Catalog, clock: Clock) -> None:
    await catalog.create(record(clock))
    first = await catalog.claim("upl_1", "a", 60, alive)
    assert first is not None and first.owner == "a"
    assert await catalog.claim("upl_1", "b", 60, alive) is None
    clock.pass_(59)
    await catalog.renew("upl_1", "a", 60)
    clock.pass_(59)
    assert await catalog.claim("upl_1", "b", 60, alive) is None
    clock.pass_(2)
    assert await catalog.claim("upl_1", "b", 60, alive) is not None
    for late in (
        catalog.renew("upl_1", "a", 60),
        catalog.begin("upl_1", "a", MESSAGE),
        catalog.keep_part("upl_1", "a", PartRecord(1, "d", 1)),
        catalog.delete("upl_1", "a"),
    ):
        with pytest.raises(ConflictError):
            await late
    found = await catalog.get("upl_1")
    assert found is not None and found.message is None and not found.parts


async def test_a_dead_owner_loses_it_at_once(catalog: Catalog, clock: Clock) -> None:
    await catalog.create(record(clock))
    await catalog.claim("upl_1", "a", 60, alive)
    assert await catalog.claim("upl_1", "b", 60, dead) is not None


async def test_what_is_released_is_free(catalog: Catalog, clock: Clock) -> None:
    await catalog.create(record(clock))
    await catalog.claim("upl_1", "a", 60, alive)
    await catalog.release("upl_1", "stranger")
    assert await catalog.claim("upl_1", "b", 60, alive) is None
    await catalog.release("upl_1", "a")
    assert await catalog.claim("upl_1", "b", 60, alive) is not None


async def test_parts_are_kept_and_forgotten_with_their_message(
    catalog: Catalog, clock: Clock
) -> None:
    await catalog.create(record(clock))
    await catalog.claim("upl_1", "a", 60, alive)
    await catalog.begin("upl_1", "a", MESSAGE)
    second = PartRecord(2, "blake3:x", 1 << 35)
    first = PartRecord(1, "blake3:y", 7, "etag", 9, 1 << 35, "blake3:z")
    await catalog.keep_part("upl_1", "a", second)
    await catalog.keep_part("upl_1", "a", replace(first, etag=None))
    await catalog.keep_part("upl_1", "a", first)
    found = await catalog.get("upl_1")
    assert found is not None
    assert (found.message, found.generation) == (MESSAGE, 1)
    assert [*found.parts] == [first, second]
    await catalog.begin("upl_1", "a", replace(MESSAGE, header=None))
    found = await catalog.get("upl_1")
    assert found is not None and (found.generation, [*found.parts]) == (2, [])


async def test_a_source_finds_its_newest_session(catalog: Catalog, clock: Clock) -> None:
    for id, fingerprint in (("upl_1", "f"), ("upl_2", "f"), ("upl_3", "g")):
        await catalog.create(record(clock, id, fingerprint=fingerprint))
    found = await catalog.find("default", "bucket", "a/ü", "f")
    assert found is not None and found.id == "upl_2"
    assert await catalog.find("default", "bucket", "other", "f") is None
    assert await catalog.find("other", "bucket", "a/ü", "f") is None
    clock.pass_(3 * 24 * 3600)
    assert await catalog.find("default", "bucket", "a/ü", "f") is None
    assert [r.id for r in await catalog.expired(2)] == ["upl_1", "upl_2"]


async def test_sessions_are_listed_by_id_in_pages(catalog: Catalog, clock: Clock) -> None:
    for number in range(5):
        await catalog.create(record(clock, f"upl_{number}", bucket=f"b{number % 2}"))
    assert [r.id for r in await catalog.list(None, None, 3)] == ["upl_0", "upl_1", "upl_2"]
    assert [r.id for r in await catalog.list(None, "upl_2", 3)] == ["upl_3", "upl_4"]
    assert [r.id for r in await catalog.list("b1", None, 3)] == ["upl_1", "upl_3"]


async def test_what_is_deleted_is_gone_with_its_parts(catalog: Catalog, clock: Clock) -> None:
    await catalog.create(record(clock))
    await catalog.claim("upl_1", "a", 60, alive)
    await catalog.keep_part("upl_1", "a", PartRecord(1, "d", 1))
    assert await catalog.delete("upl_1", None)
    assert not await catalog.delete("upl_1", None)
    with pytest.raises(UploadNotFoundError):
        await catalog.claim("upl_1", "a", 60, alive)
    await catalog.create(record(clock))
    found = await catalog.get("upl_1")
    assert found is not None and not found.parts


async def test_of_many_claims_at_once_one_wins(catalog: Catalog, clock: Clock) -> None:
    await catalog.create(record(clock))
    claims = [catalog.claim("upl_1", f"o{n}", 60, alive) for n in range(12)]
    won = [found for found in await asyncio.gather(*claims) if found is not None]
    assert len(won) == 1


async def test_a_cancelled_write_leaves_a_catalog_that_works(
    catalog: Catalog, clock: Clock
) -> None:
    await catalog.create(record(clock))
    for number in range(20):
        task = asyncio.create_task(catalog.claim("upl_1", "a", 60, alive))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await catalog.claim("upl_1", "a", 60, alive) is not None
