"""Ways to keep files in a folder, behind one shape: what `local.py` compares.

All of them publish by a rename (old or new, never half), and none of them fsyncs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import ClassVar, Protocol

import aiofiles
import aiofiles.os
import obstore
import opendal
from blake3 import blake3
from obstore.store import LocalStore

import trove_async as trove

MiB = 1024 * 1024
PIECE = 1 * MiB
BLOCK = os.urandom(PIECE)


async def source(size: int, *, fresh: bool = False) -> AsyncIterator[bytes]:
    """The body of a streamed put; the same for all. ``fresh``: each piece is a new one, as from
    a network, so that who holds on to them is seen; its copying would blur a measured time."""
    for _ in range(size // PIECE):
        yield bytes(memoryview(BLOCK)) if fresh else BLOCK


class Files(Protocol):
    """One way to do it. ``stream`` and ``drain`` hold no more than a few pieces."""

    name: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, root: Path) -> None: ...

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    def put(self, key: str, data: bytes) -> Awaitable[object]: ...
    def get(self, key: str) -> Awaitable[object]: ...
    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object: ...
    async def drain(self, key: str) -> int: ...


class Ours:
    """BLAKE3 made on every put and checked on every whole get."""

    name: ClassVar[str] = "trove"
    kind: ClassVar[str] = "ours"

    def __init__(self, root: Path) -> None:
        self.root = root

    async def open(self) -> None:
        self.store = await trove.open(f"file://{self.root}?durability=none")
        await self.store.create_bucket("bench")

    async def close(self) -> None:
        await self.store.aclose()

    def put(self, key: str, data: bytes) -> Awaitable[object]:
        return self.store.put("bench", key, data)

    def get(self, key: str) -> Awaitable[object]:
        return self.store.get_bytes("bench", key)

    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object:
        return await self.store.put("bench", key, body)

    async def drain(self, key: str) -> int:
        total = 0
        async with self.store.get("bench", key) as reader:
            async for chunk in reader:
                total += len(chunk)
        return total


class Obstore:
    name: ClassVar[str] = "obstore"
    kind: ClassVar[str] = "peer"

    def __init__(self, root: Path) -> None:
        self.store = LocalStore(root, mkdir=True)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def put(self, key: str, data: bytes) -> Awaitable[object]:
        return obstore.put_async(self.store, key, data)

    async def get(self, key: str) -> object:
        return await (await obstore.get_async(self.store, key)).bytes_async()

    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object:
        return await obstore.put_async(self.store, key, body)

    async def drain(self, key: str) -> int:
        total = 0
        found = await obstore.get_async(self.store, key)
        async for chunk in found.stream(min_chunk_size=8 * MiB):
            total += len(chunk)
        return total


class Opendal:
    name: ClassVar[str] = "opendal"
    kind: ClassVar[str] = "peer"

    def __init__(self, root: Path) -> None:
        staging = root.with_name(root.name + "-staging")
        self.operator = opendal.AsyncOperator("fs", root=str(root), atomic_write_dir=str(staging))

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def put(self, key: str, data: bytes) -> Awaitable[object]:
        return self.operator.write(key, data)

    def get(self, key: str) -> Awaitable[object]:
        return self.operator.read(key)

    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object:
        async with await self.operator.open(key, "wb") as file:
            async for chunk in body:
                await file.write(chunk)
        return None

    async def drain(self, key: str) -> int:
        total = 0
        async with await self.operator.open(key, "rb") as file:
            while chunk := await file.read(PIECE):
                total += len(chunk)
        return total


class Aiofiles:
    name: ClassVar[str] = "aiofiles"
    kind: ClassVar[str] = "peer"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    async def open(self) -> None:
        self.root.mkdir()

    async def close(self) -> None: ...

    def staged(self) -> Path:
        self.count += 1
        return self.root / f".{self.count}"

    async def put(self, key: str, data: bytes) -> object:
        staged = self.staged()
        async with aiofiles.open(staged, "wb", buffering=0) as file:
            await file.write(data)
        return await aiofiles.os.replace(staged, self.root / key)

    async def get(self, key: str) -> object:
        async with aiofiles.open(self.root / key, "rb", buffering=0) as file:
            return await file.read()

    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object:
        staged = self.staged()
        async with aiofiles.open(staged, "wb", buffering=0) as file:
            async for chunk in body:
                await file.write(chunk)
        return await aiofiles.os.replace(staged, self.root / key)

    async def drain(self, key: str) -> int:
        total = 0
        async with aiofiles.open(self.root / key, "rb", buffering=0) as file:
            while chunk := await file.read(PIECE):
                total += len(chunk)
        return total


class Blocking:
    """Plain calls on the event loop: what the file system costs, and nothing else."""

    name: ClassVar[str] = "blocking floor"
    kind: ClassVar[str] = "floor"

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.count = 0

    async def open(self) -> None:
        os.mkdir(self.root)

    async def close(self) -> None: ...

    def staged(self) -> str:
        self.count += 1
        return f"{self.root}/.{self.count}"

    def write(self, key: str, data: bytes) -> None:
        staged = self.staged()
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.rename(staged, f"{self.root}/{key}")

    def read(self, key: str) -> bytes:
        fd = os.open(f"{self.root}/{key}", os.O_RDONLY)
        try:
            return os.read(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    async def put(self, key: str, data: bytes) -> object:
        self.write(key, data)
        return None

    async def get(self, key: str) -> object:
        return self.read(key)

    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object:
        staged = self.staged()
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            async for chunk in body:
                os.write(fd, chunk)
        finally:
            os.close(fd)
        os.rename(staged, f"{self.root}/{key}")
        return None

    async def drain(self, key: str) -> int:
        total = 0
        with open(f"{self.root}/{key}", "rb", buffering=0) as file:  # noqa: ASYNC230 -- the floor blocks
            while chunk := file.read(PIECE):
                total += len(chunk)
        return total


class InThread(Blocking):
    """The floor, each operation (or piece) in one `asyncio.to_thread`."""

    name: ClassVar[str] = "one to_thread"
    kind: ClassVar[str] = "note"

    async def put(self, key: str, data: bytes) -> object:
        return await asyncio.to_thread(self.write, key, data)

    async def get(self, key: str) -> object:
        return await asyncio.to_thread(self.read, key)

    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object:
        staged = self.staged()
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            async for chunk in body:
                await asyncio.to_thread(os.write, fd, chunk)
        finally:
            os.close(fd)
        os.rename(staged, f"{self.root}/{key}")
        return None

    async def drain(self, key: str) -> int:
        total = 0
        with open(f"{self.root}/{key}", "rb", buffering=0) as file:  # noqa: ASYNC230 -- opening is not what is measured
            while chunk := await asyncio.to_thread(file.read, PIECE):
                total += len(chunk)
        return total


class Hashed(Blocking):
    """The floor with BLAKE3 before each write and after each read, on the same thread: what
    a checked stream costs where nothing runs beside it."""

    name: ClassVar[str] = "floor with BLAKE3"
    kind: ClassVar[str] = "note"

    async def stream(self, key: str, body: AsyncIterator[bytes]) -> object:
        hasher = blake3()

        async def hashed() -> AsyncIterator[bytes]:
            async for chunk in body:
                hasher.update(chunk)
                yield chunk

        return await super().stream(key, hashed())

    async def drain(self, key: str) -> int:
        total, hasher = 0, blake3()
        with open(f"{self.root}/{key}", "rb", buffering=0) as file:  # noqa: ASYNC230 -- the floor blocks
            while chunk := file.read(PIECE):
                hasher.update(chunk)
                total += len(chunk)
        return total


CONTESTANTS: tuple[type[Files], ...] = (
    Ours,
    Obstore,
    Opendal,
    Aiofiles,
    InThread,
    Blocking,
)
