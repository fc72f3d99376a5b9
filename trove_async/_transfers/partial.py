"""A file that is being written under another name, and renamed into place once it is whole.

A kept one has a record beside it: of which object it is a start, and the digest of what was
written, so that it goes on only from bytes that are proven to be there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Final, TypeVar

from trove_async._chunks import Bytes, Digest
from trove_async._threads import io_pool, settle
from trove_async.driver.records import seal, unseal
from trove_async.errors import ConflictError, CorruptMetadataError, InvalidInputError

try:
    import fcntl
except ImportError:  # not on this system: then nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["Partial"]

R = TypeVar("R")

_FOLDER: Final = getattr(os, "O_DIRECTORY", 0) | os.O_RDONLY
_PIECE: Final = 1 << 20
_LONGEST: Final = 4096  # bytes of a record


class Partial:
    """``source``: text that names the object, for one that is kept; None: gone unless it is
    published. Every job in a worker ends before its caller goes on."""

    def __init__(self, path: str, source: str | None) -> None:
        self._source = source
        folder, name = os.path.split(os.path.abspath(path))
        folder = os.path.realpath(folder)
        self._final = os.path.join(folder, name)
        if source is None:
            word = os.urandom(8).hex()
        else:
            word = sha256(f"{source}\0{name}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._folder = folder
        self._path = os.path.join(folder, f".trove-{word}.part")
        self._record = f"{self._path}.record"
        self._fd = -1
        self._marked = False
        self._writing: asyncio.Future[None] | None = None
        self.etag = ""
        self.offset = 0
        """Bytes that are there and proven."""

    async def open(self) -> Digest:
        """Finds what an earlier one has kept, else begins; gives the digest of what is there.
        ConflictError while another process writes it; OSError."""
        final = self._final
        if os.path.exists(final) and not (os.path.isfile(final) or os.path.islink(final)):
            raise InvalidInputError("only a file can be downloaded to")
        return await self._run(self._open)

    def _open(self) -> Digest:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        if self._source is None:
            flags |= os.O_EXCL
        fd = os.open(self._path, flags, 0o666)  # less the umask, as any new file
        self._fd = fd
        digest = Digest("blake3")
        if self._source is None:
            return digest
        if fcntl is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                self._fd = -1
                raise ConflictError("another process downloads to this file") from None
        known = self._known()
        if known is not None:
            etag, offset, text = known
            self._hash(digest, offset)
            if digest.count == offset and digest.text == text:
                self.etag, self.offset = etag, offset
            else:
                digest = Digest("blake3")
        os.ftruncate(fd, self.offset)
        os.lseek(fd, self.offset, os.SEEK_SET)
        return digest

    def _known(self) -> tuple[str, int, str] | None:
        try:
            with open(self._record, "rb") as file:
                fields = unseal(file.read(_LONGEST))
            if fields["source"] != self._source:
                return None
            return str(fields["etag"]), int(fields["offset"]), str(fields["digest"])
        except (OSError, CorruptMetadataError, KeyError, ValueError, TypeError):
            return None  # no record, or none of ours: nothing is taken over

    def _hash(self, digest: Digest, size: int) -> None:
        position = 0
        while position < size and (
            data := os.pread(self._fd, min(_PIECE, size - position), position)
        ):
            digest.update(data)
            position += len(data)

    async def hashed(self, digest: Digest) -> None:
        """Feeds another digest what is there."""
        await self._run(lambda: self._hash(digest, self.offset))

    async def restart(self) -> None:
        """Nothing is there any more."""

        def job() -> None:
            with suppress(FileNotFoundError):
                os.unlink(self._record)
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)

        await self.written()
        self.etag, self.offset = "", 0
        self._marked = False
        await self._run(job)

    async def write(self, data: Bytes) -> None:
        """Returns once the write before this one is done: so reading goes on meanwhile.
        ``data`` is the file's until the next call."""
        await self.written()

        def job() -> None:
            view = memoryview(data)
            while len(view):
                view = view[os.write(self._fd, view) :]

        self._writing = asyncio.get_running_loop().run_in_executor(io_pool(), job)
        self.offset += len(data)

    async def written(self) -> None:
        if self._writing is not None:
            job, self._writing = self._writing, None
            await settle(job)

    async def mark(self, etag: str, digest: str) -> None:
        """What was written so far is kept if this process ends now. Only the process: what a
        power cut leaves is found out by the digest."""
        await self.written()
        fields = {"source": self._source, "etag": etag, "offset": self.offset, "digest": digest}

        def job() -> None:
            new = f"{self._record}.new"
            with open(new, "wb") as file:
                file.write(seal(fields))
            os.replace(new, self._record)

        await self._run(job)
        self._marked = True

    async def publish(self) -> None:
        """On disk, then in place."""
        await self.written()

        def job() -> None:
            os.fsync(self._fd)
            os.replace(self._path, self._final)
            with suppress(FileNotFoundError):
                os.unlink(self._record)
            folder = os.open(self._folder, _FOLDER)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

        await self._run(job)

    async def close(self, *, keep: bool) -> None:
        """``keep``: what has a `mark`. After `publish` there is nothing left to keep."""
        keep = keep and (self._marked or self.etag != "")
        fd = self._fd
        if fd < 0:
            return

        def job() -> None:
            if not keep:
                for path in (self._path, self._record):
                    with suppress(FileNotFoundError):
                        os.unlink(path)
            self._fd = -1
            os.close(fd)

        try:
            with suppress(OSError):  # told already
                await self.written()
        finally:
            await self._run(job)

    async def _run(self, job: Callable[[], R]) -> R:
        return await settle(asyncio.get_running_loop().run_in_executor(io_pool(), job))
