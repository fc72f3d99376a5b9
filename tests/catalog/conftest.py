"""Catalogs of every kind, over a clock that the test turns."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgres import postgres as postgres
from trove_async.catalog import Catalog, MemoryCatalog, open_catalog

_numbers = itertools.count()


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def new_database(server: object) -> str:
    """Another database of the PostgreSQL server: one for each test."""
    from tests.servers.postgres import Postgres

    asyncpg: Any = import_module("asyncpg")  # which has no types
    assert isinstance(server, Postgres)
    name = f"catalog{next(_numbers)}"
    connection = await asyncpg.connect(server.url())
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return server.url(name)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/.trove/catalog.sqlite"
    return await new_database(request.getfixturevalue("postgres"))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def catalog(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Callable[[], datetime]
) -> AsyncIterator[Catalog]:
    made: Catalog
    if request.param == "memory":
        made = MemoryCatalog(clock=clock)
    elif request.param == "sqlite":
        made = open_catalog(f"sqlite:///{tmp_path}/c.sqlite", clock=clock)
    else:
        made = open_catalog(await new_database(request.getfixturevalue("postgres")), clock=clock)
    await made.open()
    yield made
    await made.close()
