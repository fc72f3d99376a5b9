"""Roots of every kind the driver meets: two media, both places for metadata."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from trove_async.driver import BucketOptions
from trove_async.drivers.local import LocalConfig, LocalDriver

MEDIA = [name for name in ("/dev/shm", tempfile.gettempdir()) if os.access(name, os.W_OK)]


@pytest.fixture(params=MEDIA)
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="trove-local-", dir=request.param))
    path.chmod(0o700)
    yield path / "root"
    shutil.rmtree(path)


@pytest.fixture(params=["auto", "sidecar"])
async def driver(request: pytest.FixtureRequest, root: Path) -> AsyncIterator[LocalDriver]:
    made = LocalDriver(LocalConfig(root, durability="none", metadata=request.param))
    await made.open()
    await made.create_bucket("bucket", BucketOptions())
    yield made
    await made.close()
    rooms = root / ".trove" / "tmp"
    assert not rooms.exists() or not list(rooms.iterdir()), "staging is left over"
