"""A small sample on the fake GCS by the JSON API alone: what touches reads, and the three cases
that overwrite all the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.gcs_drivers import gcs_json
from tests.conformance.sampling import only
from trove_async import Driver

_NUMBERS = (8, 52, 66, 71, 93, 95, 97, 106, 110, 113, 115, 119, 121, 128, 159, 162, 168)


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return gcs_json


pytest_collection_modifyitems = only(_NUMBERS, Path(__file__).parent)
