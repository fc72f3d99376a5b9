"""A sample of the cases on moto, those that say most of a driver over HTTP; all of them, on all
servers and ways, are run by ``nox -s conformance``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.s3_drivers import moto
from tests.conformance.sampling import only
from trove_async import Driver

_NUMBERS = (
    *(1, 8, 16, 35, 44, 47, 52, 63, 66, 72, 83, 93, 97, 106, 109, 113, 114, 118),
    *(119, 121, 126, 128, 130, 133, 138, 146, 148, 168, 172, 180, 187, 188, 193, 196),
    *(197, 201, 208, 211, 214, 218, 224, 230, 233, 235, 238, 239),
)


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return moto


pytest_collection_modifyitems = only(_NUMBERS, Path(__file__).parent)
