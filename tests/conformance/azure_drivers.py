"""Factories of Azure drivers. Fresh storage is another server than that of the call before: two
take turns, and the cases' containers have random names."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from itertools import cycle
from typing import Self

from tests.servers.azurite import ACCOUNT, KEY, Azurite, running_azurite
from trove_async import Driver
from trove_async.drivers.azure import AzureConfig, AzureDriver

_TURNS = 2
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
def _servers() -> Iterator[Azurite]:
    return cycle([_stack.enter_context(running_azurite()) for _ in range(_TURNS)])


def azurite() -> Driver:
    server = next(_servers())
    driver = Tested(AzureConfig(account=ACCOUNT, key=KEY, endpoint=server.endpoint))
    driver.dsn = server.dsn()
    return driver
