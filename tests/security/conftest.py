"""A local store between files that it must not touch, and one in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import trove_async
from trove_async import Trove

SECRET = b"OUTSIDE-OF-THE-ROOT"


@dataclass(frozen=True)
class Walled:
    """A store, its root, and the folder around it in which nothing may change."""

    store: Trove
    root: Path
    around: Path


@pytest.fixture
async def walled(tmp_path: Path) -> AsyncIterator[Walled]:
    root = tmp_path / "around" / "root"
    root.mkdir(parents=True, mode=0o700)
    for name in ("outside.txt", "victim/x", "b/x", "other/there"):
        path = root.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(SECRET)
    async with trove_async.open(f"file://{root}?durability=none") as store:
        for name in ("bucket", "other"):
            await store.create_bucket(name)
        await store.put("bucket", "there", b"inside")
        await store.put("other", "x", b"of the other bucket")
        yield Walled(store, root, root.parent)


@pytest.fixture
async def memory() -> AsyncIterator[Trove]:
    async with trove_async.open("mem://") as store:
        await store.create_bucket("bucket")
        yield store
