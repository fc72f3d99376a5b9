"""Every case on the memory driver."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trove_async import Driver
from trove_async.drivers.memory import MemoryDriver


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return MemoryDriver
