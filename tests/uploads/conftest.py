"""Stores whose sessions are kept in memory and on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import trove_async as trove
from tests.catalog.conftest import Clock
from tests.core.conftest import _nothing_left, no_task_left
from trove_async import Trove
from trove_async.catalog import MemoryCatalog

__all__ = ["_nothing_left", "no_task_left"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "local"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Trove]:
    url = "mem://" if request.param == "memory" else f"file://{tmp_path}/root?durability=none"
    async with trove.open(url, chunk_size=64 * 1024) as opened:
        await opened.create_bucket("bucket")
        yield opened


@pytest.fixture
async def timed(clock: Clock) -> AsyncIterator[Trove]:
    async with trove.open("mem://", catalog=MemoryCatalog(clock=clock)) as opened:
        await opened.create_bucket("bucket")
        yield opened
