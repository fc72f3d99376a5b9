"""From an OSError to the error a caller of the store understands."""

from __future__ import annotations

import errno
from typing import Final

from trove_async.drivers.local.names import Target
from trove_async.errors import (
    BackendError,
    InvalidKeyError,
    KeyConflictError,
    PermissionDeniedError,
    StorageFullError,
    TroveError,
    UnavailableError,
)

__all__ = ["located", "translate"]

_KINDS: Final[dict[int, tuple[type[TroveError], str]]] = {
    errno.ENOSPC: (StorageFullError, "the disk is full"),
    errno.EDQUOT: (StorageFullError, "the disk quota is used up"),
    errno.EFBIG: (StorageFullError, "the file system holds no file so large"),
    errno.EACCES: (PermissionDeniedError, "the file system denies it"),
    errno.EPERM: (PermissionDeniedError, "the file system denies it"),
    errno.EROFS: (PermissionDeniedError, "the file system is read-only"),
    errno.ENAMETOOLONG: (InvalidKeyError, "the file system holds no name so long"),
    errno.EILSEQ: (InvalidKeyError, "the file system refuses the name"),
    errno.EISDIR: (KeyConflictError, "a folder is in the way"),
    errno.ENOTDIR: (KeyConflictError, "an object is in the way of a folder"),
    errno.EMFILE: (UnavailableError, "no file descriptor is left in the process"),
    errno.ENFILE: (UnavailableError, "no file descriptor is left on the machine"),
    errno.ENOMEM: (UnavailableError, "no memory is left"),
    errno.ENOLCK: (UnavailableError, "no lock is left on the machine"),
    errno.EAGAIN: (UnavailableError, "the file system is busy"),
    errno.EINTR: (UnavailableError, "interrupted again and again"),
    errno.EBUSY: (UnavailableError, "the file system is busy"),
    errno.ETIMEDOUT: (UnavailableError, "the file system does not answer"),
}


def translate(error: OSError) -> TroveError:
    """Without the path in the message: bucket and key are added by the caller."""
    kind, text = _KINDS.get(error.errno or 0, (BackendError, "the file system fails"))
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return kind(f"{text} ({name})")


def located(error: OSError | TroveError, operation: str, target: Target | str | None) -> TroveError:
    """What to raise in place of ``error``, with bucket, key and operation filled in."""
    typed = error if isinstance(error, TroveError) else translate(error)
    if typed is not error:
        typed.__cause__ = error
    if isinstance(target, Target):
        typed.at(bucket=target.bucket, key=target.key, backend="local", operation=operation)
    else:
        typed.at(bucket=target, backend="local", operation=operation)
    return typed
