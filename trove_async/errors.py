"""Every error this package raises, in one tree.

    TroveError
    ├─ NotFoundError (404; also FileNotFoundError)
    │    ObjectNotFoundError BucketNotFoundError BackendNotFoundError
    │    UploadNotFoundError VersionNotFoundError BlobNotFoundError
    ├─ ConflictError (409)
    │    BucketExistsError BucketNotEmptyError KeyConflictError (also OSError)
    │    ObjectChangedError (retryable) InvalidPartError
    │    of paths: PathExistsError (also FileExistsError) NotDirectoryError (also
    │    NotADirectoryError) IsDirectoryError (also IsADirectoryError)
    │    DirectoryNotEmptyError (also OSError)
    ├─ PreconditionFailedError (412)   NotModifiedError (304)   StreamConsumedError
    ├─ InvalidInputError (400; also ValueError)
    │    InvalidKeyError InvalidBucketNameError InvalidMetadataError
    │    InvalidRangeError (416) InvalidDSNError InvalidTokenError InvalidConfigError
    ├─ UnsupportedError (501): FileModeError (also io.UnsupportedOperation)
    ├─ MissingDependencyError (also ImportError)
    ├─ WrongLoopError (also RuntimeError)
    ├─ AccessError
    │    PermissionDeniedError (403; also PermissionError) UnauthenticatedError (401)
    ├─ PolicyError (403)
    ├─ BackendError
    │    DriverClosedError (503) ThrottledError (429; retryable)
    │    UnavailableError (503; retryable; also ConnectionError)
    │    OperationTimeoutError (504; retryable; also TimeoutError)
    │    StorageFullError (507; also OSError)
    ├─ IntegrityError (422)
    │    ChecksumMismatchError TruncatedError TrailingDataError
    │    FrameError (FrameAuthError FrameOrderError CorruptFrameError)
    │    HeaderAuthError KeyCommitmentError EnvelopeError LocationMismatchError
    │    DowngradeError UploadIntegrityError CasMissingBlobError CasInvariantError
    │    UnsupportedFormatError FormatLimitError DecompressionLimitError
    │    SeekTableError CorruptMetadataError UnknownEncodingError
    ├─ EncryptionKeyError: KeyNotFoundError KeyUnwrapError KeyProviderError (retryable)
    ├─ QuotaExceededError (507)   ContentBlockedError (422; .threat)
    └─ StreamError
         StreamStateError (409) StreamNotActiveError StreamClosedError (410)
         PoolClosedError (503) UploadExpiredError (410) BackpressureError
         MaxStreamsError (429)

``retryable`` says that the same call may succeed later without a change by the
caller. ``http_status`` is the status a web handler would answer with.
Messages never hold a credential; the backend's own error is ``__cause__``.
"""

from __future__ import annotations

import io
from typing import ClassVar

__all__ = [
    "AccessError",
    "BackendError",
    "BackendNotFoundError",
    "BackpressureError",
    "BlobNotFoundError",
    "BucketExistsError",
    "BucketNotEmptyError",
    "BucketNotFoundError",
    "CasInvariantError",
    "CasMissingBlobError",
    "ChecksumMismatchError",
    "ConflictError",
    "ContentBlockedError",
    "CorruptFrameError",
    "CorruptMetadataError",
    "DecompressionLimitError",
    "DirectoryNotEmptyError",
    "DowngradeError",
    "DriverClosedError",
    "EncryptionKeyError",
    "EnvelopeError",
    "FileModeError",
    "FormatLimitError",
    "FrameAuthError",
    "FrameError",
    "FrameOrderError",
    "HeaderAuthError",
    "IntegrityError",
    "InvalidBucketNameError",
    "InvalidConfigError",
    "InvalidDSNError",
    "InvalidInputError",
    "InvalidKeyError",
    "InvalidMetadataError",
    "InvalidPartError",
    "InvalidRangeError",
    "InvalidTokenError",
    "IsDirectoryError",
    "KeyCommitmentError",
    "KeyConflictError",
    "KeyNotFoundError",
    "KeyProviderError",
    "KeyUnwrapError",
    "LocationMismatchError",
    "MaxStreamsError",
    "MissingDependencyError",
    "NotDirectoryError",
    "NotFoundError",
    "NotModifiedError",
    "ObjectChangedError",
    "ObjectNotFoundError",
    "OperationTimeoutError",
    "PathExistsError",
    "PermissionDeniedError",
    "PolicyError",
    "PoolClosedError",
    "PreconditionFailedError",
    "QuotaExceededError",
    "SeekTableError",
    "StorageFullError",
    "StreamClosedError",
    "StreamConsumedError",
    "StreamError",
    "StreamNotActiveError",
    "StreamStateError",
    "ThrottledError",
    "TrailingDataError",
    "TroveError",
    "TruncatedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownEncodingError",
    "UnsupportedError",
    "UnsupportedFormatError",
    "UploadExpiredError",
    "UploadIntegrityError",
    "UploadNotFoundError",
    "VersionNotFoundError",
    "WrongLoopError",
]


