"""What a server or the way to it says, in this package's words."""

from __future__ import annotations

import re
import time
from typing import Final

from trove_async.driver.http import retry_after
from trove_async.errors import (
    BackendError,
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ConflictError,
    InvalidBucketNameError,
    InvalidInputError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPartError,
    InvalidRangeError,
    InvalidTokenError,
    NotModifiedError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StorageFullError,
    ThrottledError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    UploadIntegrityError,
    UploadNotFoundError,
    VersionNotFoundError,
)

__all__ = ["STALE_CREDENTIALS", "Refusal", "error_of", "secretless"]

_BY_CODE: Final[dict[str, type[TroveError]]] = {
    "NoSuchKey": ObjectNotFoundError,
    "NoSuchBucket": BucketNotFoundError,
    "NoSuchUpload": UploadNotFoundError,
    "NoSuchVersion": VersionNotFoundError,
    "BucketAlreadyExists": BucketExistsError,
    "BucketAlreadyOwnedByYou": BucketExistsError,
    "BucketNotEmpty": BucketNotEmptyError,
    "PreconditionFailed": PreconditionFailedError,
    "NotModified": NotModifiedError,
    "InvalidRange": InvalidRangeError,
    "AccessDenied": PermissionDeniedError,
    "AllAccessDisabled": PermissionDeniedError,
    "AccountProblem": PermissionDeniedError,
    "InvalidObjectState": ConflictError,
    "InvalidAccessKeyId": UnauthenticatedError,
    "SignatureDoesNotMatch": UnauthenticatedError,
    "ExpiredToken": UnauthenticatedError,
    "InvalidToken": UnauthenticatedError,
    "TokenRefreshRequired": UnauthenticatedError,
    "InvalidSecurity": UnauthenticatedError,
    "RequestTimeTooSkewed": UnauthenticatedError,
    "RequestExpired": UnauthenticatedError,
    "NotSignedUp": UnauthenticatedError,
    "AuthorizationHeaderMalformed": UnauthenticatedError,
    "SlowDown": ThrottledError,
    "SlowDownRead": ThrottledError,
    "SlowDownWrite": ThrottledError,
    "Throttling": ThrottledError,
    "ThrottlingException": ThrottledError,
    "TooManyRequests": ThrottledError,
    "RequestLimitExceeded": ThrottledError,
    "BandwidthLimitExceeded": ThrottledError,
    "InternalError": UnavailableError,
    "ServiceUnavailable": UnavailableError,
    "RequestTimeout": UnavailableError,
    "OperationAborted": UnavailableError,
    "ConditionalRequestConflict": UnavailableError,
    "NotImplemented": UnsupportedError,
    "QuotaExceeded": StorageFullError,
    "XMinioStorageFull": StorageFullError,
    "InsufficientStorage": StorageFullError,
    "EntityTooSmall": InvalidPartError,
    "InvalidPart": InvalidPartError,
    "InvalidPartOrder": InvalidPartError,
    "MetadataTooLarge": InvalidMetadataError,
    "KeyTooLongError": InvalidKeyError,
    "InvalidBucketName": InvalidBucketNameError,
    "BadDigest": UploadIntegrityError,
    "InvalidDigest": UploadIntegrityError,
    "XAmzContentSHA256Mismatch": UploadIntegrityError,
    "XAmzContentChecksumMismatch": UploadIntegrityError,
    "IncompleteBody": UnavailableError,
}
_BY_STATUS: Final[dict[int, type[TroveError]]] = {
    304: NotModifiedError,
    400: InvalidInputError,
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: ObjectNotFoundError,
    405: UnsupportedError,
    408: UnavailableError,
    409: ConflictError,
    412: PreconditionFailedError,
    416: InvalidRangeError,
    429: ThrottledError,
    431: InvalidMetadataError,
    501: UnsupportedError,
    507: StorageFullError,
}
STALE_CREDENTIALS: Final = frozenset(
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"}
)
"""Codes after which fresh credentials may help."""

_SECRET: Final = re.compile(
    r"(?i)(x-amz-(?:signature|security-token|credential)=|signature=|token=|secret=)[^&\s'\",]*"
)


def secretless(text: str) -> str:
    return _SECRET.sub(r"\1***", text)


class Refusal(Exception):
    """An answer that is no success; the ``__cause__`` of what is raised for it."""

    def __init__(self, status: int, code: str, text: str, request_id: str) -> None:
        super().__init__(status, code, text, request_id)
        self.status = status
        self.code = code
        self.text = text
        self.request_id = request_id
        self.wait: str | None = None
        """Its Retry-After."""
        self.date: str | None = None
        self.region: str | None = None
        """Where the bucket is, when it is not here."""
        self.is_marker = False
        """The version is a delete marker."""
        self.condition: str | None = None
        """The header whose condition did not hold, when the answer names it."""

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.text} (request {self.request_id})"


def error_of(
    refusal: Refusal, bucket: str | None, key: str | None, now: float | None = None
) -> TroveError:
    """To be raised from where the request was made."""
    status, code = refusal.status, refusal.code
    kind = _BY_CODE.get(code)
    if kind is None:
        kind = _BY_STATUS.get(status)
    if kind is None:
        kind = UnavailableError if status >= 500 else BackendError
    if code == "InvalidArgument" and "oken" in refusal.text:
        kind = InvalidTokenError
    about = f"S3 answered {status} {code}".rstrip()
    if refusal.text and refusal.text != code:
        about += f": {secretless(refusal.text)[:200]}"
    if refusal.request_id:
        about += f" (request {refusal.request_id[:80]})"
    names_key = not issubclass(kind, BucketNotFoundError)
    error = kind(about, bucket=bucket or None, key=(key or None) if names_key else None)
    if isinstance(error, ThrottledError | UnavailableError):
        error.retry_after = retry_after(refusal.wait, time.time() if now is None else now)
    error.__cause__ = refusal
    return error
