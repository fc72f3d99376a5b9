"""Settings of the S3 driver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, cast
from urllib.parse import urlsplit

from trove_async.driver import DSN
from trove_async.errors import InvalidConfigError
from trove_async.model import MiB

__all__ = ["LEAST_PART", "MOST_PART", "MOST_PARTS", "S3Config", "S3Credentials", "config_of"]

LEAST_PART: Final = 5 * MiB
MOST_PART: Final = 5 * 1024 * MiB
MOST_PARTS: Final = 10_000
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

ChecksumMode = Literal["when_supported", "when_required"]


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """What a credential provider gives."""

    key: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """Aware. Asked for again five minutes before; None: when the server refuses them."""

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("credentials are not pickled")


CredentialProvider = Callable[[], Awaitable[S3Credentials]]


@dataclass(frozen=True, slots=True)
class S3Config:
    """Without ``key``, ``provider`` and ``anonymous`` the credentials are those the AWS tools
    would use: environment, shared files and ``profile``, container, instance."""

    endpoint: str | None = None
    """``http(s)://host[:port]`` of a compatible server; None: AWS."""
    region: str | None = None
    """None: what the AWS tools would use, else ``us-east-1``."""
    path_style: bool | None = None
    """Whether the bucket stands in the path, not in the host name. None: with an endpoint."""
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    profile: str | None = None
    anonymous: bool = False
    provider: CredentialProvider | None = field(default=None, repr=False)
    checksum: ChecksumMode = "when_supported"
    """``when_supported``: a CRC32 travels with every upload and whole reads are checked by it.
    ``when_required``: for servers that refuse the headers."""
    sign_payload: bool | None = None
    """Whether the signature covers the SHA-256 of what is put, at the cost of that hash. None:
    where no TLS protects the body, as the AWS tools do. False over plain HTTP leaves bodies to
    whoever is on the way."""
    conditional: bool | None = None
    """False for a server that ignores preconditions: asking for one is then UnsupportedError.
    None: True, but for servers known to ignore them."""
    part_size: int = 8 * MiB
    """Bytes per part, 5 MiB to 5 GiB. A body that fits into one is a single PUT."""
    concurrency: int = 4
    """Parts on their way at once; a put holds at most one part more in memory."""
    accelerated: bool = False
    """S3 Transfer Acceleration."""
    sse: str | None = None
    """Server-side encryption: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``."""
    kms_key: str | None = None
    """Id of the KMS key; needs ``sse`` of KMS."""
    versioning: bool = False
    """Buckets that `create_bucket` makes keep past versions, and `delete_bucket` takes those
    away with the bucket. Other buckets' versions can be used whatever this says."""
    queue: str | None = None
    """URL of an SQS queue that already gets the buckets' events, for `watch`. None: each
    watch makes a queue of its own and takes it away."""
    connect_timeout: float = 10.0
    """Seconds."""
    read_timeout: float = 60.0
    """Seconds without a byte in either direction."""
    connections: int = 128
    """Open at once, at most."""
    direct: bool = True
    """Hot requests are signed and sent by this package; False: everything goes through
    aioboto3, at several times the CPU time."""

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise InvalidConfigError("the endpoint is http://host or https://host")
            if parts.username is not None or parts.query or parts.fragment:
                raise InvalidConfigError("the endpoint holds more than host, port and path")
        if (self.key is None) != (self.secret is None):
            raise InvalidConfigError("key and secret belong together")
        if self.token is not None and self.key is None:
            raise InvalidConfigError("a token needs a key and a secret")
        ways = (self.key is not None, self.provider is not None, self.anonymous)
        if sum(ways) > 1:
            raise InvalidConfigError("key, provider and anonymous exclude each other")
        if self.checksum not in ("when_supported", "when_required"):
            raise InvalidConfigError("checksum is when_supported or when_required")
        if not LEAST_PART <= self.part_size <= MOST_PART:
            raise InvalidConfigError("part_size is between 5 MiB and 5 GiB")
        if self.concurrency < 1 or self.connections < 1:
            raise InvalidConfigError("concurrency and connections are at least 1")
        if self.sse not in (None, "AES256", "aws:kms", "aws:kms:dsse"):
            raise InvalidConfigError("sse is AES256, aws:kms or aws:kms:dsse")
        if self.kms_key is not None and not (self.sse or "").startswith("aws:kms"):
            raise InvalidConfigError("kms_key needs sse=aws:kms")
        if self.accelerated and self.endpoint is not None:
            raise InvalidConfigError("only AWS has accelerated endpoints")
        if not self.connect_timeout > 0 or not self.read_timeout > 0:
            raise InvalidConfigError("timeouts are positive")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a config may hold credentials and is not pickled")


def config_of(dsn: DSN) -> S3Config:
    """``s3://[KEY:SECRET@]bucket?params``; InvalidDSNError for others."""
    dsn.allow(
        *("region", "endpoint", "path_style", "token", "profile", "anonymous", "checksum"),
        *("conditional", "part_size", "concurrency", "accelerated", "sse", "kms_key"),
        *("versioning", "direct", "sign_payload"),
    )
    if dsn.port is not None or dsn.path.strip("/"):
        dsn.reject("only a bucket follows s3://; a server is named by endpoint=")
    if (dsn.user is None) != (dsn.password is None):
        dsn.reject("KEY:SECRET@ has both or is not there")
    params = dsn.params
    try:
        return S3Config(
            endpoint=params.get("endpoint"),
            region=params.get("region"),
            path_style=_flag(dsn, "path_style"),
            key=dsn.user,
            secret=dsn.password,
            token=params.get("token"),
            profile=params.get("profile"),
            anonymous=dsn.flag("anonymous", False),
            checksum=cast(
                "ChecksumMode",
                dsn.choice("checksum", "when_supported", "when_supported", "when_required"),
            ),
            sign_payload=_flag(dsn, "sign_payload"),
            conditional=_flag(dsn, "conditional"),
            part_size=dsn.number("part_size", 8 * MiB, least=LEAST_PART, most=MOST_PART),
            concurrency=dsn.number("concurrency", 4, most=1000),
            accelerated=dsn.flag("accelerated", False),
            sse=params.get("sse"),
            kms_key=params.get("kms_key"),
            versioning=dsn.flag("versioning", False),
            direct=dsn.flag("direct", True),
        )
    except InvalidConfigError as exc:
        dsn.reject(exc.message)


def _flag(dsn: DSN, name: str) -> bool | None:
    return dsn.flag(name, False) if name in dsn.params else None
