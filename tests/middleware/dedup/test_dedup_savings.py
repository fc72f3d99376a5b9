"""Real files with duplicates take what the unique ones take."""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.middleware.dedup.worlds import BUCKET, world
from trove_async._together import side_by_side
from trove_async.drivers.memory import MemoryDriver
from trove_async.model import ObjectInfo


@dataclass(slots=True)
class Measured:
    files: int
    unique: int
    """Bytes of distinct contents."""
    blobs: int
    """Bytes that are stored for contents."""
    references: int
    """Bytes that are stored for objects."""


def _library(most: int) -> list[Path]:
    """Source files of Python's library and of what is installed beside it."""
    every = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    return [path for path in every if path.is_file()][:most]


async def _measured(files: list[Path]) -> Measured:
    """Each is put twice, under two names."""
    async with world(MemoryDriver(history=0)) as w:
        contents: dict[bytes, int] = {}

        async def put(path: Path) -> None:
            data = path.read_bytes()
            contents[hashlib.sha256(data).digest()] = len(data)
            await w.store.put(BUCKET, f"one{path}", data)
            await w.store.put(BUCKET, f"two/{path.name}/{path.stat().st_ino}", data)

        await side_by_side(files, put)
        blobs = sum([blob.stored_size async for blob in w.cas.list()])
        objects = [e async for e in w.store.list(BUCKET) if isinstance(e, ObjectInfo)]
        for info in objects[::97]:
            data = await w.store.get_bytes(BUCKET, info.key)
            assert hashlib.sha256(data).digest() in contents and len(data) == info.size
        return Measured(
            len(objects), sum(contents.values()), blobs, sum(o.stored_size for o in objects)
        )


def _judge(found: Measured) -> None:
    print(
        f"{found.files} objects, {found.unique} unique bytes: contents take "
        f"{found.blobs / found.unique:.4f} of them, with the objects' references "
        f"{(found.blobs + found.references) / found.unique:.4f}"
    )
    assert found.blobs + found.references <= 1.05 * found.unique
    assert found.blobs >= found.unique


async def test_the_library_twice_takes_the_room_of_once() -> None:
    _judge(await _measured(_library(200)))


@pytest.mark.slow
async def test_ten_thousand_real_files_take_the_room_of_the_unique_ones() -> None:
    files = _library(5000)
    found = await _measured(files)
    _judge(found)
    assert found.files == 2 * len(files)
