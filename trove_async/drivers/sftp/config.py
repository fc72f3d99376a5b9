"""Settings of the SFTP driver."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, cast

from trove_async.driver import DSN
from trove_async.errors import InvalidConfigError

__all__ = ["Durability", "SFTPConfig", "config_of"]

Durability = Literal["full", "none"]
_PARAMETERS = ("key", "key_passphrase_env", "known_hosts", "agent", "connections", "durability")


@dataclass(frozen=True, slots=True)
class SFTPConfig:
    """Secrets are neither in its ``repr`` nor in a pickle of it."""

    host: str
    path: str
    """The absolute path, on the server, of the folder that holds the buckets. It is made when
    it is missing."""
    user: str | None = None
    """``None``: the name of the local user."""
    port: int = 22
    password: str | None = field(default=None, repr=False)
    key: str | os.PathLike[str] | None = None
    """Path of a private key. With no key, password and agent the usual ones in ``~/.ssh``."""
    key_passphrase_env: str | None = None
    """Name of the environment variable that holds the passphrase of ``key``."""
    known_hosts: str | os.PathLike[str] | None = None
    """Path of the file of host keys that are trusted; ``None``: ``~/.ssh/known_hosts``. A host
    that is not in it, or has another key there, is refused."""
    agent: bool | str = True
    """Whether the keys of the SSH agent at ``SSH_AUTH_SOCK`` are tried, or the path of another
    agent's socket. It is never forwarded."""
    connections: int = 4
    """Most connections at a time; the second is opened when the first is busy."""
    durability: Durability = "full"
    """``full``: a file is fsynced before a write is acknowledged, where the server offers that.
    ``none``: a power cut of the server may lose what was acknowledged."""
    connect_timeout: float = 10.0
    """Seconds for each connection: network, handshake and authentication."""
    read_timeout: float = 60.0
    """Seconds without a byte from a server that owes an answer, until the connection is given
    up."""
    staging_ttl: timedelta = timedelta(days=1)
    """What an interrupted write left is removed by the next `open` after so long."""
    multipart_ttl: timedelta = timedelta(days=7)
    """An unfinished upload without a new part for so long is removed by the next `open`."""

    def __post_init__(self) -> None:
        if not self.host or "\0" in self.host:
            raise InvalidConfigError("an SFTP driver needs a host")
        if not self.path.startswith("/") or "\0" in self.path:
            raise InvalidConfigError("the path of an SFTP driver is absolute")
        if not 0 < self.port < 65536:
            raise InvalidConfigError("a port is between 1 and 65535")
        if not 1 <= self.connections <= 64:
            raise InvalidConfigError("connections is between 1 and 64")
        if self.durability not in ("full", "none"):
            raise InvalidConfigError("durability is full or none")
        if self.key_passphrase_env is not None and self.key is None:
            raise InvalidConfigError("key_passphrase_env needs key")
        for name in ("connect_timeout", "read_timeout"):
            if not getattr(self, name) > 0:
                raise InvalidConfigError(f"{name} must be positive")
        for name in ("staging_ttl", "multipart_ttl"):
            if getattr(self, name) <= timedelta():
                raise InvalidConfigError(f"{name} must be positive")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("settings that may hold a password are not pickled; keep the DSN")

    @property
    def root(self) -> bytes:
        return self.path.rstrip("/").encode() or b""


def config_of(dsn: DSN) -> SFTPConfig:
    """``sftp://user[:password]@host:22/path``; InvalidDSNError for others."""
    dsn.allow(*_PARAMETERS)
    if not dsn.host:
        dsn.reject("a host is needed, as in sftp://user@host/path")
    if not dsn.path.strip("/"):
        dsn.reject("a path is needed, as in sftp://user@host/path")
    if any(part in (".", "..") for part in dsn.path.split("/")):
        dsn.reject("the path has no . and .. segments")
    params = dsn.params
    for name in ("key", "key_passphrase_env", "known_hosts"):
        if params.get(name) == "":
            dsn.reject(f"{name} is empty")
    if "key_passphrase_env" in params and "key" not in params:
        dsn.reject("key_passphrase_env needs key")
    agent = params.get("agent", "true")
    return SFTPConfig(
        dsn.host,
        dsn.path,
        user=dsn.user or None,
        port=dsn.port or 22,
        password=dsn.password,
        key=params.get("key"),
        key_passphrase_env=params.get("key_passphrase_env"),
        known_hosts=params.get("known_hosts"),
        agent=agent if agent.startswith("/") else dsn.flag("agent", True),
        connections=dsn.number("connections", 4, most=64),
        durability=cast("Durability", dsn.choice("durability", "full", "full", "none")),
    )
