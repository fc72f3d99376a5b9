"""A driver on a real sshd, and stores over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import trove_async as trove
from tests.servers.sftp_relay import BINARY, Relay, relaying
from tests.servers.sshd import Sshd, sshd, start_sshd
from trove_async import RetryPolicy, Trove

__all__ = ["sshd", "start_sshd"]

Opened = Callable[..., AbstractAsyncContextManager[Trove]]


@pytest.fixture
def opened(sshd: Sshd) -> Opened:
    """``async with opened() as store``: on a root of its own, with bucket ``box``; without
    retries, so that what the driver does itself is seen."""

    @asynccontextmanager
    async def open_one(root: Path | None = None, **params: str) -> AsyncIterator[Trove]:
        place = sshd.new_root() if root is None else root
        dsn = sshd.dsn(place, **{"agent": "false", "durability": "none", **params})
        async with trove.open(dsn, retry=RetryPolicy(attempts=1)) as store:
            if root is None:
                await store.create_bucket("box")
            yield store

    return open_one


@pytest.fixture
def relay(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Relay]]:
    if not BINARY:
        pytest.skip("no sftp-server here: bash .ci/servers (or the package openssh-sftp-server)")
    return lambda *hidden, **options: relaying(tmp_path, *hidden, **options)
