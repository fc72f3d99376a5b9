"""Stores behind trove://, each test with an instance and a bucket of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.servers.s3 import Server, moto
from trove_async.fsspec import TroveFileSystem

__all__ = ["moto"]  # a fixture of this folder as well


def made(target: str, **options: object) -> Iterator[TroveFileSystem]:
    fs = fsspec.filesystem("trove", target=target, skip_instance_cache=True, **options)
    try:
        yield fs
    finally:
        fs.close()


@pytest.fixture
def memory_fs() -> Iterator[TroveFileSystem]:
    yield from made("mem://")


@pytest.fixture
def local_fs_of_trove(tmp_path: Path) -> Iterator[TroveFileSystem]:
    root = tmp_path / "trove"
    root.mkdir()
    yield from made(f"file://{root}?durability=none")


@pytest.fixture
def s3_fs(moto: Server) -> Iterator[TroveFileSystem]:
    yield from made(moto.dsn("unused-bucket"))


@pytest.fixture
def bucket() -> str:
    return f"b-{uuid.uuid4().hex[:12]}"
