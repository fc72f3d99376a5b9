"""Settings of the GCS driver."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from trove_async.driver import DSN
from trove_async.errors import InvalidConfigError
from trove_async.model import MiB

__all__ = ["GOOGLE", "MOST_PARTS", "MOST_SOURCES", "UNIT", "GCSConfig", "SignBlob", "config_of"]

GOOGLE: Final = "https://storage.googleapis.com"
MOST_SOURCES: Final = 32
"""Objects that one call composes. https://cloud.google.com/storage/docs/composite-objects"""
MOST_PARTS: Final = MOST_SOURCES**2
"""Two calls deep; also what older servers allow in one object."""
UNIT: Final = 256 * 1024
"""Bytes; every part of a resumable upload but the last is a multiple of it.
https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload"""
_MOST_PART: Final = 1024 * MiB

SignBlob = Callable[[bytes], Awaitable[bytes]]
"""The RSA-SHA256 signature of the bytes, for instance by IAM's signBlob."""


@dataclass(frozen=True, slots=True)
class GCSConfig:
    """Without ``credentials`` and ``anonymous`` the credentials are those that Google's tools
    would use: GOOGLE_APPLICATION_CREDENTIALS, gcloud's own, the machine's service account."""

    endpoint: str | None = None
    """``http(s)://host[:port]`` of a compatible server. None: STORAGE_EMULATOR_HOST, else
    Google."""
    credentials: str | None = None
    """Path of a JSON key file. With it signed URLs need no other service."""
    project: str | None = None
    """Id of the project whose buckets are created and listed. None: that of the credentials,
    or of GOOGLE_CLOUD_PROJECT."""
    anonymous: bool | None = None
    """Send no token. None: True with an endpoint and no credentials, as emulators want it."""
    signer: SignBlob | None = field(default=None, repr=False)
    """Signs URLs in place of a key file; needs ``signer_email``."""
    signer_email: str | None = None
    """The service account that ``signer`` signs for."""
    part_size: int = 8 * MiB
    """Bytes, rounded up to 256 KiB. A body that fits into one part is a single request; a put
    holds at most two parts in memory."""
    concurrency: int = 16
    """Requests on their way at once for deletes of many keys, and for composing many parts."""
    parts_at_once: int = 1
    """Parts of one long put on their way at once, where the put does not say. Above 1 the
    parts are objects of their own for a while, composed at the end: see the documentation for
    what that costs. 1: they follow one another in a resumable upload."""
    versioning: bool = False
    """Buckets that `create_bucket` makes keep past versions, and `delete_bucket` takes those
    away with the bucket. Other buckets' versions can be used whatever this says."""
    xml_reads: bool = True
    """Reads use the XML API, which gives metadata and body in one request. False, for emulators
    that have only the JSON API: a read costs two requests."""
    connect_timeout: float = 10.0
    """Seconds."""
    read_timeout: float = 60.0
    """Seconds without a byte in either direction."""
    connections: int = 128
    """Open at once, at most."""

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise InvalidConfigError("the endpoint is http://host or https://host")
            if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
                raise InvalidConfigError("the endpoint holds more than host and port")
        if self.anonymous and self.credentials is not None:
            raise InvalidConfigError("credentials and anonymous exclude each other")
        if (self.signer is None) != (self.signer_email is None):
            raise InvalidConfigError("signer and signer_email belong together")
        if not 1 <= self.part_size <= _MOST_PART:
            raise InvalidConfigError("part_size is between 1 byte and 1 GiB")
        if min(self.concurrency, self.parts_at_once, self.connections) < 1:
            raise InvalidConfigError("concurrency, parts_at_once and connections are at least 1")
        if not self.connect_timeout > 0 or not self.read_timeout > 0:
            raise InvalidConfigError("timeouts are positive")

    @property
    def root(self) -> str:
        """Scheme, host and port of the server, without a slash."""
        if self.endpoint is not None:
            return self.endpoint.rstrip("/")
        host = os.environ.get("STORAGE_EMULATOR_HOST")
        if not host:
            return GOOGLE
        return (host if "://" in host else f"http://{host}").rstrip("/")

    @property
    def is_anonymous(self) -> bool:
        if self.anonymous is not None:
            return self.anonymous
        return self.root != GOOGLE and self.credentials is None

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a config may lead to credentials and is not pickled")


def config_of(dsn: DSN) -> GCSConfig:
    """``gs://bucket?params``; InvalidDSNError for others."""
    dsn.allow(
        *("endpoint", "credentials", "project", "anonymous", "part_size", "concurrency"),
        *("parts_at_once", "versioning", "xml_reads"),
    )
    if dsn.port is not None or dsn.path.strip("/") or dsn.user is not None:
        dsn.reject("only a bucket follows gs://; a server is named by endpoint=")
    params = dsn.params
    try:
        return GCSConfig(
            endpoint=params.get("endpoint"),
            credentials=params.get("credentials"),
            project=params.get("project"),
            anonymous=dsn.flag("anonymous", False) if "anonymous" in params else None,
            part_size=dsn.number("part_size", 8 * MiB, most=_MOST_PART),
            concurrency=dsn.number("concurrency", 16, most=1000),
            parts_at_once=dsn.number("parts_at_once", 1, most=1000),
            versioning=dsn.flag("versioning", False),
            xml_reads=dsn.flag("xml_reads", True),
        )
    except InvalidConfigError as exc:
        dsn.reject(exc.message)
