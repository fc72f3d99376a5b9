"""Stores with an old object in them, and the check that a test leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import trove_async as trove
from tests.servers.clamd import clamd, narrow_clamd, start_clamd
from trove_async import RetryPolicy, Trove
from trove_async.testing.leaks import Baseline

__all__ = ["clamd", "narrow_clamd", "start_clamd"]


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    tasks = asyncio.all_tasks()
    held = Baseline.now()
    yield
    left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    held.check()


@pytest.fixture(params=["memory", "local"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "mem://" if request.param == "memory" else f"file://{tmp_path}?durability=none"


@pytest.fixture
async def store(nothing_left: None, target: str) -> AsyncIterator[Trove]:
    """Holds object "k" of bucket "box"; one try for each put."""
    async with trove.open(target, default_bucket="box", retry=RetryPolicy(attempts=1)) as opened:
        await opened.create_bucket("box")
        await opened.put(None, "k", b"old", metadata={"is": "old"})
        yield opened
