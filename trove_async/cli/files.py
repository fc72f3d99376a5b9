"""Files of this machine: read as bodies, written whole or not at all, never outside a folder."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import sys
import unicodedata
from collections.abc import AsyncGenerator, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Folder", "Found", "Refused", "files_below", "free_name", "stdin_chunks", "writing"]

_PIECE = 256 * 1024
_HERE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DRIVE = re.compile(r"[A-Za-z]:")


class Refused(OSError):
    """A key that has no safe place below the target folder."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.strerror = why


@contextmanager
def writing(target: Path) -> Iterator[BinaryIO]:
    """A file for ``target``, put in place by one rename when the block ends without an error.

    Links are followed, as ``cp`` does; a device or pipe is written as it is.
    """
    final = Path(os.path.realpath(target))
    if final.exists() and not final.is_file():
        with final.open("wb") as stream:
            yield stream
        return
    folder = os.open(final.parent, _HERE)
    try:
        with _replacing(folder, final.name) as stream:
            yield stream
    finally:
        os.close(folder)


@contextmanager
def _replacing(folder: int, name: str) -> Iterator[BinaryIO]:
    temporary = f".trove-{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # as any new file: 0666 less the umask
    handle = os.open(temporary, flags, 0o666, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def free_name(folder: Path, name: str) -> None:
    """Raises `Refused` where a file of this name cannot stand in ``folder``, or something that
    is not a file, a link too, stands there."""
    if len(_segments(name)) != 1:
        raise Refused("a name has no '/'")
    try:
        found = os.lstat(folder / name)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{name!r} is in the way and not a file")


class Folder:
    """A folder that keys are written below. Every step down is taken without following a link,
    so neither a key nor a link planted there leads out of it."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = os.open(root, _HERE)
        self._written: dict[str, tuple[str, tuple[int, int]]] = {}

    def close(self) -> None:
        os.close(self._root)

    @contextmanager
    def writing(self, relative: str) -> Iterator[BinaryIO]:
        """Raises `Refused` before anything is written; replaces a file by one rename."""
        *parents, name = _segments(relative)
        folder = self._walk(parents)
        try:
            self._free(folder, name, relative)
            with _replacing(folder, name) as stream:
                yield stream
                stream.flush()
                self._free(folder, name, relative)
                made = os.fstat(stream.fileno())
            self._written[_folded(relative)] = relative, (made.st_dev, made.st_ino)
        finally:
            os.close(folder)

    def make(self, relative: str) -> None:
        os.close(self._walk(_segments(relative)))

    def _walk(self, parents: list[str]) -> int:
        here = os.dup(self._root)
        try:
            for part in parents:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=here)
                below = os.open(part, _HERE | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
        except OSError as exc:
            os.close(here)
            raise Refused(f"{part!r} is in the way ({exc.strerror})") from exc
        return here

    def _free(self, folder: int, name: str, relative: str) -> None:
        """Refuses to replace a folder, a link, or what another key of this run wrote under a
        name that this file system takes for the same."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{name!r} is in the way and not a file")
        other, inode = self._written.get(_folded(relative), (relative, (0, 0)))
        if other != relative and inode == (found.st_dev, found.st_ino):
            raise Refused(f"the file system takes it for {other!r}")


def _folded(relative: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", relative).casefold())


def _segments(relative: str) -> list[str]:
    parts = relative.split("/")
    for part in parts:
        if part in ("", ".", ".."):
            raise Refused("an empty, '.' or '..' segment has no place below a folder")
        if "\\" in part or _DRIVE.match(part):
            raise Refused("a backslash or drive letter means a path elsewhere")
    return parts


@dataclass(frozen=True, slots=True)
class Found:
    path: Path
    relative: str | None
    """Below the root, with ``/``. None: the name is not UTF-8, so it cannot be a key."""
    size: int
    modified: int
    """Nanoseconds."""


def files_below(root: Path, *, under: str = "", skip: Container[str] = ()) -> Iterator[Found]:
    """Regular files in order; links are not followed, folders named in ``skip`` not entered.
    ``under`` is put before their relative paths."""
    for folder, names, files in os.walk(root, onerror=_raise):
        names[:] = sorted(name for name in names if name not in skip)
        for name in sorted(files):
            path = Path(folder, name)
            try:
                about = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(about.st_mode):
                relative = _utf8(under + path.relative_to(root).as_posix())
                yield Found(path, relative, about.st_size, about.st_mtime_ns)


def _utf8(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _raise(error: OSError) -> None:
    raise error


async def stdin_chunks() -> AsyncGenerator[bytes, None]:
    """Standard input as it comes. Waits in the loop, so that a Ctrl-C ends it at once."""
    source = sys.stdin.fileno()
    while True:
        await _readable(source)
        if not (piece := os.read(source, _PIECE)):
            return
        yield piece


async def _readable(source: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(source, _arrived, ready)
    except PermissionError:
        return  # a plain file or /dev/null: epoll has nothing to wait for
    try:
        await ready
    finally:
        loop.remove_reader(source)


def _arrived(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
