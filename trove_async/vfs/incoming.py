"""The reading half of a file: one version of an object, through a window of it in memory."""

from __future__ import annotations

from typing import Final

from trove_async._chunks import Digest
from trove_async.errors import (
    ChecksumMismatchError,
    ObjectChangedError,
    PreconditionFailedError,
    TruncatedError,
)
from trove_async.model import KiB, MiB, ObjectInfo
from trove_async.vfs.store import Reader, Store

__all__ = ["FIRST", "LARGEST", "Incoming"]

FIRST: Final = 64 * KiB
"""Bytes of the first request, and of the first one after a seek."""
LARGEST: Final = 8 * MiB
"""Bytes that one request reads ahead at most."""


class Incoming:
    """Every request is for bytes that are not in the window, and pinned to the etag of the
    first: the bytes are those of one version, or ObjectChangedError.

    Requests that follow each other ask for twice as much each time. As long as they began at
    the first byte and left out none, the content of a plain object is checked against the
    recorded digest before its last bytes are given."""

    def __init__(self, store: Store, bucket: str, key: str, read_ahead: int) -> None:
        self._store = store
        self._bucket = bucket
        self._key = key
        self._largest = read_ahead
        self._ahead = min(FIRST, read_ahead)
        self._window = b""
        self._start = 0
        self._digest: Digest | None = None
        self._hashed = 0
        self.info: ObjectInfo | None = None
        self.position = 0

    @property
    def size(self) -> int:
        assert self.info is not None
        return self.info.size

    @property
    def _end(self) -> int:
        return self._start + len(self._window)

    async def open(self) -> None:
        """The first request. It tells what there is to be told of the object."""
        data = await self._fetch(0, max(self._ahead, 1))
        assert self.info is not None
        self._window = data

    def seek(self, position: int) -> None:
        self.position = position

    async def read(self, n: int) -> bytes:
        """``n`` bytes from the position on, fewer only at the end. Cancelled, nothing is lost:
        the position is where it was."""
        start = self.position
        stop = self.size if n < 0 else min(start + n, self.size)
        if stop <= start:
            return b""
        if self._start <= start and stop <= self._end:
            data = self._window[start - self._start : stop - self._start]
        else:
            data = await self._beyond(start, stop)
        self.position = stop
        return data

    async def more(self) -> bytes:
        """What is in the window from the position on, else what the next request brings."""
        if not self._start <= self.position < self._end:
            await self._fill(self.position, self.position + 1)
        data = self._window[self.position - self._start :]
        self.position += len(data)
        return data

    async def _beyond(self, start: int, stop: int) -> bytes:
        if not self._start <= start < self._end:
            await self._fill(start, stop)
            return self._window[: stop - start]
        held = self._window[start - self._start :]
        await self._fill(self._end, stop)
        return held + self._window[: stop - start - len(held)]

    async def _fill(self, start: int, stop: int) -> None:
        """A new window from ``start`` to at least ``stop``."""
        if start >= self.size:
            return
        follows = start == self._end
        ahead = min(2 * self._ahead, self._largest) if follows else min(FIRST, self._largest)
        stop = min(max(stop, start + ahead), self.size)
        data = await self._fetch(start, stop)
        self._window, self._start, self._ahead = data, start, ahead

    async def _fetch(self, start: int, stop: int) -> bytes:
        pin = self.info.etag or None if self.info is not None else None
        where = {"bucket": self._bucket, "key": self._key, "operation": "read"}
        try:
            reader = await self._store.get(
                self._bucket, self._key, range=slice(start, stop), if_match=pin
            )
        except PreconditionFailedError as exc:
            raise ObjectChangedError("the file was replaced since it was opened", **where) from exc
        try:
            self._look(reader)
            data = await reader.read()
        finally:
            await reader.aclose()
        wanted = min(stop, self.size) - start
        if len(data) != wanted:
            raise TruncatedError(f"{len(data)} bytes came of {wanted}", **where)
        await self._check(start, data)
        return data

    def _look(self, reader: Reader) -> None:
        if self.info is None:
            self.info = reader.info
            info = reader.info
            # Frames of other encodings prove themselves; a watermark makes the size another.
            if info.checksum is not None and info.encodings == () and info.size == info.stored_size:
                self._digest = Digest(info.checksum.partition(":")[0])
        elif reader.info.etag != self.info.etag:  # a server that ignores conditions
            raise ObjectChangedError(
                "the file was replaced since it was opened", bucket=self._bucket, key=self._key
            )

    async def _check(self, start: int, data: bytes) -> None:
        digest = self._digest
        if digest is None or start != self._hashed:
            return
        self._digest = None  # a cancel in the middle of it leaves nothing that can be gone on with
        await digest.feed(data)
        assert self.info is not None
        self._hashed += len(data)
        if self._hashed < self.size:
            self._digest = digest
        elif digest.text != self.info.checksum:
            raise ChecksumMismatchError(
                f"the content has {digest.text}, {self.info.checksum} was recorded",
                bucket=self._bucket,
                key=self._key,
            )

    def close(self) -> None:
        self._window = b""
        self._digest = None
