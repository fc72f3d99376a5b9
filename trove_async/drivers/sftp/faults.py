"""From what the server or the connection says to the error a caller of the store understands."""

from __future__ import annotations

import socket
from typing import Final

from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Lost
from trove_async.drivers.sftp.sdk import asyncssh
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import (
    BackendError,
    DriverClosedError,
    InvalidKeyError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PermissionDeniedError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)

__all__ = ["connecting", "located", "translate"]

_KINDS: Final[dict[int, tuple[type[TroveError], str]]] = {
    wire.EOF: (BackendError, "the server says that there is no more"),
    wire.NO_SUCH_FILE: (ObjectNotFoundError, "the server has no such file"),
    wire.PERMISSION_DENIED: (PermissionDeniedError, "the server denies it"),
    wire.FAILURE: (BackendError, "the server failed"),
    wire.BAD_MESSAGE: (InvalidKeyError, "the server's file system holds no such name"),
    wire.NO_CONNECTION: (UnavailableError, "the server has no connection"),
    wire.CONNECTION_LOST: (UnavailableError, "the connection to the server was lost"),
    wire.UNSUPPORTED: (UnsupportedError, "the server cannot do this"),
}

_LOST: Final[dict[str, type[TroveError]]] = {
    "lost": UnavailableError,
    "silent": OperationTimeoutError,
    "closed": DriverClosedError,
}


def translate(failure: Failure) -> TroveError:
    """Without a path in the message: bucket and key are added by the caller."""
    if isinstance(failure, Lost):
        return _LOST[failure.why](failure.text)
    error, text = _KINDS.get(failure.code, (BackendError, "the server failed"))
    return error(f"{text} (SFTP status {failure.code})")


def located(
    error: Failure | TroveError, operation: str, target: PathTarget | str | None
) -> TroveError:
    """What to raise in place of ``error``, with bucket, key and operation filled in."""
    typed = error if isinstance(error, TroveError) else translate(error)
    if typed is not error:
        typed.__cause__ = error
    if isinstance(target, PathTarget):
        typed.at(bucket=target.bucket, key=target.key, backend="sftp", operation=operation)
    else:
        typed.at(bucket=target, backend="sftp", operation=operation)
    return typed


def connecting(error: BaseException, host: str) -> TroveError | None:
    """For an error of a connection that does not come about; None: not ours to translate."""
    if isinstance(error, TroveError):
        return error
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return UnauthenticatedError(
            f"the host key of {host} is not the known one, or not known; see known_hosts"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return UnauthenticatedError(f"{host} accepts none of the credentials")
    if isinstance(error, TimeoutError):
        return OperationTimeoutError(f"{host} did not answer in time")
    if isinstance(error, socket.gaierror):
        return UnavailableError(f"the name {host} cannot be resolved")
    if isinstance(error, asyncssh.KeyExchangeFailed | asyncssh.ProtocolNotSupported):
        return BackendError(f"{host} shares no way to speak with us")
    if isinstance(error, OSError | asyncssh.Error | Failure):
        return UnavailableError(f"{host} cannot be reached ({type(error).__name__})")
    return None
