"""Open files: reads by ranges with fsspec's caches, writes that are published by a clean close.

An exception in the block, a file that is forgotten, a transaction that is discarded: what was
there before stays.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from trove_async import ObjectChangedError, PreconditionFailedError
from trove_async.fsspec.entries import split
from trove_async.fsspec.sdk import AbstractAsyncStreamedFile, AbstractBufferedFile, sync
from trove_async.fsspec.writing import PutArguments, Writing

if TYPE_CHECKING:
    from trove_async.fsspec.filesystem import TroveFileSystem

__all__ = ["AsyncTroveFile", "PackedFile", "TextFile", "TroveFile", "start_writing"]

T = TypeVar("T")
NEAR_BLOCK: Final = 256 * 1024
"""Bytes read ahead where a request costs no journey; elsewhere fsspec's 5 MiB."""


async def _fetch(fs: TroveFileSystem, path: str, etag: str, start: int, end: int) -> bytes:
    """Of the very object that was opened."""
    bucket, key = split(path)
    store = await fs._store()
    if start >= end:
        return b""
    try:
        async with store.get(bucket, key, range=slice(start, end), if_match=etag or None) as part:
            return await part.read()
    except PreconditionFailedError as exc:
        raise ObjectChangedError(
            "the object was replaced while it was read", bucket=bucket, key=key
        ) from exc


async def start_writing(fs: TroveFileSystem, path: str, mode: str, put: PutArguments) -> Writing:
    return Writing(await fs._store(), *split(path), put, append="a" in mode, exclusive="x" in mode)


class TroveFile(AbstractBufferedFile):  # type: ignore[misc]  # the library has no types
    """Calls wait for fsspec's loop, so they are not for coroutines that run in it."""

    fs: TroveFileSystem
    path: str
    mode: str
    buffer: io.BytesIO

    def __init__(
        self,
        fs: TroveFileSystem,
        path: str,
        mode: str,
        put: PutArguments,
        **options: object,
    ) -> None:
        self._writing: Writing | None = None
        if mode == "rb":
            entry = fs.info(path)
            if entry["type"] == "directory":
                self.closed = True
                raise IsADirectoryError(path)
            if options.get("block_size") is None and fs._holder.is_near:
                options["block_size"] = NEAR_BLOCK
            options["size"] = entry["size"]
            super().__init__(fs, path, mode, **options)
            self.details = entry
            self._etag = str(entry["etag"])
            return
        super().__init__(fs, path, mode, **options)
        self._writing = self._sync(start_writing, fs, path, mode, put)
        if mode == "ab":
            self.loc = fs.info(path)["size"] if fs.exists(path) else 0

    def _sync(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        result: T = sync(self.fs.loop, function, *args)
        return result

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._sync(_fetch, self.fs, self.path, self._etag, start, end)

    def _upload_chunk(self, final: bool = False) -> None:
        assert self._writing is not None
        data = self.buffer.getvalue()
        if not final:
            self._sync(self._writing.feed, data)
            return
        self._writing.keep(data)
        if self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Publishes; of a transaction's file when that is committed."""
        writing = self._writing
        if writing is None:
            return
        if not self.forced:
            self.close()
        self._writing = None
        self._sync(writing.finish)
        self.fs.invalidate_cache(self.path)

    def discard(self) -> None:
        """What was there before stays."""
        writing, self._writing = self._writing, None
        self.closed = True
        if writing is not None:
            self._sync(writing.abort)

    def close(self) -> None:
        try:
            super().close()
        except BaseException:
            self.discard()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self.mode != "rb":
            self.discard()
        else:
            self.close()

    def __del__(self) -> None:
        writing = getattr(self, "_writing", None)
        if self.closed:
            return
        self.closed = True
        if writing is None:
            return
        self._writing = None
        warnings.warn(f"{self!r} was not closed, so it is not written", ResourceWarning, 2)
        self.fs._forget(writing)


class AsyncTroveFile(AbstractAsyncStreamedFile):  # type: ignore[misc]  # the library has no types
    """For coroutines: ``read``, ``write`` and ``close`` are awaited."""

    fs: TroveFileSystem
    path: str
    mode: str
    buffer: io.BytesIO

    def __init__(
        self,
        fs: TroveFileSystem,
        path: str,
        mode: str,
        etag: str,
        writing: Writing | None,
        **options: object,
    ) -> None:
        super().__init__(fs, path, mode, **options)
        self._etag = etag
        self._writing = writing

    async def _fetch_range(self, start: int, end: int) -> bytes:
        return await _fetch(self.fs, self.path, self._etag, start, min(end, self.size))

    async def _upload_chunk(self, final: bool = False) -> None:
        assert self._writing is not None
        data = self.buffer.getvalue()
        if not final:
            await self._writing.feed(data)
            return
        self._writing.keep(data)
        writing, self._writing = self._writing, None
        await writing.finish()

    async def discard(self) -> None:
        """What was there before stays."""
        writing, self._writing = self._writing, None
        self.closed = True
        if writing is not None:
            await writing.abort()

    async def close(self) -> None:
        try:
            await super().close()
        except BaseException:
            await self.discard()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self.mode != "rb":
            await self.discard()
        else:
            await self.close()

    def __del__(self) -> None:
        writing = getattr(self, "_writing", None)
        if not self.closed and writing is not None:
            warnings.warn(f"{self!r} was not closed, so it is not written", ResourceWarning, 2)
            self.fs._forget(writing)
        self.closed = True


class TextFile(io.TextIOWrapper):
    """Text over a file that is being written: an exception in the block reaches that file."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            _discard(self.buffer)
        else:
            self.close()

    def __del__(self) -> None:
        if not self.buffer.closed:
            _discard(self.buffer)


class PackedFile(io.RawIOBase):
    """A compressor over a file that is being written: closed together, discarded together."""

    def __init__(self, packer: io.BufferedIOBase, target: TroveFile) -> None:
        self._packer = packer
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._packer.write(data)  # type: ignore[arg-type]  # any buffer, as io says

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        try:
            self._packer.close()
        except BaseException:
            self._target.discard()
            raise
        self._target.close()

    def discard(self) -> None:
        if not self.closed:
            super().close()
        self._target.discard()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()
        else:
            self.close()

    def __del__(self) -> None:
        if not self.closed:
            self.discard()


def _discard(file: object) -> None:
    discard = getattr(file, "discard", None)
    if discard is not None:
        discard()
