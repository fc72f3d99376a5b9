"""Settings of the local driver."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, cast

from trove_async.driver import DSN
from trove_async.errors import InvalidConfigError

__all__ = ["Durability", "LocalConfig", "MetadataPlace", "config_of"]

Durability = Literal["full", "none"]
MetadataPlace = Literal["auto", "xattr", "sidecar"]


@dataclass(frozen=True, slots=True)
class LocalConfig:
    root: str | os.PathLike[str]
    """The folder that holds the buckets. Made when it is missing, readable by its owner only."""
    durability: Durability = "full"
    """``full``: file and folder are fsynced before a write is acknowledged. ``none``: a power
    cut may lose what was acknowledged; a kill of the process never does."""
    metadata: MetadataPlace = "auto"
    """``auto``: an extended attribute, or a sidecar file for each object it does not fit."""
    multipart_ttl: timedelta = timedelta(days=7)
    """An unfinished upload without a new part for so long is removed at `open`."""
    name_cache: int = 64 * 1024 * 1024
    """Bytes of directory names kept for listings."""

    def __post_init__(self) -> None:
        if not isinstance(os.fspath(self.root), str) or not os.fspath(self.root):
            raise InvalidConfigError("the root of a local driver is a path")
        if "\0" in os.fspath(self.root):
            raise InvalidConfigError("the root holds a NUL")
        if self.durability not in ("full", "none"):
            raise InvalidConfigError("durability is full or none")
        if self.metadata not in ("auto", "xattr", "sidecar"):
            raise InvalidConfigError("metadata is auto, xattr or sidecar")
        if self.multipart_ttl <= timedelta():
            raise InvalidConfigError("multipart_ttl must be positive")
        if self.name_cache < 0:
            raise InvalidConfigError("name_cache must not be negative")


def config_of(dsn: DSN) -> LocalConfig:
    """``file:///abs``, ``local:///abs`` or ``local://./rel``; InvalidDSNError for others."""
    dsn.allow("durability", "metadata")
    if dsn.user is not None or dsn.port is not None:
        dsn.reject("a local path has no user and no port")
    if dsn.scheme == "file":
        if dsn.host not in ("", "localhost"):
            dsn.reject("the path begins with a third slash, as in file:///var/data")
        root = dsn.path
    elif dsn.host in (".", ".."):
        root = dsn.host + dsn.path
    elif dsn.host:
        dsn.reject("the path is /absolute or begins with ./")
    else:
        root = dsn.path
    if not root or "\0" in root:
        dsn.reject("a path is needed")
    return LocalConfig(
        root,
        durability=cast("Durability", dsn.choice("durability", "full", "full", "none")),
        metadata=cast("MetadataPlace", dsn.choice("metadata", "auto", "auto", "xattr", "sidecar")),
    )
