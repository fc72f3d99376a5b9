"""The demo's compressed and encrypted object, and what a range of it costs."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import trove_async as trove
from trove_async import Driver, GetOptions, Middleware, RawObject
from trove_async.cli.demo_report import Report
from trove_async.cli.files import Found
from trove_async.cli.run import reason
from trove_async.cli.show import size_text
from trove_async.middleware import Compress, Encrypt, Keyring

__all__ = ["Counting", "sealed_tour"]

BUCKET, KEY = "demo-sealed", "everything"
_MOST = 64 * 1024 * 1024
_PIECE = 1024 * 1024
_RANGE = 64 * 1024
_RANGES = 25


class Counting:
    """A driver that counts the stored bytes it is asked for."""

    def __init__(self, inner: Driver) -> None:
        self.inner = inner
        self.requests = 0
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        found = await self.inner.get(bucket, key, options)
        self.requests += 1
        self.bytes += found.stop - found.start
        return found


async def sealed_tour(driver: Driver, report: Report, files: Sequence[Found]) -> None:
    """One object of all ``files``, compressed and encrypted; ranges of it, each compared."""
    source = _Source(files)
    if not source.size:
        return
    counting = Counting(driver)
    layers: list[Middleware] = [Compress(), Encrypt(Keyring.generate())]
    async with trove.open(counting, default_bucket=BUCKET, middleware=layers) as store:
        await store.create_bucket(BUCKET)
        with report.step("seal", 1) as step:
            try:
                info = await store.put(None, KEY, source.chunks())
            except (OSError, _ChangedError) as exc:
                if isinstance(exc, trove.TroveError):
                    raise
                step.note = "left out: a source file changed meanwhile"
                return
            layered = " -> ".join(info.encodings or ("none",))
            step.note = f"{layered}, {size_text(info.stored_size)}"
            report.advance(step, info.size)
        dice = random.Random(2002)
        counting.requests = counting.bytes = 0
        with report.step("sealed read", _RANGES) as step:
            for _ in range(_RANGES):
                start = dice.randrange(source.size)
                part = slice(start, min(start + _RANGE, source.size))
                piece = await store.get_bytes(None, KEY, range=part)
                try:
                    wanted = source.read(part.start, part.stop)
                except (OSError, _ChangedError) as exc:
                    step.note = reason(exc)
                    return
                if piece != wanted:
                    step.wrong(KEY, f"bytes {part.start}-{part.stop} differ from the source")
                report.advance(step, len(piece))
            fetched = size_text(counting.bytes // _RANGES)
            step.note = f"{fetched} fetched of {size_text(info.stored_size)}"
        await store.delete_bucket(BUCKET, force=True)


class _ChangedError(Exception):
    """A source file is not what it was when it was found."""


class _Source:
    """Files one after the other, as one body."""

    def __init__(self, files: Sequence[Found]) -> None:
        self._files: list[Found] = []
        total = 0
        for file in files:
            if file.size and total + file.size <= _MOST:
                self._files.append(file)
                total += file.size
        self.size = total
        self._starts = [0, *accumulate(file.size for file in self._files)]

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for file in self._files:
            for start in range(0, file.size, _PIECE):
                yield _read(file.path, start, min(_PIECE, file.size - start))

    def read(self, start: int, stop: int) -> bytes:
        parts = []
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            file, begins = self._files[index], self._starts[index]
            end = min(stop, begins + file.size)
            parts.append(_read(file.path, start - begins, end - start))
            start = end
            index += 1
        return b"".join(parts)


def _read(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(size)
    if len(data) != size:
        raise _ChangedError(f"{path} changed meanwhile")
    return data
