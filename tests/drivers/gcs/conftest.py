"""Stores over a fake GCS server, directly and through the fault proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.drivers.gcs.place import Place, opened
from tests.servers.gcs import Server, gcs

__all__ = ["gcs"]


@pytest.fixture
async def place(gcs: Server) -> AsyncIterator[Place]:
    async with opened(gcs) as place:
        yield place
