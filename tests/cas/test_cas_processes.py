"""Two processes on one folder and one index, each with writers, readers and a collector."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import trove_async as trove
from tests.cas.contents import key_of
from tests.catalog.conftest import new_database
from trove_async import ObjectInfo

ROOT = Path(__file__).parents[2]


async def together(target: str, catalog: str, seconds: float) -> None:
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.cas.cas_child", target, catalog, name, str(seconds)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    ended = [await child.communicate() for child in children]
    for child, (_, errors) in zip(children, ended, strict=True):
        assert child.returncode == 0, errors.decode()
    counts = [[int(word) for word in out.split()] for out, _ in ended]
    conflicts, stores, condemned, deleted = (sum(found) for found in zip(*counts, strict=True))
    print(f"\n{stores} stores, {conflicts} conflicts, {condemned} condemned, {deleted} deleted")
    assert conflicts <= max(1, stores // 20)
    assert stores >= 4, "each writer did one at least"
    assert seconds < 10 or deleted > 10
    async with trove.open(target, catalog=catalog) as store:
        cas = store.cas()
        await cas.store(b"kept", owner="k")
        for _ in range(2):
            result = await cas.gc(grace=0, settle=0, orphan_after=0)
            assert result.errors == []
        report = await cas.verify(repair=True)
        assert (report.checked, report.corrupt, report.missing) == (1, [], [])
        assert report.recounted == 0
        left = [e.key async for e in store.list("cas") if isinstance(e, ObjectInfo)]
        assert left == [key_of(b"kept")]
        index = await cas._open_index()
        assert (await index.count())[0] == 1


async def freed_once(target: str, catalog: str) -> None:
    """F58: what two collectors free at once is counted once."""
    async with (
        trove.open(target, catalog=catalog) as one,
        trove.open(target, catalog=catalog) as two,
    ):
        for number in range(40):
            digest = (await one.cas("dead").store(bytes([number]) * 10, owner="a")).digest
            await one.cas("dead").release(digest, owner="a")
        results = await asyncio.gather(
            *(store.cas("dead").gc(grace=0, settle=0) for store in (one, two))
        )
        assert [sum(r.condemned for r in results), sum(r.deleted for r in results)] == [40, 40]
        assert sum(result.freed_bytes for result in results) == 400


async def test_f24_f58_two_processes_on_sqlite(tmp_path: Path) -> None:
    target, catalog = f"file://{tmp_path}/root?durability=none", f"sqlite:///{tmp_path}/c.sqlite"
    await together(target, catalog, 1.5)
    await freed_once(target, catalog)


async def test_f24_f58_two_processes_on_postgresql(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    catalog = await new_database(request.getfixturevalue("postgres"))
    target = f"file://{tmp_path}/root?durability=none"
    await together(target, catalog, 1.5)
    await freed_once(target, catalog)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_f24_f58_two_processes_for_half_a_minute(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    catalog = f"sqlite:///{tmp_path}/c.sqlite"
    if kind == "postgres":
        catalog = await new_database(request.getfixturevalue("postgres"))
    await together(f"file://{tmp_path}/root?durability=none", catalog, 30)
