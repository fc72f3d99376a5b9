"""fsspec, or the error that says how to get it."""

from __future__ import annotations

from trove_async import MissingDependencyError

try:
    from fsspec.asyn import (
        AbstractAsyncStreamedFile,
        AsyncFileSystem,
        sync,
        sync_wrapper,
    )
    from fsspec.asyn import _run_coros_in_chunks as run_in_chunks
    from fsspec.callbacks import DEFAULT_CALLBACK, Callback
    from fsspec.spec import AbstractBufferedFile
    from fsspec.utils import isfilelike, tokenize
except ImportError as exc:
    raise MissingDependencyError(
        'trove:// needs fsspec: pip install "trove-async[fsspec]"', backend="fsspec"
    ) from exc

__all__ = [
    "DEFAULT_CALLBACK",
    "AbstractAsyncStreamedFile",
    "AbstractBufferedFile",
    "AsyncFileSystem",
    "Callback",
    "isfilelike",
    "run_in_chunks",
    "sync",
    "sync_wrapper",
    "tokenize",
]
