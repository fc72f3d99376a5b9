"""Scratch folders in memory where there is some."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import scratch_base


@pytest.fixture
def scratch() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="trove-faults-", dir=scratch_base()))
    yield path
    shutil.rmtree(path)
