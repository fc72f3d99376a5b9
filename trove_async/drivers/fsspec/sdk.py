"""fsspec, or the error that says how to get it."""

from __future__ import annotations

from trove_async.errors import MissingDependencyError

try:
    from fsspec import AbstractFileSystem, get_filesystem_class
    from fsspec.exceptions import FSTimeoutError
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.implementations.memory import MemoryFileSystem
except ImportError as exc:
    raise MissingDependencyError(
        'fsspec+... needs fsspec: pip install "trove-async[fsspec]"', backend="fsspec"
    ) from exc

__all__ = [
    "AbstractFileSystem",
    "FSTimeoutError",
    "LocalFileSystem",
    "MemoryFileSystem",
    "get_filesystem_class",
]
