"""The SQL catalog: one schema among many processes, steps, privacy, errors."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers.postgres import Postgres
from trove_async.catalog import MemoryCatalog, SQLCatalog, open_catalog
from trove_async.errors import (
    BackendError,
    InvalidConfigError,
    UnavailableError,
    UnsupportedFormatError,
)

_CLAIMS = """
import asyncio, sys
from trove_async.catalog import open_catalog
from trove_async.errors import ConflictError
from trove_async.stream.session import PartRecord, Plan, SessionRecord
from datetime import UTC, datetime, timedelta

async def main():
    catalog = open_catalog(sys.argv[1])
    me = sys.argv[2]
    await catalog.open()
    now = datetime.now(UTC)
    await catalog.create(
        SessionRecord(f"upl_own{me}", Plan("d", "b", "k"), now, now + timedelta(1)))
    while await catalog.get("upl_common") is None:
        await asyncio.sleep(0.005)
    won = 0
    for turn in range(20):
        if await catalog.claim("upl_common", me, 600, lambda owner: False) is None:
            await asyncio.sleep(0.002)
            continue
        found = await catalog.get("upl_common")
        number = len(found.parts) + 1
        await catalog.keep_part("upl_common", me, PartRecord(number, me, 1))
        await catalog.release("upl_common", me)
        won += 1
    await catalog.close()
    print(won)

asyncio.run(main())
"""


async def test_processes_take_turns_and_lose_nothing(database: str) -> None:
    from datetime import UTC, datetime, timedelta

    from trove_async.stream.session import Plan, SessionRecord

    children = [
        subprocess.Popen(  # noqa: ASYNC220 -- they run beside the loop
            [sys.executable, "-c", _CLAIMS, database, str(number)], stdout=subprocess.PIPE
        )
        for number in range(3)
    ]  # all of them make the schema
    catalog = open_catalog(database)
    try:
        now = datetime.now(UTC)
        await catalog.create(
            SessionRecord("upl_common", Plan("d", "b", "k"), now, now + timedelta(1))
        )
        outputs = [await asyncio.to_thread(child.communicate) for child in children]
        assert [child.returncode for child in children] == [0, 0, 0]
        found = await catalog.get("upl_common")
        assert found is not None
        total = sum(int(out) for out, _ in outputs)
        assert total > 0 and len(found.parts) == total
        assert len(await catalog.list(None, None, 10)) == 4
    finally:
        await catalog.close()


async def test_a_later_version_is_refused_and_kept(database: str) -> None:
    catalog = open_catalog(database)
    await catalog.open()
    await catalog.close()
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    scheme, _, rest = database.partition("://")
    engine = create_async_engine(f"{driver[scheme]}://{rest}")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE trove_catalog SET version = 99"))
    await engine.dispose()
    with pytest.raises(UnsupportedFormatError, match="99"):
        await catalog.open()


async def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "c.sqlite"
    catalog = open_catalog(f"sqlite:///{path}")
    await catalog.open()
    await catalog.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_no_server_is_an_unavailable_catalog() -> None:
    catalog = open_catalog("postgresql://me:s3cret@127.0.0.1:9/x")
    with pytest.raises(UnavailableError) as caught:
        await catalog.open()
    assert "s3cret" not in str(caught.value) + repr(catalog)


async def test_a_server_that_refuses_is_an_error_of_ours(postgres: Postgres) -> None:
    for url in (postgres.url("missing"), postgres.url().replace("trove@", "nobody:s3cret@")):
        catalog = open_catalog(url)
        with pytest.raises(BackendError) as caught:
            await catalog.open()
        assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(BackendError):
        await open_catalog(f"sqlite:///{tmp_path}/c.sqlite").open()
    with pytest.raises(InvalidConfigError):
        await open_catalog(f"sqlite:///{tmp_path}").open()


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "catalog.sqlite", "sqlite://", "", "sqlite:///:memory:"]
)
async def test_what_is_no_catalog_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="catalog"):
        await open_catalog(url).open()


def test_the_front_door_loads_no_database() -> None:
    code = (
        "import sys, trove_async, trove_async.catalog\n"
        "assert not {'sqlalchemy', 'aiosqlite'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_named_catalog_in_memory_is_shared() -> None:
    assert open_catalog("memory://one") is open_catalog("memory://one")
    assert open_catalog("memory://") is not open_catalog("memory://")
    assert isinstance(open_catalog("memory://"), MemoryCatalog)
    assert isinstance(open_catalog("sqlite:///x"), SQLCatalog)
