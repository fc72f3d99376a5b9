"""A sample of the cases on the fake GCS, those that say most of a driver over HTTP; all of them,
in all ways, are run by ``nox -s conformance``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.gcs_drivers import gcs
from tests.conformance.sampling import only
from trove_async import Driver

_NUMBERS = (
    *(1, 8, 14, 15, 35, 44, 47, 52, 63, 66, 71, 72, 83, 93, 95, 97, 106, 109, 110, 113, 114),
    *(118, 119, 121, 126, 128, 130, 133, 138, 142, 143, 146, 148, 154, 168, 172, 180, 187, 188),
    *(193, 196, 197, 198, 200, 202, 205, 209, 212, 215, 217, 218, 219, 222, 224, 230, 238, 239),
)


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return gcs


pytest_collection_modifyitems = only(_NUMBERS, Path(__file__).parent)