def _rebuild(cls: type[TroveError], message: str, state: dict[str, object]) -> TroveError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class TroveError(Exception):
    """The root: ``except TroveError`` catches all that this package raises by itself."""

    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    message: str
    bucket: str | None
    key: str | None
    backend: str | None
    operation: str | None

    def __init__(
        self,
        message: str = "",
        *,
        bucket: str | None = None,
        key: str | None = None,
        backend: str | None = None,
        operation: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.bucket = bucket
        self.key = key
        self.backend = backend
        self.operation = operation

    def at(
        self,
        *,
        bucket: str | None = None,
        key: str | None = None,
        backend: str | None = None,
        operation: str | None = None,
    ) -> None:
        """Fills in where it happened; what is already known stays."""
        self.bucket = self.bucket if self.bucket is not None else bucket
        self.key = self.key if self.key is not None else key
        self.backend = self.backend if self.backend is not None else backend
        self.operation = self.operation if self.operation is not None else operation

    def __str__(self) -> str:
        where = [
            f"{name}={value!r}"
            for name in ("operation", "backend", "bucket", "key")
            if (value := getattr(self, name)) is not None
        ]
        return f"{self.message} [{', '.join(where)}]" if where else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())


# -- not there ---------------------------------------------------------------------------


class NotFoundError(TroveError, FileNotFoundError):
    http_status = 404


class ObjectNotFoundError(NotFoundError): ...


class BucketNotFoundError(NotFoundError): ...


class BackendNotFoundError(NotFoundError):
    """A route or ``backend()`` names a backend that was not given to ``open``."""


class UploadNotFoundError(NotFoundError): ...


class VersionNotFoundError(NotFoundError): ...


class BlobNotFoundError(NotFoundError): ...


# -- in the way --------------------------------------------------------------------------


class ConflictError(TroveError):
    http_status = 409


class BucketExistsError(ConflictError): ...


class BucketNotEmptyError(ConflictError): ...


class KeyConflictError(ConflictError, OSError):
    """A backend with folders cannot hold key ``a`` beside key ``a/b``."""


class ObjectChangedError(ConflictError):
    """The object was replaced while one logical read or copy of it was under way."""

    retryable = True


class InvalidPartError(ConflictError): ...


class PathExistsError(ConflictError, FileExistsError):
    """A path that was to be new is there."""


class NotDirectoryError(ConflictError, NotADirectoryError):
    """A file is where a path needs a directory."""


class IsDirectoryError(ConflictError, IsADirectoryError):
    """A directory is where a file is wanted."""


class DirectoryNotEmptyError(ConflictError, OSError):
    """Only an empty directory can be removed or replaced."""


class PreconditionFailedError(TroveError):
    http_status = 412


class NotModifiedError(TroveError):
    http_status = 304


class StreamConsumedError(TroveError):
    """A reader is read once; open the object again."""


