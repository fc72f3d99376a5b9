"""Parts that wait on this machine until all are there, for objects that are one message.

They are as they come, or, where a layer encrypts what is written, messages of that layer: no
plaintext of it reaches the disk.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

from trove_async._chunks import Digest, Tap, as_body
from trove_async._threads import io_pool, settle
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import UploadIntegrityError
from trove_async.middleware.base import Context, Stage
from trove_async.middleware.pipeline import Chain, Entry

__all__ = ["Staging", "staging_folder"]

R = TypeVar("R")

_NAME: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,19})-([0-9a-f]{16})")
_CHUNK: Final = 1 << 20


def staging_folder(catalog: object, session: str) -> str:
    """Beside the catalog where that is a file, else in the user's folder for state."""
    home: str | None = getattr(catalog, "folder", None)
    if home is None:
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        home = os.path.join(state, "trove-async")
    return os.path.join(home, "staged", session)


class Staging:
    """``entries``: the layers of the write, in its order; ``context`` makes a new one."""

    def __init__(
        self, folder: str, entries: Sequence[Entry], context: Callable[[], Context]
    ) -> None:
        self._folder = folder
        self._sealers = [entry for entry in entries if entry.order[0] == Stage.ENCRYPT]
        self._context = context
        self.parts: dict[int, tuple[int, str]] = {}
        """Size and name of each."""

    async def open(self) -> None:
        """What an earlier process left."""

        def job() -> list[str]:
            try:
                return os.listdir(self._folder)
            except FileNotFoundError:
                return []

        for name in await _run(job):
            if found := _NAME.fullmatch(name):
                self.parts[int(found[1])] = int(found[2]), name

    async def put(self, number: int, chunks: Chunks, size: int | None) -> tuple[int, str]:
        """Durable when this returns; replaces the part of that number whole."""
        count = Digest(None)
        chain = Chain(Tap(chunks, [count], size=size))
        context = self._context()
        context.size = context.stored_size = size
        context.applied.clear()
        path = os.path.join(self._folder, f".{os.urandom(8).hex()}")
        await _run(lambda: os.makedirs(self._folder, 0o700, exist_ok=True))
        file = await _run(lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            try:
                for entry in self._sealers:
                    chain.push(await entry.writer.write(chain.top, context))
                    context.applied.append(entry.encoding or "")
                async for chunk in chain.top:
                    await _run(lambda data=chunk: _write(file, data))  # type: ignore[misc]
                await _run(lambda: os.fsync(file))
            finally:
                try:
                    await chain.aclose()
                finally:
                    await _run(lambda: os.close(file))
            etag = os.urandom(8).hex()
            name = f"{number}-{count.count}-{etag}"
            before = self.parts.get(number)
            await _run(lambda: self._publish(path, name, before))
        except BaseException:
            await _run(lambda: _gone(path))
            raise
        self.parts[number] = count.count, name
        return count.count, etag

    def _publish(self, path: str, name: str, before: tuple[int, str] | None) -> None:
        os.rename(path, os.path.join(self._folder, name))
        if before is not None:
            _gone(os.path.join(self._folder, before[1]))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def source(self) -> AsyncGenerator[Bytes, None]:
        """All parts in the order of their numbers."""
        for number in sorted(self.parts):
            size, name = self.parts[number]
            given = 0
            async with aclosing(self._part(name)) as chunks:
                async for chunk in chunks:
                    given += len(chunk)
                    yield chunk
            if given != size:
                raise UploadIntegrityError(f"staged part {number} has {given} of {size} bytes")

    async def _part(self, name: str) -> AsyncGenerator[Bytes, None]:
        from pathlib import Path

        chain = Chain(as_body(Path(self._folder, name), _CHUNK).open())
        try:
            context = self._context()
            context.applied[:] = [entry.encoding or "" for entry in self._sealers]
            for entry in reversed(self._sealers):
                chain.push(await entry.reader.read(chain.top, context))
            async for chunk in chain.top:
                yield chunk
        finally:
            await chain.aclose()

    async def clear(self) -> None:
        import shutil  # only this needs it

        self.parts.clear()
        await _run(lambda: shutil.rmtree(self._folder, ignore_errors=True))


def _write(file: int, data: Bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(file, view) :]


def _gone(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


async def _run(job: Callable[[], R]) -> R:
    future: Any = asyncio.get_running_loop().run_in_executor(io_pool(), job)
    result: R = await settle(future)
    return result
