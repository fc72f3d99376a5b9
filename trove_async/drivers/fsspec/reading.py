"""An open file as a body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, Final, Protocol, TypeVar

from trove_async.driver.paths import PathTarget
from trove_async.drivers.fsspec.faults import translating
from trove_async.drivers.fsspec.ground import Ground
from trove_async.drivers.fsspec.identity import Identity
from trove_async.errors import ObjectChangedError, TruncatedError

__all__ = ["Body"]

T = TypeVar("T")
_PIECE: Final = 1 << 20


class Running(Protocol):
    @property
    def name(self) -> str: ...
    async def run(self, work: Callable[[], T], undo: None = None) -> T: ...
    async def close_file(self, file: BinaryIO) -> None: ...


class Body:
    """Where an open file is not one version of it, each piece is handed out only after the file
    was seen to be the same still."""

    def __init__(
        self,
        driver: Running,
        ground: Ground,
        target: PathTarget,
        identity: Identity,
        file: BinaryIO,
        start: int,
        stop: int,
    ) -> None:
        self._driver = driver
        self._ground = ground
        self._target = target
        self._identity = identity
        self._file: BinaryIO | None = file
        self._at = start
        self._stop = stop

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._at >= self._stop:
            raise StopAsyncIteration
        target = self._target
        with translating(self._driver.name, "get", target.bucket, target.key):
            data = await self._driver.run(self._read)
        self._at += len(data)
        if self._ground.in_memory:
            await asyncio.sleep(0)  # others have their turn
        return data

    def _read(self) -> bytes:
        file, ground = self._file, self._ground
        if file is None:
            raise TruncatedError("the body was closed")
        wanted = min(_PIECE, self._stop - self._at)
        file.seek(self._at)
        data = file.read(wanted)
        is_pinned = ground.is_local or ground.in_memory
        if not is_pinned and ground.identity(ground.path(self._target)) != self._identity:
            raise ObjectChangedError("the object was replaced while it was read")
        if not data:
            raise TruncatedError(f"the file ended at byte {self._at} of {self._stop}")
        return bytes(data)

    async def aclose(self) -> None:
        file, self._file = self._file, None
        self._at = self._stop
        if file is not None:
            await self._driver.close_file(file)
