"""Content-addressed storage over memory and disk, its index in each kind of catalog, over a
clock that the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import trove_async as trove
from tests.catalog.conftest import Clock, new_database
from tests.core.conftest import _nothing_left, no_task_left
from tests.servers.postgres import postgres as postgres
from trove_async import Trove
from trove_async.cas import CAS
from trove_async.catalog import Catalog, MemoryCatalog, open_catalog

__all__ = ["_nothing_left", "no_task_left"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def catalog(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Catalog]:
    """Open, and left open by the stores that use it."""
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


@pytest.fixture(params=["memory", "local"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"mem://cas-{tmp_path.name}-{id(request)}"
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
