"""Every system call of the local driver, one thin method each.

A subclass may fail, delay or record any of them; nothing else in the driver touches files.
Paths are bytes, relative to a directory descriptor unless said otherwise.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, Literal

__all__ = ["FS", "MediumKind"]

MediumKind = Literal["memory", "cached", "slow"]
"""``memory``: no call blocks. ``cached``: what is in the page cache can be read without
blocking, and it can be told. ``slow``: neither."""

_OPENAT2: Final = 437  # the same number on every architecture
_BENEATH: Final = 0x08
_NO_SYMLINKS: Final = 0x04
_CACHED: Final = 0x20
_RENAME_NOREPLACE: Final = 1
_OFD_SETLK: Final = 37
_OFD_SETLKW: Final = 38
_LOCK = struct.Struct("hhqqi4x")
_MEDIA: Final[dict[str, MediumKind]] = {
    "tmpfs": "memory",
    "ramfs": "memory",
    "ext4": "cached",
    "xfs": "cached",
    "btrfs": "cached",
}


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_How),
    ctypes.c_size_t,
]
_fgetxattr = getattr(_libc, "fgetxattr", None)
if _fgetxattr is not None:
    _fgetxattr.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    _fgetxattr.restype = ctypes.c_ssize_t
_Attribute = ctypes.c_char * 1024
_renameat2 = getattr(_libc, "renameat2", None)
if _renameat2 is not None:
    _renameat2.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    ]
_hows: dict[tuple[int, bool], tuple[object, int]] = {}


def _how(flags: int, cached: bool) -> tuple[object, int]:
    """The constant argument of openat2, and its size; built once per kind of open."""
    resolve = _BENEATH | _NO_SYMLINKS | (_CACHED if cached else 0)
    made = _hows[flags, cached] = (
        ctypes.pointer(_How(flags | os.O_CLOEXEC, 0, resolve)),
        ctypes.sizeof(_How),
    )
    return made


class FS:
    has_openat2 = True
    """Set to False by the driver where the kernel or a sandbox refuses openat2."""

    # -- opening ---------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int = 0o600, *, at: int | None = None) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=at)

    def open_beneath(self, at: int, path: bytes, flags: int, *, cached: bool = False) -> int:
        """Opens ``path`` below the directory ``at`` without following any symlink.

        ``cached``: BlockingIOError where a directory entry would have to be read."""
        if not self.has_openat2:
            return self._walk(at, path, flags)
        how, size = _hows.get((flags, cached)) or _how(flags, cached)
        while True:
            fd: int = _syscall(_OPENAT2, at, path, how, size)
            if fd >= 0:
                return fd
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number), path)

    def _walk(self, at: int, path: bytes, flags: int) -> int:
        """As openat2 would, a component at a time."""
        *folders, leaf = path.split(b"/")
        held = at
        try:
            for folder in folders:
                below = self.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, at=held)
                held, done = below, held
                if done != at:
                    self.close(done)
            return self.open(leaf, flags | os.O_NOFOLLOW, at=held)
        finally:
            if held != at:
                self.close(held)

    def close(self, fd: int) -> None:
        os.close(fd)

    # -- bytes -----------------------------------------------------------------------------

    def writev(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        return os.writev(fd, buffers)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def preadv_nowait(self, fd: int, buffer: bytearray, offset: int) -> int:
        """Only what is in the page cache; BlockingIOError or EOPNOTSUPP when it cannot."""
        return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)

    def copy_file_range(self, source: int, target: int, size: int, offset: int) -> int:
        """From ``offset`` of the source to the target's own position."""
        return os.copy_file_range(source, target, size, offset)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    # -- names -----------------------------------------------------------------------------

    def rename(self, source: bytes, source_at: int, target: bytes, target_at: int) -> None:
        os.rename(source, target, src_dir_fd=source_at, dst_dir_fd=target_at)

    def rename_new(self, source: bytes, source_at: int, target: bytes, target_at: int) -> None:
        """As `rename`, but FileExistsError when the target exists."""
        if _renameat2 is not None:
            if _renameat2(source_at, source, target_at, target, _RENAME_NOREPLACE) == 0:
                return
            number = ctypes.get_errno()
            if number not in (errno.ENOSYS, errno.EINVAL):
                raise OSError(number, os.strerror(number), target)
        os.link(source, target, src_dir_fd=source_at, dst_dir_fd=target_at)
        os.unlink(source, dir_fd=source_at)

    def unlink(self, path: bytes, at: int) -> None:
        os.unlink(path, dir_fd=at)

    def mkdir(self, path: bytes, mode: int, at: int | None = None) -> None:
        os.mkdir(path, mode, dir_fd=at)

    def rmdir(self, path: bytes, at: int) -> None:
        os.rmdir(path, dir_fd=at)

    def entries(self, fd: int) -> list[os.DirEntry[str]]:
        """All entries of an open directory at once, without a generator between them."""
        with os.scandir(fd) as entries:
            return list(entries)

    def scandir(self, fd: int) -> Iterator[os.DirEntry[str]]:
        """Every entry of an open directory."""
        with os.scandir(fd) as entries:
            yield from entries

    # -- what is known of a file -------------------------------------------------------------

    def stat(self, path: bytes, at: int) -> os.stat_result:
        """Never follows a symlink."""
        return os.stat(path, dir_fd=at, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def utime(self, fd: int, nanoseconds: int) -> None:
        os.utime(fd, ns=(nanoseconds, nanoseconds))

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def getxattr(self, fd: int, name: str) -> bytes:
        """`os.getxattr` tries 128 bytes first, which a record exceeds, and then 64 KiB: this
        saves the second call and the large buffer."""
        if _fgetxattr is None:
            return os.getxattr(fd, name)
        buffer = _Attribute()
        size = _fgetxattr(fd, name.encode(), buffer, 1024)
        if size >= 0:
            return buffer.raw[:size]
        number = ctypes.get_errno()
        if number == errno.ERANGE:
            return os.getxattr(fd, name)
        raise OSError(number, os.strerror(number), name)

    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        os.setxattr(fd, name, value)

    def removexattr(self, fd: int, name: str) -> None:
        os.removexattr(fd, name)

    # -- locks -----------------------------------------------------------------------------

    def try_lock_file(self, fd: int) -> bool:
        """An exclusive lock on the whole file; False when another holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock_byte(self, fd: int, offset: int, *, wait: bool = True) -> None:
        """Takes byte ``offset``; the lock belongs to the open file, not to the process.
        BlockingIOError when it must not wait for another."""
        command = _OFD_SETLKW if wait else _OFD_SETLK
        try:
            fcntl.fcntl(fd, command, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
        except PermissionError as exc:  # EACCES is the other word for EAGAIN here
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock") from exc

    def unlock_byte(self, fd: int, offset: int) -> None:
        fcntl.fcntl(fd, _OFD_SETLK, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, offset, 1, 0))

    # -- the medium ------------------------------------------------------------------------

    def medium(self, device: int) -> MediumKind:
        """What kind of file system the device holds. A subclass whose calls block says
        ``slow``: then no call is made on the event loop."""
        wanted = f"{os.major(device)}:{os.minor(device)}".encode()
        try:
            with open("/proc/self/mountinfo", "rb") as lines:
                for line in lines:
                    fields = line.split()
                    if fields[2] == wanted:
                        kind = fields[fields.index(b"-") + 1].decode("ascii", "replace")
                        return _MEDIA.get(kind, "slow")
        except OSError:
            pass
        return "slow"

    def umask(self) -> int:
        """The process's umask, read without changing it for a moment."""
        try:
            with open("/proc/self/status", "rb") as lines:
                for line in lines:
                    if line.startswith(b"Umask:"):
                        return int(line.split()[1], 8)
        except OSError:
            pass
        return 0o022
