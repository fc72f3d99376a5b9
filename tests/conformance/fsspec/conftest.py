"""A sample of the cases on fsspec's own local file system, those that say most of a driver with
folders and workers; all of them, on memory too, are run by ``nox -s conformance``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.fsspec_drivers import local_at
from tests.conformance.sampling import only
from trove_async import Driver

# fmt: off
_NUMBERS = (
    1, 8, 15, 18, 26, 44, 47, 52, 60, 61, 66, 67, 71, 83, 93, 106, 109, 117,
    128, 130, 133, 136, 140, 143, 148, 152, 154, 156, 159, 160, 164, 166, 168, 169, 172, 187,
    188, 191, 238, 246,
)
# fmt: on


@pytest.fixture
def trove_driver_factory(tmp_path: Path) -> Callable[[], Driver]:
    numbers = itertools.count()

    def fresh() -> Driver:
        root = tmp_path / f"root-{next(numbers)}"
        root.mkdir()
        return local_at(root)

    return fresh


pytest_collection_modifyitems = only(_NUMBERS, Path(__file__).parent)
