"""The private folder: staging that no other process touches, and what is swept from it."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import threading
from contextlib import suppress
from typing import Final

from trove_async.drivers.local.fs import FS

__all__ = ["STATE", "Room", "clear", "sweep_rooms"]

STATE: Final = b".trove"
_LOCK: Final = b"lock"
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Room:
    """A folder of our own below ``.trove/tmp``, held by a lock as long as anybody uses it.

    What is left in one whose lock is free belongs to nobody: the next driver removes it."""

    def __init__(self, fs: FS, rooms: int, name: bytes, fd: int, lock: int) -> None:
        self._fs = fs
        self._rooms = rooms
        self._name = name
        self._lock = lock
        self.fd = fd
        self._numbers = itertools.count(1)
        self._users = 1
        self._guard = threading.Lock()

    @classmethod
    def enter(cls, fs: FS, rooms: int) -> Room:
        """A new locked room below the open directory ``rooms``, which it then owns."""
        while True:
            name = f"{os.getpid()}-{secrets.token_hex(8)}".encode()
            fs.mkdir(name, 0o700, rooms)
            fd = lock = -1
            try:
                fd = fs.open(name, DIRECTORY, at=rooms)
                lock = fs.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, at=fd)
                if fs.try_lock_file(lock):
                    there = fs.stat(_LOCK, fd)
                    if there.st_ino == fs.fstat(lock).st_ino:
                        return cls(fs, rooms, name, fd, lock)
            except FileNotFoundError:
                pass  # swept between its making and its locking: make another
            except BaseException:
                cls._leave(fs, rooms, name, fd, lock)
                raise
            cls._leave(fs, rooms, name, fd, lock)

    @staticmethod
    def _leave(fs: FS, rooms: int, name: bytes, fd: int, lock: int) -> None:
        with suppress(OSError):  # what stays is swept at the next open
            clear(fs, name, rooms)
        for held in (lock, fd):
            if held >= 0:
                with suppress(OSError):
                    fs.close(held)

    def new_name(self) -> bytes:
        return b"%x" % next(self._numbers)

    def join(self) -> Room:
        """One more user: the room outlives the driver's close until that one leaves."""
        with self._guard:
            self._users += 1
        return self

    def leave(self) -> None:
        with self._guard:
            self._users -= 1
            if self._users:
                return
        self._leave(self._fs, self._rooms, self._name, self.fd, self._lock)
        with suppress(OSError):
            self._fs.close(self._rooms)


def clear(fs: FS, name: bytes, at: int) -> None:
    """Removes a folder of the private state and all below it; what is gone is no error."""
    try:
        fd = fs.open(name, DIRECTORY, at=at)
    except FileNotFoundError:
        return
    try:
        for entry in list(fs.scandir(fd)):
            raw = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                clear(fs, raw, fd)
            elif raw != _LOCK:
                with suppress(FileNotFoundError):
                    fs.unlink(raw, fd)
        with suppress(FileNotFoundError):
            fs.unlink(_LOCK, fd)  # last: while it is there the folder can be taken over
    finally:
        fs.close(fd)
    try:
        fs.rmdir(name, at)
    except FileNotFoundError:
        pass
    except OSError as exc:
        if exc.errno != errno.ENOTEMPTY:
            raise  # else somebody writes into it: the next sweep sees it


def sweep_rooms(fs: FS, rooms: int) -> None:
    """Removes what processes left that are gone. It may be killed itself and run again."""
    for entry in list(fs.scandir(rooms)):
        name = os.fsencode(entry.name)
        if not entry.is_dir(follow_symlinks=False):
            continue
        with suppress(OSError):  # a room that cannot be swept now is swept another time
            _sweep(fs, rooms, name)


def _sweep(fs: FS, rooms: int, name: bytes) -> None:
    lock = _open_lock(fs, rooms, name)
    if lock is None:
        try:
            fs.rmdir(name, rooms)  # its owner is between mkdir and lock, or gone
            return
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:
                raise
        lock = _open_lock(fs, rooms, name)
        if lock is None:  # files but no lock, which comes first: a power cut took it
            clear(fs, name, rooms)
            return
    try:
        if fs.try_lock_file(lock):
            clear(fs, name, rooms)
    finally:
        fs.close(lock)


def _open_lock(fs: FS, rooms: int, name: bytes) -> int | None:
    fd = fs.open(name, DIRECTORY, at=rooms)
    try:
        return fs.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, at=fd)
    except FileNotFoundError:
        return None
    finally:
        fs.close(fd)
