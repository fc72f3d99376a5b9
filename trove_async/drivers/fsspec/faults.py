"""From what a file system raises to the error a caller of the store understands."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from trove_async.drivers.fsspec.sdk import FSTimeoutError
from trove_async.errors import (
    BackendError,
    InvalidKeyError,
    KeyConflictError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PermissionDeniedError,
    StorageFullError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)

__all__ = ["translate", "translating"]

_BY_NUMBER: dict[int, tuple[type[TroveError], str]] = {
    errno.ENOSPC: (StorageFullError, "the file system is full"),
    errno.EDQUOT: (StorageFullError, "the file system is full"),
    errno.EROFS: (PermissionDeniedError, "the file system is read-only"),
    errno.ENAMETOOLONG: (InvalidKeyError, "the file system holds no such name"),
    errno.EILSEQ: (InvalidKeyError, "the file system holds no such name"),
    errno.EISDIR: (KeyConflictError, "a directory has the name of the key"),
    errno.ENOTDIR: (KeyConflictError, "a part of the key is the name of a file"),
}
_BY_KIND: tuple[tuple[type[BaseException], type[TroveError], str], ...] = (
    (NotImplementedError, UnsupportedError, "the file system cannot do this"),
    (FileNotFoundError, ObjectNotFoundError, "no such file"),
    (PermissionError, PermissionDeniedError, "the file system denies it"),
    (IsADirectoryError, KeyConflictError, "a directory has the name of the key"),
    (NotADirectoryError, KeyConflictError, "a part of the key is the name of a file"),
    (FSTimeoutError, OperationTimeoutError, "the file system did not answer in time"),
    (TimeoutError, OperationTimeoutError, "the file system did not answer in time"),
    (ConnectionError, UnavailableError, "the file system cannot be reached"),
)


def translate(error: Exception) -> TroveError:
    """Without the text of the error, which may hold an address with a secret: it is the cause."""
    if isinstance(error, OSError) and error.errno in _BY_NUMBER:
        kind, text = _BY_NUMBER[error.errno]
        return kind(text)
    for raised, kind, text in _BY_KIND:
        if isinstance(error, raised):
            return kind(text)
    return BackendError(f"the file system failed ({type(error).__name__})")


@contextmanager
def translating(name: str, operation: str, bucket: str = "", key: str = "") -> Iterator[None]:
    """Around what a driver's verb does; what it raises as ours is only told where it was."""
    where = {"bucket": bucket or None, "key": key or None}
    try:
        yield
    except TroveError as exc:
        exc.at(backend=name, operation=operation, **where)
        raise
    except (OSError, NotImplementedError, FSTimeoutError) as exc:
        typed = translate(exc)
        typed.at(backend=name, operation=operation, **where)
        raise typed from exc
