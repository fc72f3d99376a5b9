"""One SSH connection with one SFTP channel, and what can be asked over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from trove_async._threads import settle
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer, Channel, Lost
from trove_async.drivers.sftp.sdk import asyncssh
from trove_async.drivers.sftp.wire import Attributes, Failure, Name
from trove_async.errors import BackendError

__all__ = ["Link", "attributes", "text_of"]

_UNTOLD: Final = 32 * 1024  # what every server reads or writes at once
_MOST: Final = 255 * 1024
_GRACE: Final = 2.0


class Link:
    """``load`` is how much goes on over it; the pool evens that out."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        channel: Channel,
        extensions: dict[bytes, bytes],
    ) -> None:
        self._connection = connection
        self.channel = channel
        self.extensions = extensions
        self.load = 0
        self.max_read = _UNTOLD
        self.max_write = _UNTOLD
        self.ask = channel.ask
        self.tell = channel.tell
        self.all_of = channel.all_of

    @property
    def is_openssh(self) -> bool:
        version = self._connection.get_extra_info("server_version", "")
        return str(version).startswith("SSH-2.0-OpenSSH_")

    @property
    def is_lost(self) -> bool:
        return self.channel.lost is not None

    async def measure(self) -> None:
        """The most that the server reads and writes at once (limits@openssh.com)."""
        if b"limits@openssh.com" not in self.extensions:
            return
        answer = await self.ask(wire.EXTENDED, wire.extended(b"limits@openssh.com", b""))
        if isinstance(answer, bytes) and len(answer) >= 32:
            _, most_read, most_write, _ = wire.numbers_of(answer)[:4]
            self.max_read = min(_MOST, most_read or _UNTOLD)
            self.max_write = min(_MOST, most_write or _UNTOLD)

    # -- questions: the answer is a value, `Failure` included ----------------------------------

    def lstat(self, path: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.LSTAT, wire.path_request(path))

    def fstat(self, handle: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.FSTAT, wire.close(handle))

    def open(self, path: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.OPEN, wire.open_file(path, wire.FOR_READING))

    def create(self, path: bytes, mode: int | None = None) -> asyncio.Future[Answer]:
        """A file for writing that must not be there yet."""
        flags = wire.FOR_WRITING | wire.CREATE | wire.EXCLUSIVE
        return self.ask(wire.OPEN, wire.open_file(path, flags, mode))

    def read(self, handle: bytes, offset: int, size: int) -> asyncio.Future[Answer]:
        return self.ask(wire.READ, wire.read(handle, offset, size))

    def write(self, handle: bytes, offset: int, data: bytes | memoryview) -> asyncio.Future[Answer]:
        return self.ask(wire.WRITE, wire.write_head(handle, offset, len(data)), data)

    def write_pieces(self, handle: bytes, data: bytes) -> list[asyncio.Future[Answer]]:
        """All of it, from the beginning of the file."""
        view, size = memoryview(data), self.max_write
        return [
            self.write(handle, start, view[start : start + size])
            for start in range(0, len(data), size)
        ]

    def stamp(self, handle: bytes, mtime: int) -> asyncio.Future[Answer]:
        return self.ask(wire.FSETSTAT, wire.fsetstat_times(handle, mtime))

    def fsync(self, handle: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.EXTENDED, wire.extended(b"fsync@openssh.com", wire.close(handle)))

    def close_file(self, handle: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.CLOSE, wire.close(handle))

    def rename(self, source: bytes, target: bytes) -> asyncio.Future[Answer]:
        """Over what is there, at once (posix-rename@openssh.com)."""
        paths = wire.two_paths(source, target)
        request = wire.extended(b"posix-rename@openssh.com", paths)
        return self.channel.ask_firmly(wire.EXTENDED, request)

    def rename_new(self, source: bytes, target: bytes) -> asyncio.Future[Answer]:
        """The rename of version 3: with most servers it fails when the target is there."""
        return self.channel.ask_firmly(wire.RENAME, wire.two_paths(source, target))

    def link_to(self, source: bytes, target: bytes) -> asyncio.Future[Answer]:
        """A second name for a file, which must not be there yet (hardlink@openssh.com)."""
        paths = wire.two_paths(source, target)
        request = wire.extended(b"hardlink@openssh.com", paths)
        return self.channel.ask_firmly(wire.EXTENDED, request)

    def make_symlink(self, text: bytes, path: bytes) -> asyncio.Future[Answer]:
        """A symbolic link at ``path``, which must not be there yet; in OpenSSH's order, which is
        not that of the draft."""
        return self.ask(wire.SYMLINK, wire.two_paths(text, path))

    def read_symlink(self, path: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.READLINK, wire.path_request(path))

    def remove(self, path: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.REMOVE, wire.path_request(path))

    def make_folder(self, path: bytes, mode: int = 0o755) -> asyncio.Future[Answer]:
        return self.ask(wire.MKDIR, wire.make_folder(path, mode))

    def remove_folder(self, path: bytes) -> asyncio.Future[Answer]:
        return self.ask(wire.RMDIR, wire.path_request(path))

    def forget(self, *paths: bytes) -> None:
        """Removes files; nobody waits for it, and what is not there is no error."""
        for path in paths:
            self.tell(wire.REMOVE, wire.path_request(path))

    def let_go(self, *handles: bytes) -> None:
        for handle in handles:
            self.tell(wire.CLOSE, wire.close(handle))

    # -- small conversations -------------------------------------------------------------------

    async def stat(self, path: bytes) -> Attributes | None:
        """None: nothing is there. A link is not followed."""
        return attributes(await self.lstat(path))

    async def entries(self, path: bytes) -> list[Name] | None:
        """All of a folder but ``.`` and ``..``; None: there is no such folder."""
        found: list[Name] = []
        return found if await self.scan(path, found.extend) else None

    async def scan(self, path: bytes, take: Callable[[list[Name]], None]) -> bool:
        """Gives ``take`` the entries of a folder as they come. False: there is none."""
        (handle,) = await self.all_of([self.ask(wire.OPENDIR, wire.path_request(path))])
        if isinstance(handle, Failure) and handle.code == wire.NO_SUCH_FILE:
            return False
        if not isinstance(handle, bytes):
            raise handle or Failure(wire.BAD_MESSAGE)
        try:
            while True:  # several at a time: the server answers them in order
                asked = [self.ask(wire.READDIR, wire.close(handle)) for _ in range(4)]
                answers = await self.all_of(asked)
                for answer in answers:
                    if isinstance(answer, bytes):
                        names = _names(answer)
                        take([one for one in names if one.name not in (b".", b"..")])
                    elif answer is None or answer.code != wire.EOF:
                        raise answer or Failure(wire.BAD_MESSAGE)
                if not isinstance(answers[-1], bytes):
                    return True
        finally:
            self.let_go(handle)

    async def read_all(self, handle: bytes, first: Answer, most: int) -> bytes:
        """All of a small file; ``first`` is the answer to a first read of `max_read`. A file is
        over where a read gives less: records have a checksum."""
        data = b""
        answer = first
        while True:
            if isinstance(answer, Failure):
                if answer.code == wire.EOF:
                    return data
                raise answer
            if not answer:
                return data
            data += answer
            if len(answer) < self.max_read:
                return data
            if len(data) > most:
                raise BackendError("a private record is much too long")
            answer = await self.read(handle, len(data), self.max_read)

    async def close(self) -> None:
        """Waits until nothing of it is left, also when cancelled."""
        self.channel.end(Lost("the driver was closed", "closed"))
        self._connection.close()
        closing = asyncio.ensure_future(self._wait())
        await settle(closing)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_GRACE):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
            await self._connection.wait_closed()

    def abort(self) -> None:
        self._connection.abort()


def attributes(answer: Answer) -> Attributes | None:
    """None: nothing is there. Raises other failures."""
    if isinstance(answer, bytes):
        try:
            return wire.attributes_of(answer)
        except ValueError as exc:
            raise Failure(wire.BAD_MESSAGE, str(exc)) from exc
    if answer is not None and answer.code == wire.NO_SUCH_FILE:
        return None
    raise answer or Failure(wire.BAD_MESSAGE)


def text_of(answer: bytes) -> bytes:
    """Of a symbolic link."""
    names = _names(answer)
    if len(names) != 1:
        raise Failure(wire.BAD_MESSAGE, "a link with more than one text")
    return names[0].name


def _names(answer: bytes) -> list[Name]:
    try:
        return wire.names_of(answer)
    except ValueError as exc:
        raise Failure(wire.BAD_MESSAGE, str(exc)) from exc