# -- wrong input -------------------------------------------------------------------------


class InvalidInputError(TroveError, ValueError):
    http_status = 400


class InvalidKeyError(InvalidInputError): ...


class InvalidBucketNameError(InvalidInputError): ...


class InvalidMetadataError(InvalidInputError): ...


class InvalidRangeError(InvalidInputError):
    http_status = 416


class InvalidDSNError(InvalidInputError): ...


class InvalidTokenError(InvalidInputError): ...


class InvalidConfigError(InvalidInputError): ...


class UnsupportedError(TroveError):
    """The backend cannot do this; nothing was sent."""

    http_status = 501


class FileModeError(UnsupportedError, io.UnsupportedOperation):
    """An open file was not opened for this."""


class MissingDependencyError(TroveError, ImportError):
    """An optional package is not installed; the message names the extra."""

    http_status = 501


class WrongLoopError(TroveError, RuntimeError):
    """Used from another event loop than the one it was opened in, or after a fork."""


# -- not allowed -------------------------------------------------------------------------


class AccessError(TroveError):
    http_status = 403


class PermissionDeniedError(AccessError, PermissionError): ...


class UnauthenticatedError(AccessError):
    http_status = 401


class PolicyError(TroveError):
    http_status = 403


# -- the backend fails -------------------------------------------------------------------


class BackendError(TroveError):
    http_status = 502


class DriverClosedError(BackendError):
    http_status = 503


class ThrottledError(BackendError):
    http_status = 429
    retryable = True

    retry_after: float | None = None
    """Seconds the backend asked us to wait, when it said so."""


class UnavailableError(BackendError, ConnectionError):
    http_status = 503
    retryable = True

    retry_after: float | None = None


class OperationTimeoutError(BackendError, TimeoutError):
    http_status = 504
    retryable = True


class StorageFullError(BackendError, OSError):
    http_status = 507


# -- the bytes are wrong -----------------------------------------------------------------


class IntegrityError(TroveError):
    http_status = 422


class ChecksumMismatchError(IntegrityError): ...


class TruncatedError(IntegrityError): ...


class TrailingDataError(IntegrityError): ...


class FrameError(IntegrityError): ...


class FrameAuthError(FrameError): ...


class FrameOrderError(FrameError): ...


class CorruptFrameError(FrameError): ...


class HeaderAuthError(IntegrityError): ...


class KeyCommitmentError(IntegrityError): ...


class EnvelopeError(IntegrityError): ...


class LocationMismatchError(IntegrityError): ...


class DowngradeError(IntegrityError): ...


class UploadIntegrityError(IntegrityError): ...


class CasMissingBlobError(IntegrityError): ...


class CasInvariantError(IntegrityError): ...


class UnsupportedFormatError(IntegrityError): ...


class FormatLimitError(IntegrityError): ...


class DecompressionLimitError(IntegrityError): ...


class SeekTableError(IntegrityError): ...


class CorruptMetadataError(IntegrityError): ...


class UnknownEncodingError(IntegrityError):
    """The object's record names a transform that is not registered here."""


# -- keys, quota, content ----------------------------------------------------------------


class EncryptionKeyError(TroveError): ...


class KeyNotFoundError(EncryptionKeyError): ...


class KeyUnwrapError(EncryptionKeyError): ...


class KeyProviderError(EncryptionKeyError):
    http_status = 503
    retryable = True


class QuotaExceededError(TroveError):
    http_status = 507


class ContentBlockedError(TroveError):
    http_status = 422

    threat: str = ""


# -- managed streams ---------------------------------------------------------------------


class StreamError(TroveError): ...


class StreamStateError(StreamError):
    http_status = 409


class StreamNotActiveError(StreamError):
    http_status = 409


class StreamClosedError(StreamError):
    http_status = 410


class PoolClosedError(StreamError):
    http_status = 503


class UploadExpiredError(StreamError):
    http_status = 410


class BackpressureError(StreamError): ...


class MaxStreamsError(StreamError):
    http_status = 429
