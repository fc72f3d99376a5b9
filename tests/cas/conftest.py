"""Content-addressed storage over memory and disk, its index in each kind of catalog, over a
clock that the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import trove_async as trove
from tests.cas.mortal import World
from tests.catalog.conftest import Clock, new_database
from tests.core.conftest import _nothing_left, no_task_left
from tests.servers.postgres import postgres as postgres
from trove_async import Trove
from trove_async.cas import CAS
from trove_async.catalog import Catalog, MemoryCatalog, open_catalog

__all__ = ["_nothing_left", "no_task_left"]


_database: list[str] = []
"""One for all tests here: making one takes longer than most of them."""


async def emptied(server: object) -> str:
    """The URL of a PostgreSQL database whose tables hold nothing."""
    if not _database:
        _database.append(await new_database(server))
        return _database[0]
    asyncpg: Any = import_module("asyncpg")  # which has no types
    connection = await asyncpg.connect(_database[0])
    try:
        tables = ("blob", "ref", "pin", "upload", "orphan")
        names = ", ".join(f"trove_cas_{name}" for name in tables)
        await connection.execute(f"TRUNCATE {names}")
    finally:
        await connection.close()
    return _database[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


SETTINGS = [
    ("memory", "memory"),
    ("local", "sqlite"),
    ("memory", "postgres"),
    pytest.param(("local", "postgres"), marks=pytest.mark.slow),
    pytest.param(("memory", "sqlite"), marks=pytest.mark.slow),
    pytest.param(("local", "memory"), marks=pytest.mark.slow),
]


@pytest.fixture(params=SETTINGS, ids="-".join)
def setting(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Where the blobs are, and where the index is."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
async def catalog(
    request: pytest.FixtureRequest, setting: tuple[str, str], tmp_path: Path, clock: Clock
) -> AsyncIterator[Catalog]:
    made: Catalog
    if setting[1] == "memory":
        made = MemoryCatalog(clock=clock)
    elif setting[1] == "sqlite":
        made = open_catalog(f"sqlite:///{tmp_path}/c.sqlite", clock=clock)
    else:
        made = open_catalog(await emptied(request.getfixturevalue("postgres")), clock=clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def target(setting: tuple[str, str], tmp_path: Path) -> str:
    if setting[0] == "memory":
        return f"mem://cas-{uuid4().hex}"
    return f"file://{tmp_path}/root?durability=none"


@pytest.fixture
async def store(target: str, catalog: Catalog) -> AsyncIterator[Trove]:
    async with trove.open(target, catalog=catalog, chunk_size=1 << 20) as opened:
        yield opened


@pytest.fixture
def cas(store: Trove) -> CAS:
    return store.cas()


@pytest.fixture
async def timed(clock: Clock) -> AsyncIterator[Trove]:
    """In memory, where a test is about rules and not about databases."""
    async with trove.open("mem://", catalog=MemoryCatalog(clock=clock)) as opened:
        yield opened


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def fresh(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[World]]]:
    """Makes worlds, each with an index of its own; ``CHUNKING`` of the module: stored in chunks."""
    opened: list[Catalog] = []

    async def make() -> World:
        clock = Clock()
        made: Catalog
        if request.param == "memory":
            made = MemoryCatalog(clock=clock)
        elif request.param == "sqlite":
            made = open_catalog(f"sqlite:///{tmp_path}/{len(opened)}.sqlite", clock=clock)
        else:
            url = await new_database(request.getfixturevalue("postgres"))
            made = open_catalog(url, clock=clock)
        await made.open()
        opened.append(made)
        return World(made, clock, getattr(request.module, "CHUNKING", None))

    yield make
    for catalog in opened:
        await catalog.close()
