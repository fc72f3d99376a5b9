"""Bytes in and out: whole objects, ranges, local files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol, Unpack, cast

from trove_async import InvalidRangeError, MiB, ObjectNotFoundError, Progress, Trove
from trove_async.fsspec.entries import split
from trove_async.fsspec.lookup import Lookup
from trove_async.fsspec.sdk import DEFAULT_CALLBACK, Callback, isfilelike, run_in_chunks
from trove_async.fsspec.writing import PutArguments, create

__all__ = ["Transfer"]

OnProgress = Callable[[Progress], object]
Value = bytes | bytearray | memoryview
Mode = str
"""``overwrite``, or ``create``: FileExistsError when it is there."""


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Transfer(Lookup):
    # -- reads -----------------------------------------------------------------------------

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bounds as those of a slice, negative ones from the end; what is past it is cut."""
        bucket, key = split(self._strip_protocol(path))
        store = await self._store()
        wanted = await self._slice(store, bucket, key, start, end)
        if wanted is None:
            return await store.get_bytes(bucket, key)
        try:
            return await store.get_bytes(bucket, key, range=wanted)
        except InvalidRangeError:
            return b""

    async def _slice(
        self, store: Trove, bucket: str, key: str, start: int | None, end: int | None
    ) -> slice | None:
        """None: all of it. The size is only asked where it decides."""
        low = start or 0
        if end is None:
            return slice(low, None) if low else None
        if low < 0 or end < 0:
            size = (await store.head(bucket, key)).size
            low = max(0, size + low) if low < 0 else low
            end = max(0, size + end) if end < 0 else end
        return slice(low, max(low, end))

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Sequence[int | None] | int | None,
        ends: Sequence[int | None] | int | None,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
    ) -> list[bytes | BaseException]:
        """Ranges of one object, all of one version of it; those at most ``max_gap`` bytes (1 MiB)
        apart are one request."""
        if not isinstance(paths, list):
            raise TypeError("cat_ranges takes a list of paths")
        lows = starts if isinstance(starts, Sequence) else [starts] * len(paths)
        highs = ends if isinstance(ends, Sequence) else [ends] * len(paths)
        if not len(paths) == len(lows) == len(highs):
            raise ValueError("as many starts and ends as paths")
        groups: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            groups.setdefault(self._strip_protocol(path), []).append(number)
        out: list[bytes | BaseException] = [b""] * len(paths)
        found = await run_in_chunks(
            [
                self._ranges(path, [(lows[n], highs[n]) for n in numbers], max_gap)
                for path, numbers in groups.items()
            ],
            batch_size=batch_size or self.batch_size,
            nofiles=True,
            return_exceptions=True,
        )
        for numbers, got in zip(groups.values(), found, strict=True):
            for place, number in enumerate(numbers):
                out[number] = got if isinstance(got, BaseException) else got[place]
        if on_error != "return":
            for item in out:
                if isinstance(item, BaseException):
                    raise item
        return out

    async def _ranges(
        self, path: str, bounds: Sequence[tuple[int | None, int | None]], gap: int | None
    ) -> list[bytes]:
        if len(bounds) == 1:
            return [await self._cat_file(path, *bounds[0])]
        bucket, key = split(path)
        store = await self._store()
        wanted = [await self._slice(store, bucket, key, *bound) for bound in bounds]
        spans = [slice(0, None) if span is None else span for span in wanted]
        try:
            return await store.get_ranges(bucket, key, spans, coalesce=MiB if gap is None else gap)
        except InvalidRangeError:  # one begins past the end
            size = (await store.head(bucket, key)).size
            inside = [span if span.start < size else slice(0, 0) for span in spans]
            return await store.get_ranges(bucket, key, inside, coalesce=MiB if gap is None else gap)

    async def _get_file(
        self,
        rpath: str,
        lpath: str | os.PathLike[str] | Writable,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: Writable | None = None,
    ) -> None:
        """The file appears whole, or not at all. ``lpath`` may be an open file."""
        bucket, key = split(self._strip_protocol(rpath))
        into = lpath if isfilelike(lpath) else outfile
        if into is not None:
            await self._pour(bucket, key, cast("Writable", into), callback)
            return
        where = os.fspath(cast("str | os.PathLike[str]", lpath))
        if key and not (os.path.isdir(where) and await self._isdir(rpath)):
            store = await self._store()
            try:
                await store.download(bucket, key, where, on_progress=_told(callback))
                return
            except ObjectNotFoundError:
                if not await self._isdir(rpath):
                    raise
        os.makedirs(where, exist_ok=True)

    async def _pour(self, bucket: str, key: str, into: Writable, callback: Callback) -> None:
        store = await self._store()
        async with store.get(bucket, key) as reader:
            callback.set_size(reader.info.size)
            async for chunk in reader:
                into.write(chunk)
                callback.relative_update(len(chunk))

    # -- writes ----------------------------------------------------------------------------

    async def _pipe_file(
        self, path: str, value: Value, mode: Mode = "overwrite", **put: Unpack[PutArguments]
    ) -> None:
        path = self._strip_protocol(path)
        bucket, key = split(path)
        if self._intrans:
            self._defer(path, value, mode, put)
            return
        store = await self._store()
        if mode == "create":
            await create(store, bucket, key, lambda: value, put)
        else:
            await store.put(bucket, key, value, **put)
        self.invalidate_cache(path)

    async def _put_file(
        self,
        lpath: str | os.PathLike[str],
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: Mode = "overwrite",
        **put: Unpack[PutArguments],
    ) -> None:
        """In a transaction the file is read when that is committed."""
        if os.path.isdir(lpath):
            await self._makedirs(rpath, exist_ok=True)
            return
        path = self._strip_protocol(rpath)
        bucket, key = split(path)
        if self._intrans:
            os.stat(lpath)
            self._defer(path, os.fspath(lpath), mode, put)
            return
        store = await self._store()
        if mode == "create" and await store.exists(bucket, key):
            raise FileExistsError(path)
        await store.upload(bucket, key, lpath, on_progress=_told(callback), **put)
        self.invalidate_cache(path)

    def _defer(self, path: str, value: Value | str, mode: Mode, put: PutArguments) -> None:
        self.transaction.files.append(Deferred(self, path, value, mode, put))


class Deferred:
    """A write of a transaction, until it ends."""

    def __init__(
        self, fs: Transfer, path: str, value: Value | str, mode: Mode, put: PutArguments
    ) -> None:
        self._fs = fs
        self._path = path
        self._value = value
        self._mode = mode
        self._put = put

    def commit(self) -> None:
        fs = self._fs
        was, fs._intrans = fs._intrans, False
        try:
            write = fs.put_file if isinstance(self._value, str) else fs.pipe_file
            first = (self._value, self._path) if write == fs.put_file else (self._path, self._value)
            write(*first, mode=self._mode, **self._put)
        finally:
            fs._intrans = was

    def discard(self) -> None:
        self._value = b""


def _told(callback: Callback) -> OnProgress | None:
    """Progress of ours as fsspec's; None where nobody listens."""
    if callback is DEFAULT_CALLBACK:
        return None

    def tell(progress: Progress) -> None:
        if progress.total is not None:
            callback.set_size(progress.total)
        callback.absolute_update(progress.bytes)

    return tell
