"""Stores over real S3 servers, directly and through the fault proxy."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.drivers.s3.place import Place
from tests.servers.proxy import Proxy
from tests.servers.s3 import KEY, SECRET, Server, moto, rclone
from trove_async import RetryPolicy, Timeouts, Trove
from trove_async.drivers.s3 import S3Config, S3Driver
from trove_async.model import MiB

__all__ = ["moto", "rclone"]


@asynccontextmanager
async def opened(server: Server, **settings: object) -> AsyncIterator[Place]:
    """A bucket of its own, a client through a proxy, and one beside it."""
    name = f"trove-{secrets.token_hex(6)}"
    given: dict[str, object] = {
        "region": "us-east-1",
        "key": KEY,
        "secret": SECRET,
        "part_size": 5 * MiB,
        "read_timeout": 2.0,
        **settings,
    }
    async with Proxy("127.0.0.1", server.port) as proxy:
        plain = S3Driver(
            S3Config(endpoint=server.endpoint, region="us-east-1", key=KEY, secret=SECRET)
        )
        driver = S3Driver(S3Config(endpoint=proxy.endpoint, **given))  # type: ignore[arg-type]
        retry = RetryPolicy(attempts=3, base=0.01, maximum=0.1)
        store = Trove(driver, retry=retry, timeouts=Timeouts(read=5.0))
        beside = Trove(plain)
        async with store, beside:
            await beside.create_bucket(name)
            yield Place(store, driver, beside, plain, proxy, name)
            proxy.clear()


@pytest.fixture
async def place(moto: Server) -> AsyncIterator[Place]:
    async with opened(moto) as place:
        yield place
