"""Factories of Azure drivers. Fresh storage is another account of one server than that of the
calls before: they take turns, and the cases' containers have random names."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from itertools import cycle
from typing import Self

from tests.servers.azurite import ACCOUNTS, KEY, Azurite, running_azurite
from trove_async import Driver
from trove_async.drivers.azure import AzureConfig, AzureDriver


class Tested(AzureDriver):
    """With what only cases need: a second client, and a connection string."""

    dsn = ""

    def sibling(self) -> Self:
        other = type(self)(self.config)
        other.dsn = self.dsn
        return other


class _Servers:
    """Azurite keeps the bytes of deleted objects for ten minutes, and slows down with them: now
    and then another one takes over. The one before still serves the case that is running."""

    def __init__(self) -> None:
        self._running: list[tuple[Azurite, ExitStack]] = []
        self._given = 0
        self._accounts = cycle(ACCOUNTS)

    def next(self) -> tuple[Azurite, str]:
        if self._given % _SERVED == 0:
            stack = ExitStack()
            self._running.append((stack.enter_context(running_azurite()), stack))
            if len(self._running) > 2:
                self._running.pop(0)[1].close()
        self._given += 1
        return self._running[-1][0], next(self._accounts)

    def close(self) -> None:
        while self._running:
            self._running.pop()[1].close()


_SERVED = 100
_servers = _Servers()
atexit.register(_servers.close)


def azurite() -> Driver:
    server, account = _servers.next()
    endpoint = server.endpoint_of(account)
    driver = Tested(AzureConfig(account=account, key=KEY, endpoint=endpoint))
    driver.dsn = server.dsn(account=account)
    return driver
