"""What every verb of the S3 driver stands on: opening, closing, and the two ways to the server."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from typing import Final, Protocol

from trove_async.driver import Features, VersioningDriver
from trove_async.driver.capabilities import (
    LifecycleDriver,
    NotificationDriver,
    TaggingDriver,
)
from trove_async.driver.finishing import finished
from trove_async.drivers.s3.addressing import Address
from trove_async.drivers.s3.config import LEAST_PART, MOST_PART, MOST_PARTS, S3Config
from trove_async.drivers.s3.direct import Direct
from trove_async.drivers.s3.http1 import Http1
from trove_async.drivers.s3.sdk import Connection, Control, SdkPlane, connect, is_by_path
from trove_async.drivers.s3.server import AWS, Server, recognised
from trove_async.drivers.s3.transport import Http, Proxied
from trove_async.drivers.s3.wire import Plane
from trove_async.errors import (
    DriverClosedError,
    InvalidInputError,
    TroveError,
    UnsupportedError,
    WrongLoopError,
)

__all__ = ["Opened", "S3Base", "quoted"]

_NATIVE: Final = frozenset({"copy", "delete_many"})


def quoted(etag: str) -> str:
    """As If-Match wants it. InvalidInputError for what no etag can be."""
    if etag == "*":
        return etag
    if not etag.isascii() or not etag.isprintable() or '"' in etag:
        raise InvalidInputError("not an etag")
    return f'"{etag}"'


_GRACE: Final = 10.0  # seconds that closing is waited for when its task is cancelled
_wholes: dict[type[S3Base], type[S3Base]] = {}
_narrowed: dict[tuple[type[S3Base], tuple[str, ...]], type[S3Base]] = {}


def _whole(cls: type[S3Base]) -> type[S3Base]:
    return _wholes.get(cls, cls)


def _without(cls: type[S3Base], methods: tuple[str, ...]) -> type[S3Base]:
    if not methods:
        return cls
    made = _narrowed.get((cls, methods))
    if made is None:
        made = _narrowed[cls, methods] = type(cls.__name__, (cls,), dict.fromkeys(methods))
        _wholes[made] = cls
    return made


async def _end(opened: Opened) -> None:
    try:
        for watch in list(opened.watches):
            await watch.aclose()
    finally:
        try:
            await opened.plane.close()
        finally:
            await opened.connection.close()


class Closable(Protocol):
    async def aclose(self) -> None: ...


class Opened:
    """Everything that exists while the driver is open."""

    __slots__ = (
        "address",
        "configuring",
        "connection",
        "control",
        "has_md5",
        "loop",
        "pid",
        "plane",
        "server",
        "watches",
        "wholes",
    )

    def __init__(
        self,
        connection: Connection,
        control: Control,
        plane: Plane,
        address: Address,
        server: Server,
    ) -> None:
        self.connection = connection
        self.control = control
        self.plane = plane
        self.address = address
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.watches: list[Closable] = []
        self.configuring = asyncio.Lock()
        self.has_md5 = False
        """Seen: the server repeats no CRC32, and its etags are MD5s."""
        self.wholes: dict[str, bool] = {}
        """Seen, by bucket: whether the etag of an object made of parts is the MD5 of it all."""


class S3Base:
    name: Final = "s3"

    def __init__(self, config: S3Config) -> None:
        self.config = config
        self._opened: Opened | None = None
        self._features = self._features_of(AWS)

    @property
    def features(self) -> Features:
        """Of AWS; once open, of the server that was found."""
        return self._features

    def _features_of(self, server: Server) -> Features:
        wanted = self.config.conditional
        conditional = server.conditional if wanted is None else wanted
        return Features(
            flat_keys=not server.has_folders,
            conditional=frozenset({"create", "match"} if conditional else ()),
            min_part_size=LEAST_PART,
            max_part_size=MOST_PART,
            max_parts=MOST_PARTS,
            max_metadata=server.max_metadata,
            native=_NATIVE,
        )

    def __repr__(self) -> str:
        where = self.config.endpoint or "AWS"
        return f"<{type(self).__name__} at {where}{'' if self._opened else ', not open'}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a driver is not pickled; open it again from its DSN")

    async def open(self) -> None:
        """Loads the SDK's models, finds credentials; a compatible server is asked once what it
        is. A server that cannot be reached is noticed by the first verb."""
        if self._opened is not None:
            self._now()
            return
        opening = asyncio.ensure_future(self._connect())
        try:
            opened = await finished(opening, grace=_GRACE)
        except asyncio.CancelledError:
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await finished(asyncio.ensure_future(_end(opening.result())), grace=_GRACE)
            raise
        self._opened = opened
        self._features = self._features_of(opened.server)
        self._withhold(opened.server)

    async def _connect(self) -> Opened:
        connection, control = await connect(self.config)
        http: Http | None = None
        try:
            address = self._address(connection, connection.region)
            if self.config.direct:
                http = self._http()
                plane: Plane = Direct(
                    http,
                    self.config,
                    lambda region: self._address(connection, region),
                    connection.region,
                    connection.ring,
                    connection.limiter,
                )
            else:
                plane = SdkPlane(control)
            server = await self._server(connection, control)
        except BaseException:
            if http is not None:
                await http.close()
            await connection.close()
            raise
        return Opened(connection, control, plane, address, server)

    async def _server(self, connection: Connection, control: Control) -> Server:
        if self.config.endpoint is None:
            return AWS
        try:
            answer = await control("list_buckets")
        except TroveError:
            return Server("the server", events=self.config.queue is not None)
        server = recognised(answer["ResponseMetadata"]["HTTPHeaders"])
        if server.has_folders:
            return server
        has_events = self.config.queue is not None or await self._serves_queues(connection)
        return Server(server.name, events=has_events)

    async def _serves_queues(self, connection: Connection) -> bool:
        queues = Control(await connection.shared_client("sqs"), connection.ring, connection.limiter)
        try:
            answer = await queues("list_queues", QueueNamePrefix="trove-", MaxResults=1)
        except TroveError:
            return False
        return bool(answer["ResponseMetadata"]["HTTPStatusCode"] == 200)

    def _withhold(self, server: Server) -> None:
        """From now on this driver is of a class that lacks what its server lacks: a capability
        is a matter of the class, and a method that is None does not count for one."""
        missing = [
            method
            for protocol, is_there in (
                (VersioningDriver, server.versions),
                (LifecycleDriver, server.lifecycle),
                (TaggingDriver, server.tags),
                (NotificationDriver, server.events),
            )
            if not is_there
            for method in vars(protocol)
            if not method.startswith("_")
        ]
        self.__class__ = _without(_whole(type(self)), tuple(missing))
        for method in missing:
            if method in vars(self):  # somebody watches calls of this one driver
                vars(self)[method] = None

    def _address(self, connection: Connection, region: str) -> Address:
        endpoint = connection.endpoint
        if self.config.endpoint is None:
            if self.config.accelerated:
                endpoint = "https://s3-accelerate.amazonaws.com"
            elif endpoint == "https://s3.amazonaws.com":  # what the SDK calls us-east-1
                endpoint = f"https://s3.{region}.amazonaws.com"
            else:
                endpoint = endpoint.replace(connection.region, region)
        return Address(endpoint, path_style=is_by_path(self.config))

    def _http(self) -> Http:
        proxies = urllib.request.getproxies()
        if proxies.keys() & {"http", "https", "all"}:
            return Proxied(self.config)
        config = self.config
        return Http1(config.connections, config.connect_timeout, config.read_timeout)

    async def close(self) -> None:
        """Ends watches and drops connections. What is under way says DriverClosedError."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        await finished(asyncio.ensure_future(_end(opened)), grace=_GRACE)

    async def ping(self) -> None:
        """UnavailableError and its kin when the server cannot be reached."""
        opened = self._now()
        try:
            await opened.control("list_buckets", MaxBuckets=1)
        except TroveError as exc:
            if exc.http_status not in (403, 400, 501):  # it answers, which is what was asked
                raise

    def _now(self) -> Opened:
        opened = self._opened
        if opened is None:
            raise DriverClosedError("the driver is not open", backend="s3")
        if opened.pid != os.getpid():
            raise WrongLoopError("opened in another process, before a fork", backend="s3")
        if asyncio.get_running_loop() is not opened.loop:
            raise WrongLoopError("opened in another event loop", backend="s3")
        return opened

    def _need(self, condition: str, asked: object) -> None:
        if asked is not None and condition not in self._features.conditional:
            raise UnsupportedError("this server ignores preconditions", backend="s3")
