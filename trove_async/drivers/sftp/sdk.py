"""asyncssh, or the error that says how to get it."""

from __future__ import annotations

from trove_async.errors import MissingDependencyError

try:
    import asyncssh
except ImportError as exc:
    raise MissingDependencyError(
        'SFTP needs asyncssh: pip install "trove-async[sftp]"', backend="sftp"
    ) from exc

__all__ = ["asyncssh"]
