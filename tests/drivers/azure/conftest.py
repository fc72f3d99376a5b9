"""Stores over azurite, directly and through the fault proxy."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.drivers.azure.place import PART, Place
from tests.servers.azurite import ACCOUNT, KEY, Azurite, azurite
from tests.servers.proxy import Proxy
from trove_async import RetryPolicy, Timeouts, Trove
from trove_async.drivers.azure import AzureConfig, AzureDriver

__all__ = ["azurite"]


@asynccontextmanager
async def opened(server: Azurite, **settings: object) -> AsyncIterator[Place]:
    """A container of its own, a client through a proxy, and one beside it."""
    name = f"trove-{secrets.token_hex(6)}"
    given: dict[str, object] = {
        "account": ACCOUNT,
        "key": KEY,
        "part_size": PART,
        "read_timeout": 2.0,
        **settings,
    }
    async with Proxy("127.0.0.1", server.port) as proxy:
        plain = AzureDriver(AzureConfig(account=ACCOUNT, key=KEY, endpoint=server.endpoint))
        config = AzureConfig(endpoint=f"{proxy.endpoint}/{ACCOUNT}", **given)  # type: ignore[arg-type]
        driver = AzureDriver(config)
        retry = RetryPolicy(attempts=3, base=0.01, maximum=0.1)
        store = Trove(driver, retry=retry, timeouts=Timeouts(read=5.0))
        beside = Trove(plain)
        async with store, beside:
            await beside.create_bucket(name)
            yield Place(store, driver, beside, plain, proxy, name)
            proxy.clear()


@pytest.fixture
async def place(azurite: Azurite) -> AsyncIterator[Place]:
    async with opened(azurite) as place:
        yield place
