"""What every verb of the Azure driver stands on: opening, closing, addresses, conditions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from trove_async.driver import Features, TaggingDriver, VersioningDriver
from trove_async.drivers.azure.config import MOST_PART, MOST_PARTS, AzureConfig
from trove_async.drivers.azure.names import blob_path, check_container, quoted_path
from trove_async.drivers.azure.sdk import Connection
from trove_async.drivers.azure.wire import Request
from trove_async.errors import (
    DriverClosedError,
    InvalidInputError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
    WrongLoopError,
)

__all__ = ["AzureBase", "Opened", "conditions", "quoted"]


class Opened:
    """Everything that exists while the driver is open."""

    __slots__ = ("connection", "is_azurite", "is_hierarchical", "loop", "pid", "send")

    def __init__(self, connection: Connection, is_hierarchical: bool, is_azurite: bool) -> None:
        self.connection = connection
        self.send = connection.send
        self.is_hierarchical = is_hierarchical
        self.is_azurite = is_azurite
        """Which keeps dots at the end of segments, unlike the service; lists in the order of
        UTF-16, and groups by the first character of a delimiter only."""
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()

    def blob(self, method: str, bucket: str, key: str, query: str = "") -> Request:
        path = blob_path(bucket, key, no_trailing_dots=not self.is_azurite)
        return Request(method, path, bucket, key, query)

    def upload(self, bucket: str, key: str, query: str) -> Request:
        """As `blob`, also for the keys that uploads are kept under."""
        return Request("PUT", f"/{bucket}/{quoted_path(key)}", bucket, key, query)

    def container(self, method: str, bucket: str, query: str = "restype=container") -> Request:
        return Request(method, f"/{check_container(bucket)}", bucket, "", query)


class AzureBase:
    name: Final = "azure"

    def __init__(self, config: AzureConfig) -> None:
        self.config = config
        self._declared = type(self)
        self._opened: Opened | None = None
        self._features = self._features_of(config.hierarchical is True, False)

    @property
    def features(self) -> Features:
        """Once open, of the account that was found."""
        return self._features

    def _features_of(self, is_hierarchical: bool, is_azurite: bool) -> Features:
        return Features(
            flat_keys=not is_hierarchical,
            ordered_listing=not is_azurite,
            listing_has_metadata=True,
            late_metadata=True,
            conditional=frozenset({"create", "match"}),
            max_part_size=MOST_PART,
            max_parts=MOST_PARTS,
            native=frozenset({"copy"}),
        )

    def __repr__(self) -> str:
        config = self.config
        where = config.endpoint or config.account or "the account of its connection string"
        return f"<{type(self).__name__} at {where}{'' if self._opened else ', not open'}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a driver is not pickled; open it again from its DSN")

    async def open(self) -> None:
        """Asks the account once what it is. One that cannot be reached is noticed by the first
        verb; one that does not say is taken for a flat one."""
        if self._opened is not None:
            self._now()
            return
        connection = Connection(self.config)
        try:
            is_hierarchical, is_azurite = await self._asked(connection)
        except BaseException:
            await connection.close()
            raise
        self._opened = Opened(connection, is_hierarchical, is_azurite)
        self._features = self._features_of(is_hierarchical, is_azurite)
        absent: list[type[object]] = [TaggingDriver] if is_hierarchical else []
        if self.config.versions == "none":
            absent.append(VersioningDriver)
        self._withhold(absent)

    async def _asked(self, connection: Connection) -> tuple[bool, bool]:
        request = Request("GET", "", query="restype=account&comp=properties")
        try:
            answer = await connection.send(request)
        except TroveError:
            return self.config.hierarchical is True, False
        said = answer.headers.get("x-ms-is-hns-enabled", "").lower() == "true"
        wanted = self.config.hierarchical
        is_azurite = answer.headers.get("Server", "").startswith("Azurite")
        return said if wanted is None else wanted, is_azurite

    def _withhold(self, absent: Sequence[type[object]]) -> None:
        """A method that is None does not count for a capability; before Python 3.12 only where
        the class says so, and whoever watches an instance gives it methods of its own."""
        self.__class__ = _without(self._declared, absent)
        for name in _methods(absent):
            vars(self)[name] = None

    async def close(self) -> None:
        """Drops connections. What is under way says DriverClosedError."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.connection.close()

    async def ping(self) -> None:
        """UnavailableError and its kin when the account cannot be reached."""
        opened = self._now()
        try:
            await opened.send(Request("GET", "", query="restype=account&comp=properties"))
        except TroveError as exc:
            if exc.http_status not in (403, 400, 404, 501):  # it answers, which is the question
                raise

    def _now(self) -> Opened:
        opened = self._opened
        if opened is None:
            raise DriverClosedError("the driver is not open", backend="azure")
        if opened.pid != os.getpid():
            raise WrongLoopError("opened in another process, before a fork", backend="azure")
        if asyncio.get_running_loop() is not opened.loop:
            raise WrongLoopError("opened in another event loop", backend="azure")
        return opened


def _methods(protocols: Sequence[type[object]]) -> list[str]:
    return [name for p in protocols for name in vars(p) if not name.startswith("_")]


def _without(kind: type[AzureBase], protocols: Sequence[type[object]]) -> type[AzureBase]:
    hidden: dict[str, object] = dict.fromkeys(_methods(protocols))
    return type(kind.__name__, (kind,), {**hidden, "__module__": kind.__module__})


def quoted(etag: str) -> str:
    """As If-Match wants it. InvalidInputError for what no etag can be."""
    if etag == "*":
        return etag
    if not etag.isascii() or not etag.isprintable() or '"' in etag:
        raise InvalidInputError("not an etag")
    return f'"{etag}"'


def conditions(if_match: str | None, if_none_match: str | None, headers: dict[str, str]) -> None:
    """Of a write."""
    if if_match is not None:
        try:
            headers["If-Match"] = quoted(if_match)
        except InvalidInputError as exc:
            raise PreconditionFailedError("no object has such an etag") from exc
    if if_none_match is not None:
        if if_none_match != "*":
            raise UnsupportedError('writes take if_none_match="*" only', backend="azure")
        headers["If-None-Match"] = "*"
