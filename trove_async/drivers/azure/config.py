"""Settings of the Azure Blob driver."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, cast
from urllib.parse import urlsplit

from trove_async.driver import DSN
from trove_async.errors import InvalidConfigError
from trove_async.model import MiB

__all__ = [
    "LEAST_PART",
    "MOST_PART",
    "MOST_PARTS",
    "AzureConfig",
    "TokenCredential",
    "TokenInfo",
    "config_of",
]

LEAST_PART: Final = 64 * 1024
"""Ours: smaller blocks are all request and no byte."""
MOST_PART: Final = 4000 * MiB
MOST_PARTS: Final = 50_000
"""https://learn.microsoft.com/azure/storage/blobs/scalability-targets"""


VersionMode = Literal["none", "versions", "snapshots"]


class TokenInfo(Protocol):
    @property
    def token(self) -> str: ...
    @property
    def expires_on(self) -> int: ...


class TokenCredential(Protocol):
    """What the credentials of ``azure.identity.aio`` are."""

    async def get_token(self, *scopes: str) -> TokenInfo: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AzureConfig:
    """The account is named by ``account``, ``endpoint`` or ``connection_string``. Without
    ``key``, ``sas``, ``credential`` and ``anonymous`` the credential is the default one of
    azure-identity: environment, workload and managed identity, developer tools."""

    account: str | None = None
    key: str | None = field(default=None, repr=False)
    """Base64, as the portal shows it."""
    sas: str | None = field(default=None, repr=False)
    """A shared access signature; a leading ``?`` does no harm."""
    connection_string: str | None = field(default=None, repr=False)
    """None, and nothing else given: ``AZURE_STORAGE_CONNECTION_STRING`` of the environment."""
    credential: TokenCredential | None = field(default=None, repr=False)
    """As of ``azure.identity.aio``. Whoever made it closes it."""
    anonymous: bool = False
    endpoint: str | None = None
    """``http(s)://host[:port][/account]``; None: ``https://<account>.blob.core.windows.net``."""
    part_size: int = 8 * MiB
    """Bytes per block, 64 KiB to 4,000 MiB. A body that fits into one is a single Put Blob."""
    concurrency: int = 4
    """Blocks in memory at once: on their way, but for the one that is being filled."""
    versions: VersionMode = "none"
    """What the account has, for it cannot be asked: ``versions`` of every blob by itself, or
    ``snapshots`` that somebody takes (`AzureDriver.snapshot`)."""
    hierarchical: bool | None = None
    """Whether the account has a hierarchical namespace; None: it is asked when opened."""
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
            if parts.username is not None or parts.query or parts.fragment:
                raise InvalidConfigError("the endpoint holds more than host, port and path")
        ways = (self.key, self.sas, self.credential, self.anonymous or None)
        if sum(way is not None for way in ways) > 1:
            raise InvalidConfigError("key, sas, credential and anonymous exclude each other")
        if self.connection_string is not None:
            if self.account is not None or any(way is not None for way in ways[:3]):
                raise InvalidConfigError("a connection string names account and secret itself")
            if self.endpoint is not None or self.anonymous:
                raise InvalidConfigError("a connection string names the endpoint itself")
        elif self.account is None and self.endpoint is None and not _environment():
            raise InvalidConfigError("which account? give account, endpoint or connection_string")
        if self.key is not None and self.account is None:
            raise InvalidConfigError("a key needs its account")
        if self.credential is not None and (self.endpoint or "").startswith("http://"):
            raise InvalidConfigError("a token is not sent without TLS")
        if self.versions not in ("none", "versions", "snapshots"):
            raise InvalidConfigError("versions is none, versions or snapshots")
        if not LEAST_PART <= self.part_size <= MOST_PART:
            raise InvalidConfigError("part_size is between 64 KiB and 4,000 MiB")
        if self.concurrency < 1 or self.connections < 1:
            raise InvalidConfigError("concurrency and connections are at least 1")
        if not self.connect_timeout > 0 or not self.read_timeout > 0:
            raise InvalidConfigError("timeouts are positive")

    @property
    def effective_connection_string(self) -> str | None:
        if self.connection_string is not None:
            return self.connection_string
        return _environment() if self.account is None and self.endpoint is None else None

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a config may hold credentials and is not pickled")


def _environment() -> str | None:
    return os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or None


def config_of(dsn: DSN) -> AzureConfig:
    """``azblob://container?params``; InvalidDSNError for others."""
    dsn.allow(
        *("account", "key", "sas", "connection_string", "endpoint", "part_size"),
        *("concurrency", "anonymous", "versions"),
    )
    if dsn.user is not None or dsn.port is not None or dsn.path.strip("/"):
        dsn.reject("only a container follows azblob://; the rest are parameters")
    params = dsn.params
    key = params.get("key")
    try:
        return AzureConfig(
            account=params.get("account"),
            key=None if key is None else key.replace(" ", "+"),  # base64 that was not escaped
            sas=params.get("sas"),
            connection_string=params.get("connection_string"),
            anonymous=dsn.flag("anonymous", False),
            endpoint=params.get("endpoint"),
            part_size=dsn.number("part_size", 8 * MiB, least=LEAST_PART, most=MOST_PART),
            concurrency=dsn.number("concurrency", 4, most=1000),
            versions=cast(
                "VersionMode", dsn.choice("versions", "none", "none", "versions", "snapshots")
            ),
        )
    except InvalidConfigError as exc:
        dsn.reject(exc.message)
