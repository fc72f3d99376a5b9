"""A file system that fails, is slow, writes short or kills the process, at a call of choice.

Put it under a local driver: ``LocalDriver(config, FaultFS())``. Every system call the driver
makes is one numbered call here, so "fail the 1st call, then the 2nd, ... until it succeeds"
visits each of them.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial, wraps
from typing import Any, Final

from trove_async.drivers.local.fs import FS, MediumKind

__all__ = [
    "CALLS",
    "CHANGES",
    "Fault",
    "FaultFS",
    "dies",
    "dies_within",
    "fails",
    "fails_after",
    "interrupted",
    "short",
    "slow",
]

CALLS: Final = tuple(
    name
    for name, value in vars(FS).items()
    if callable(value) and not name.startswith("_") and name not in ("medium", "umask")
)
"""Every call, by the name of its method."""
CHANGES: Final = frozenset(
    {
        *("writev", "copy_file_range", "fsync", "utime", "chmod", "setxattr", "removexattr"),
        *("rename", "rename_new", "unlink", "mkdir", "rmdir", "open"),
    }
)
"""Those that can change what is on the disk."""

_OF_A_FILE: Final = frozenset({*CHANGES - {"open"}, "close", "pread", "fstat", "getxattr"}) - {
    *("rename", "rename_new", "unlink", "mkdir", "rmdir", "copy_file_range")
}

Fault = Callable[[str, Callable[[], Any], tuple[Any, ...]], Any]
"""What happens in place of a call: its name, the real call, its arguments after ``self``."""


def fails(number: int) -> Fault:
    """The call does nothing and raises; only a close that fails has closed all the same."""

    def fault(name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        if name == "close":
            real()
        raise OSError(number, os.strerror(number))

    return fault


def fails_after(number: int) -> Fault:
    """The call does its work, then raises: the reply was lost. Not for calls that give a
    descriptor."""

    def fault(name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        real()
        raise OSError(number, os.strerror(number))

    return fault


def short(name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
    """Moves half of the bytes it was asked for, at least one."""
    match name:
        case "writev":
            fd, buffers = arguments
            length = sum(map(len, buffers))
            if length > 1:
                return os.writev(fd, _head(buffers, length // 2))
        case "pread":
            fd, size, offset = arguments
            return os.pread(fd, max(1, size // 2), offset)
        case "copy_file_range":
            source, target, size, offset = arguments
            return os.copy_file_range(source, target, max(1, size // 2), offset)
    return real()


def _head(
    buffers: Sequence[bytes | bytearray | memoryview], length: int
) -> list[bytes | bytearray | memoryview]:
    taken: list[bytes | bytearray | memoryview] = []
    for buffer in buffers:
        taken.append(buffer[:length])
        length -= len(taken[-1])
        if not length:
            break
    return taken


def interrupted(name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
    """EINTR, as a signal handler without restart gives it."""
    if name == "close":
        return real()
    raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))


def slow(seconds: float) -> Fault:
    def fault(name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        time.sleep(seconds)
        return real()

    return fault


def dies(code: int) -> Fault:
    """The process ends in place of the call, with no clean-up whatever."""

    def fault(name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        os._exit(code)

    return fault


def dies_within(code: int) -> Fault:
    """The process ends in the middle of the call, where it has a middle; else after it."""

    def fault(name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        short(name, real, arguments)
        os._exit(code)

    return fault


class FaultFS(FS):
    """Counts every call, and lets a `Fault` take the place of those that were chosen.

    ``medium`` overrides what the driver finds out about the disk: ``slow`` sends every call
    through its workers, ``memory`` keeps small ones on the event loop."""

    def __init__(self, medium: MediumKind | None = None) -> None:
        self._medium = medium
        self._guard = threading.Lock()
        self._fault: Fault | None = None
        self._first = self._last = 0
        self._only: Collection[str] = ()
        self.log: list[str] = []
        """The calls since the last `arm` or `disarm`, by name and in order."""
        self.struck: list[str] = []
        """Those of them that a fault took the place of."""
        self.counts: Counter[str] = Counter()
        """All calls ever, by name."""
        self.open_now: set[int] = set()
        """Descriptors that were opened here and not closed yet."""
        self.stale: list[int] = []
        """Descriptors that were closed here twice, or used after their close."""

    def arm(
        self, fault: Fault, *, at: int = 1, times: int | None = 1, only: Collection[str] = ()
    ) -> None:
        """From the ``at``-th call on, of those in ``only`` if it is given, ``times`` calls have
        the fault; None: all that follow."""
        with self._guard:
            self._fault = fault
            self._first = at
            self._last = at + times - 1 if times is not None else 1 << 62
            self._only = only
            self._seen = 0
            self.log = []
            self.struck = []

    def disarm(self) -> None:
        with self._guard:
            self._fault = None
            self.log = []

    def medium(self, device: int) -> MediumKind:
        return self._medium if self._medium is not None else super().medium(device)

    def _take(self, name: str) -> Fault | None:
        with self._guard:
            self.counts[name] += 1
            self.log.append(name)
            if self._fault is None or (self._only and name not in self._only):
                return None
            self._seen += 1
            if not self._first <= self._seen <= self._last:
                return None
            self.struck.append(name)
            return self._fault

    def _uses(self, name: str, fd: int) -> None:
        """Called before the call: right after a close its number may be another's."""
        with self._guard:
            if fd not in self.open_now:
                self.stale.append(fd)
            elif name == "close":
                self.open_now.discard(fd)

    def _opened(self, fd: int) -> None:
        with self._guard:
            self.open_now.add(fd)


def _through(name: str) -> Callable[..., Any]:
    real = getattr(FS, name)

    @wraps(real)
    def call(self: FaultFS, *arguments: Any, **options: Any) -> Any:
        fault = self._take(name)
        if name in _OF_A_FILE:
            self._uses(name, arguments[0])
        bound = partial(real, self, *arguments, **options)
        result = bound() if fault is None else fault(name, bound, arguments)
        if name in ("open", "open_beneath"):
            self._opened(result)
        return result

    return call


for _name in CALLS:
    setattr(FaultFS, _name, _through(_name))
