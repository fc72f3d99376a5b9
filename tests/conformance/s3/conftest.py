"""A sample of the cases on moto, those that say most of a driver over HTTP; all of them, on all
servers and ways, are run by ``nox -s conformance``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.s3_drivers import moto
from trove_async import Driver

_NUMBERS = (
    *(1, 8, 16, 35, 44, 47, 52, 63, 66, 72, 83, 93, 97, 106, 109, 113, 114, 118),
    *(119, 121, 126, 128, 130, 133, 138, 146, 148, 168, 172, 180, 187, 188, 193, 196),
    *(197, 201, 208, 211, 214, 218, 224, 230, 233, 235, 238, 239),
)
SAMPLE = frozenset(f"K{number:03}" for number in _NUMBERS)


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return moto


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    left_out = [
        item
        for item in items
        if here in item.path.parents and item.name.partition("_")[0] not in SAMPLE
    ]
    if left_out:
        dropped = set(left_out)
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=left_out)
