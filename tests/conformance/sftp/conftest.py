"""A sample of the cases on a real sshd, those that say most of a driver with folders and
connections; all of them are run by ``nox -s conformance``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.sampling import only
from tests.conformance.sftp_drivers import sftp_fast
from trove_async import Driver

# fmt: off
_NUMBERS = (
    1, 8, 15, 18, 26, 44, 47, 52, 60, 66, 67, 71, 83, 93, 106, 109, 117, 118,
    121, 128, 130, 133, 136, 140, 143, 148, 151, 154, 159, 160, 164, 168, 172, 187, 188, 197,
    200, 202, 206, 215, 217, 238, 246,
)
# fmt: on


@pytest.fixture
def trove_driver_factory() -> Callable[[], Driver]:
    return sftp_fast


pytest_collection_modifyitems = only(_NUMBERS, Path(__file__).parent)
