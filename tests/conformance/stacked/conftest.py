"""Every case on the memory driver, through a transform that can seek: the longest way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance import stacks
from trove_async import Driver
from trove_async.drivers.memory import MemoryDriver
from trove_async.testing.harness import Stack


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return MemoryDriver


@pytest.fixture
def trove_stack() -> Stack:
    return Stack("xor", stacks.xor)
