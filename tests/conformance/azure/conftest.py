"""A sample of the cases on azurite, those that say most of a driver over HTTP; all of them are
run by ``nox -s conformance``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.azure_drivers import azurite
from tests.conformance.sampling import only
from trove_async import Driver

_NUMBERS = (
    *(1, 8, 14, 15, 35, 44, 47, 52, 63, 66, 70, 71, 72, 73, 93, 95, 97, 99, 106, 107, 113, 114),
    *(118, 119, 121, 126, 128, 133, 138, 143, 146, 148, 168, 172, 187, 188, 193, 196, 197, 201),
    *(208, 214, 218, 223, 230, 235, 238, 239),
)


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return azurite


pytest_collection_modifyitems = only(_NUMBERS, Path(__file__).parent)
