"""What the server says when it refuses, in this package's words."""

from __future__ import annotations

import json
import re
import time
from typing import Final

from trove_async.driver.http import retry_after
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ConflictError,
    InvalidInputError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidRangeError,
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
)

__all__ = ["Refusal", "error_of", "refusal_of", "secretless"]

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
    501: UnsupportedError,
    507: StorageFullError,
}
_THROTTLES: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "SlowDown"})
_SECRET: Final = re.compile(
    r"(?i)(x-goog-(?:signature|credential)=|signature=|token=|upload_id=|bearer )[^&\s'\",]*"
)
_XML: Final = re.compile(r"<(Code|Message)>([^<]{0,500})</")


def secretless(text: str) -> str:
    return _SECRET.sub(r"\1***", text)


class Refusal(Exception):
    """An answer that is no success; the ``__cause__`` of what is raised for it."""

    def __init__(
        self, status: int, reason: str, text: str, request_id: str, wait: str | None = None
    ) -> None:
        super().__init__(status, reason, text, request_id)
        self.status = status
        self.reason = reason
        """Google's word, of its JSON or its XML API."""
        self.text = text
        self.request_id = request_id
        self.wait = wait
        """Its Retry-After."""

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.text} (request {self.request_id})"


def refusal_of(status: int, body: bytes, request_id: str, wait: str | None) -> Refusal:
    """From what either API writes; anything else has no reason."""
    reason, text = "", ""
    try:
        said = json.loads(body)["error"]
        text = str(said.get("message", ""))
        reason = str(said["errors"][0]["reason"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        found = dict(_XML.findall(body[:4096].decode("utf-8", "replace")))
        reason = reason or found.get("Code", "")
        text = text or found.get("Message", "")
    return Refusal(status, reason[:80], secretless(text)[:300], request_id[:80], wait)


def _kind(refusal: Refusal, key: str | None) -> type[TroveError]:
    status, reason, text = refusal.status, refusal.reason, refusal.text.lower()
    if reason in _THROTTLES:
        return ThrottledError
    if status == 404:
        if reason == "NoSuchBucket" or not key:
            return BucketNotFoundError
        if not text.startswith("no such object") and "bucket does not exist" in text:
            return BucketNotFoundError
    if status == 400:
        if "calculated" in text or reason == "BadDigest":
            return UploadIntegrityError
        if "object name" in text:
            return InvalidKeyError
        if "custom metadata" in text:
            return InvalidMetadataError
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = UnavailableError if status >= 500 else BackendError
    return kind


def error_of(refusal: Refusal, bucket: str | None, key: str | None) -> TroveError:
    """To be raised from where the request was made."""
    kind = _kind(refusal, key)
    about = f"GCS answered {refusal.status} {refusal.reason}".rstrip()
    if refusal.text and refusal.text != refusal.reason:
        about += f": {refusal.text[:200]}"
    if refusal.request_id:
        about += f" (request {refusal.request_id})"
    names_key = not issubclass(kind, BucketNotFoundError)
    error = kind(about, bucket=bucket or None, key=(key or None) if names_key else None)
    if isinstance(error, ThrottledError | UnavailableError):
        error.retry_after = retry_after(refusal.wait, time.time())
    error.__cause__ = refusal
    return error
