"""Every test here leaves no task behind; `nothing_under_way` also looks into the pool."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator
from concurrent.futures import Future, wait

import pytest

from trove_async.middleware.compress import ordered


def jobs_under_way() -> list[Future[object]]:
    """Of every pool of the process, waiting or running, and made in this test."""
    return [o for o in gc.get_objects() if type(o) is Future and not o.done()]


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    tasks = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"


@pytest.fixture
async def nothing_under_way(no_task_left: None) -> AsyncIterator[None]:
    gc.freeze()  # what is older is left out when the collector is asked
    try:
        yield
        running = [job for job in jobs_under_way() if job.running()]
        assert not wait(running, timeout=10).not_done
        assert not jobs_under_way(), "jobs left waiting in the pool"
        assert not ordered._open, "a stream counts as open for ever: none is alone any more"
    finally:
        gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_task_left")


async def some_jobs(beside: int = 0) -> None:
    """Waits until there are more jobs than ``beside``."""
    while len(jobs_under_way()) <= beside:  # noqa: ASYNC110 -- a pool tells nobody
        await asyncio.sleep(0.01)
