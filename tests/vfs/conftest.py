"""A file system on memory, on a real folder, and on one that compresses and encrypts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import trove_async as trove
from trove_async.middleware import Compress, Encrypt, Keyring
from trove_async.vfs import FileSystem


def keyring() -> Keyring:
    return Keyring({"k1": bytes(range(32))}, active="k1")


def target_of(kind: str, folder: Path) -> str:
    return f"file://{folder}?durability=none" if kind.startswith("local") else "mem://"


@pytest.fixture(params=["memory", "local", "memory_sealed", "local_sealed"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    layers: list[trove.Middleware] = []
    if kind.endswith("_sealed"):
        layers = [Compress(), Encrypt(keyring())]
    async with trove.open(target_of(kind, tmp_path / "root"), middleware=layers) as opened:
        await opened.create_bucket("box")
        yield opened


@pytest.fixture
def fs(store: trove.Trove) -> FileSystem:
    return store.vfs("box")
