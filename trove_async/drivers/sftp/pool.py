"""A few links to one server: the least busy is taken, a lost one is replaced."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from trove_async._threads import settle
from trove_async.drivers.sftp.config import SFTPConfig
from trove_async.drivers.sftp.dial import Credentials, connect
from trove_async.drivers.sftp.link import Link
from trove_async.errors import DriverClosedError

__all__ = ["LARGE", "Pool", "Use"]

_BUSY: Final = {"full": 16, "none": 48}
"""Load from which another connection pays, by durability: below it one carries all in fewer
messages. The server does one thing at a time for each, and an fsync takes long."""
LARGE: Final = 8
"""Load of a body that is longer than what is under way at a time."""
_DOUBT: Final = 5.0
"""Seconds of silence after which new work goes to another connection."""


class Pool:
    """Bound to the loop it is made in. At most ``config.connections`` that answer."""

    def __init__(self, config: SFTPConfig, credentials: Credentials) -> None:
        self._config = config
        self._credentials = credentials
        self._links: list[Link] = []
        self._connecting = asyncio.Lock()
        self._closed: bool = False
        self._busy = _BUSY[config.durability]
        self.litter: list[bytes] = []
        """Private files that could not be removed because their link was lost."""

    def use(self, load: int = 1) -> Use:
        """``async with`` it; the link stays this one's share until the block is left."""
        return Use(self, load)

    def best(self) -> Link | None:
        """The link for what comes next, unless another one should be opened for it."""
        lost = [link for link in self._links if link.is_lost]
        for link in lost:
            self._links.remove(link)
        good = [link for link in self._links if link.channel.silence < _DOUBT]
        chosen = min(good, key=lambda link: link.load, default=None)
        is_busy = chosen is not None and chosen.load >= self._busy
        if is_busy and len(good) < self._config.connections:
            return None
        return chosen

    async def link(self) -> Link:
        self._check()
        chosen = self.best()
        if chosen is None:
            if self._connecting.locked() and (answering := self._answering()) is not None:
                return answering  # one more comes already
            async with self._connecting:
                chosen = self.best()
                if chosen is None:
                    chosen = await connect(self._config, self._credentials)
                    self._links.append(chosen)
                    self._check()
        if self.litter:
            litter, self.litter = self.litter, []
            chosen.forget(*litter)
        return chosen

    def _check(self) -> None:
        if self._closed:
            for link in self._links:
                link.abort()  # one that came while the others were closed
            raise DriverClosedError("the driver is closed", backend="sftp")

    def _answering(self) -> Link | None:
        good = [link for link in self._links if link.channel.silence < _DOUBT]
        return min(good, key=lambda link: link.load, default=None)

    def clean(self, link: Link, *paths: bytes) -> None:
        """Removes private files without waiting; later, when the link is lost."""
        if link.is_lost:
            self.litter += paths
            del self.litter[:-10_000]  # the rest is for the sweep
        else:
            link.forget(*paths)

    async def close(self) -> None:
        """What still waits for an answer is told that the driver was closed."""
        self._closed = True
        links, self._links = self._links, []
        closing = [asyncio.ensure_future(link.close()) for link in links]
        if closing:
            await settle(asyncio.ensure_future(asyncio.wait(closing)))

    @property
    def count(self) -> int:
        return sum(not link.is_lost for link in self._links)


class Use:
    __slots__ = ("_link", "_load", "_pool")

    def __init__(self, pool: Pool, load: int) -> None:
        self._pool = pool
        self._load = load
        self._link: Link | None = None

    async def __aenter__(self) -> Link:
        link = self._pool.best() if not self._pool.litter else None
        if link is None or self._pool._closed:
            link = await self._pool.link()
        self._link = link
        link.load += self._load
        return link

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._link is not None:
            self._link.load -= self._load
            self._link = None
