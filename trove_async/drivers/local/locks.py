"""Exclusion by key, between threads and between processes."""

from __future__ import annotations

import errno
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from trove_async.drivers.local.fs import FS
from trove_async.drivers.local.names import STRIPES

__all__ = ["UPLOADS", "KeyLocks"]

UPLOADS: Final = STRIPES
"""First of as many stripes for uploads; they are taken before the stripe of a key."""


class _Held:
    __slots__ = ("_fd", "_fs", "_mutex", "_stripe", "_wait")

    def __init__(self, fs: FS, fd: int, mutex: threading.Lock, stripe: int, wait: bool) -> None:
        self._fs = fs
        self._fd = fd
        self._mutex = mutex
        self._stripe = stripe
        self._wait = wait

    def __enter__(self) -> None:
        if not self._mutex.acquire(self._wait):
            raise BlockingIOError(errno.EAGAIN, "another thread writes the key")
        try:
            self._fs.lock_byte(self._fd, self._stripe, wait=self._wait)
        except BaseException:
            self._mutex.release()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(OSError):  # what was done under it stands; close ends it at the latest
                self._fs.unlock_byte(self._fd, self._stripe)
        finally:
            self._mutex.release()


class KeyLocks:
    """Byte n of one file is the lock of stripe n.

    A lock of the open file keeps other processes out and other drivers of this process, but
    not our own threads: those meet at a lock in memory first."""

    def __init__(self, fs: FS, fd: int) -> None:
        self._fs = fs
        self._fd = fd
        self._threads = [threading.Lock() for _ in range(2 * STRIPES)]

    def hold(self, stripe: int, *, wait: bool = True) -> _Held:
        """In a worker thread only, and never while a body is read. Without ``wait`` it may be
        used anywhere, and entering raises BlockingIOError when another holds the lock."""
        return _Held(self._fs, self._fd, self._threads[stripe], stripe, wait)

    @contextmanager
    def hold_all(self, *stripes: int) -> Generator[None, None, None]:
        """Several, in rising order, so that two callers never wait for each other."""
        with ExitStack() as stack:
            for stripe in sorted(set(stripes)):
                stack.enter_context(self.hold(stripe))
            yield
