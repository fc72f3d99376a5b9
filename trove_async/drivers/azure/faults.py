"""What the service, the SDK or the way to them says, in this package's words."""

from __future__ import annotations

import re
import time
from typing import Final

import aiohttp
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)

from trove_async.driver.http import retry_after
from trove_async.errors import (
    BackendError,
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ConflictError,
    DriverClosedError,
    InvalidBucketNameError,
    InvalidInputError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPartError,
    InvalidRangeError,
    InvalidTokenError,
    KeyConflictError,
    NotModifiedError,
    ObjectChangedError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PermissionDeniedError,
    PreconditionFailedError,
    StorageFullError,
    ThrottledError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    UploadIntegrityError,
)

__all__ = ["Refusal", "broken", "error_of", "secretless"]

# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
_BY_CODE: Final[dict[str, type[TroveError]]] = {
    "BlobNotFound": ObjectNotFoundError,
    "ResourceNotFound": ObjectNotFoundError,
    "ContainerNotFound": BucketNotFoundError,
    "ContainerAlreadyExists": BucketExistsError,
    "ContainerBeingDeleted": UnavailableError,
    "ContainerDisabled": UnavailableError,
    "DirectoryNotEmpty": BucketNotEmptyError,
    "BlobAlreadyExists": PreconditionFailedError,
    "ConditionNotMet": PreconditionFailedError,
    "TargetConditionNotMet": PreconditionFailedError,
    "SourceConditionNotMet": ObjectChangedError,
    "CannotVerifyCopySource": ObjectNotFoundError,
    "BlobOverwritten": ObjectChangedError,
    "InvalidBlockList": ObjectChangedError,
    "InvalidBlobOrBlock": ConflictError,
    "PendingCopyOperation": UnavailableError,
    "SnapshotsPresent": ConflictError,
    "BlobArchived": ConflictError,
    "BlobImmutableDueToPolicy": PermissionDeniedError,
    "LeaseIdMissing": ConflictError,
    "InvalidBlobType": ConflictError,
    "PathConflict": KeyConflictError,
    "InvalidRange": InvalidRangeError,
    "AuthenticationFailed": UnauthenticatedError,
    "AuthorizationFailure": PermissionDeniedError,
    "InvalidAuthenticationInfo": UnauthenticatedError,
    "NoAuthenticationInformation": UnauthenticatedError,
    "AuthorizationPermissionMismatch": PermissionDeniedError,
    "InsufficientAccountPermissions": PermissionDeniedError,
    "AccountIsDisabled": PermissionDeniedError,
    "PublicAccessNotPermitted": PermissionDeniedError,
    "ServerBusy": ThrottledError,
    "TooManyRequests": ThrottledError,
    "InternalError": UnavailableError,
    "OperationTimedOut": UnavailableError,
    "Md5Mismatch": UploadIntegrityError,
    "InvalidMd5": UploadIntegrityError,
    "Crc64Mismatch": UploadIntegrityError,
    "InvalidMetadata": InvalidMetadataError,
    "EmptyMetadataKey": InvalidMetadataError,
    "MetadataTooLarge": InvalidMetadataError,
    "InvalidResourceName": InvalidKeyError,
    "OutOfRangeInput": InvalidInputError,
    "RequestBodyTooLarge": InvalidInputError,
    "BlockCountExceedsLimit": InvalidPartError,
    "BlockListTooLong": InvalidPartError,
    "InvalidBlockId": InvalidPartError,
    "InsufficientStorage": StorageFullError,
    "FeatureVersionMismatch": UnsupportedError,
    "UnsupportedHttpVerb": UnsupportedError,
}
_BY_STATUS: Final[dict[int, type[TroveError]]] = {
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
    501: UnsupportedError,
    507: StorageFullError,
}
_SECRET: Final = re.compile(r"(?i)(sig(?:nature)?=|accountkey=|bearer |sharedkey )[^&\s'\",;]*")


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
        self.size: int | None = None
        """Bytes of the object, when a range was out of it."""

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {secretless(self.text)} (request {self.request_id})"


def _kind_of(refusal: Refusal, key: str | None) -> type[TroveError]:
    status, code, text = refusal.status, refusal.code, refusal.text
    if status == 304:
        return NotModifiedError
    if code == "InvalidOperation" and "match" in text and "md5" in text.lower():
        return UploadIntegrityError  # azurite's word for Md5Mismatch
    if code == "AuthorizationFailure" and "authenticate" in text:
        return UnauthenticatedError  # azurite's word for AuthenticationFailed
    if code in ("InvalidResourceName", "OutOfRangeInput") and key is None:
        return InvalidBucketNameError
    if code in ("OutOfRangeInput", "InvalidQueryParameterValue") and "marker" in text.lower():
        return InvalidTokenError
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    return kind or (UnavailableError if status >= 500 else BackendError)


def error_of(refusal: Refusal, bucket: str | None, key: str | None) -> TroveError:
    """To be raised from where the request was made."""
    kind = _kind_of(refusal, key)
    about = f"Azure answered {refusal.status} {refusal.code}".rstrip()
    text = refusal.text.partition("\nRequestId:")[0]
    if text and text != refusal.code:
        about += f": {secretless(text)[:200]}"
    if refusal.request_id:
        about += f" (request {refusal.request_id[:80]})"
    names_key = not issubclass(kind, BucketNotFoundError)
    error = kind(about, bucket=bucket or None, key=(key or None) if names_key else None)
    if isinstance(error, ThrottledError | UnavailableError):
        error.retry_after = retry_after(refusal.wait, time.time())
    error.__cause__ = refusal
    return error


def broken(exc: Exception, host: str, bucket: str | None, key: str | None) -> TroveError:
    """No answer at all. To be raised from ``exc``, which is raised again when it is none of
    the SDK's."""
    where = {"bucket": bucket or None, "key": key or None}
    timeouts = (ServiceRequestTimeoutError, ServiceResponseTimeoutError, TimeoutError)
    if isinstance(exc, timeouts):
        return OperationTimeoutError(f"{host} does not answer", **where)
    if isinstance(exc, ClientAuthenticationError):
        return UnauthenticatedError("the credential gives no token or signature", **where)
    inner = exc.__cause__ if isinstance(exc, AzureError) and exc.__cause__ is not None else exc
    if isinstance(inner, aiohttp.ClientSSLError):
        return BackendError(f"no secure connection to {host}", **where)
    if isinstance(exc, AzureError | DecodeError | aiohttp.ClientError | OSError):
        about = secretless(str(inner))[:200]
        return UnavailableError(f"the connection to {host} failed: {about}", **where)
    if isinstance(exc, RuntimeError | ValueError) and "closed" in str(exc).lower():
        return DriverClosedError("the driver was closed", **where)
    if isinstance(exc, ValueError):  # of aiohttp: a header or URL that cannot be
        return InvalidInputError("a request that cannot be sent", **where)
    raise exc
