"""Every test here leaves no task behind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.core.conftest import _nothing_left, no_task_left
from tests.stream.gate import Gate
from trove_async import Trove

__all__ = ["_nothing_left", "no_task_left"]


@pytest.fixture
async def store() -> AsyncIterator[Trove]:
    async with trove.open("mem://") as opened:
        await opened.create_bucket("box")
        yield opened
        assert opened.pool.active_count == 0


@pytest.fixture
async def gate(store: Trove) -> Gate:
    """Holds back what uploads to ``store`` pull, until it is told to let it through."""
    found = Gate()
    store.use(found)
    return found
