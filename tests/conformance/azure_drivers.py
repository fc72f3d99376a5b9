"""Factories of Azure drivers. Fresh storage is another account of one server than that of the
calls before: they take turns, and the cases' containers have random names."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from itertools import cycle
from typing import Self

from tests.servers.azurite import ACCOUNTS, KEY, Azurite, running_azurite
from trove_async import Driver
from trove_async.drivers.azure import AzureConfig, AzureDriver

_stack = ExitStack()
atexit.register(_stack.close)


class Tested(AzureDriver):
    """With what only cases need: a second client, and a connection string."""

    dsn = ""

    def sibling(self) -> Self:
        other = type(self)(self.config)
        other.dsn = self.dsn
        return other


@cache
def _server() -> tuple[Azurite, Iterator[str]]:
    return _stack.enter_context(running_azurite()), cycle(ACCOUNTS)


def azurite() -> Driver:
    server, accounts = _server()
    account = next(accounts)
    endpoint = server.endpoint_of(account)
    driver = Tested(AzureConfig(account=account, key=KEY, endpoint=endpoint))
    driver.dsn = server.dsn(account=account)
    return driver
