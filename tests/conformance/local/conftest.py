"""Every case on the local driver; what fsync adds is proved by the fault sweeps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.drivers import local_at
from trove_async import Driver


@pytest.fixture
def trove_driver_factory(tmp_path: Path) -> Callable[[], Driver]:
    numbers = itertools.count()

    def fresh() -> Driver:
        root = tmp_path / f"root-{next(numbers)}"
        root.mkdir(mode=0o700)
        return local_at(root, "none")

    return fresh
