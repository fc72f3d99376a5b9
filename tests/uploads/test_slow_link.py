"""A slow link is no silence: `Timeouts.read` counts from the last piece that the network took,
also inside a part that is sent as one request."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.servers.azurite import azurite
from tests.servers.gcs import gcs
from tests.servers.proxy import Proxy, hang, slow
from tests.servers.s3 import moto, rclone
from tests.servers.sshd import sshd
from trove_async import OperationTimeoutError, RetryPolicy, Timeouts, Trove
from trove_async.catalog import MemoryCatalog

__all__ = ["azurite", "gcs", "moto", "rclone", "sshd"]

MiB = 1024 * 1024
LIMIT = 1.8
"""Seconds. Less than a part takes, more than what the kernels hold of it (up to 4 MiB) does."""
DATA = bytes(15 * MiB)
PART = 16 * MiB
ONCE = RetryPolicy(attempts=1)


async def put(store: Trove, bucket: str, source: Path) -> None:
    await store.put(bucket, "k", DATA, part_size=PART)


async def stream(store: Trove, bucket: str, source: Path) -> None:
    async def body() -> Any:
        for start in range(0, len(DATA), MiB):
            yield DATA[start : start + MiB]

    await store.put(bucket, "k", body(), size=len(DATA), part_size=PART)


async def upload(store: Trove, bucket: str, source: Path) -> None:
    await store.upload(bucket, "k", source, resumable=True, part_size=PART)


async def slowly(name: str, server: Any, tmp_path: Path, how: Any, *, stop: bool = False) -> float:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    is_ssh = name == "sshd"
    async with Proxy("127.0.0.1", server.port, http=not is_ssh, window=64 * 1024) as proxy:
        if is_ssh:
            known = tmp_path / "known_hosts"
            known.write_text(f"[{server.host}]:{proxy.port} {server.host_key}\n")
            dsn = server.dsn(server.new_root(), agent="false", known_hosts=str(known))
        else:
            dsn = server.dsn()
        for colon in (":", "%3A"):
            dsn = dsn.replace(f"{colon}{server.port}", f"{colon}{proxy.port}")
        bucket = f"trove-{secrets.token_hex(6)}"
        limits = Timeouts(read=LIMIT)
        catalog = MemoryCatalog()
        if is_ssh:
            proxy.add(slow(0.01, "up", at=64 * 1024, step=64 * 1024))
        async with trove.open(
            dsn, retry=ONCE, timeouts=limits, catalog=catalog, chunk_size=PART
        ) as store:
            await store.create_bucket(bucket)
            if not is_ssh:
                kind = hang("up", at=2 * MiB, times=None) if stop else None
                faults = [slow(0.01, "up", at=8192, step=64 * 1024, times=None), kind]
                proxy.add(*[fault for fault in faults[::-1] if fault is not None])
            started = time.monotonic()
            async with asyncio.timeout(60):
                await how(store, bucket, source)
            took = time.monotonic() - started
            proxy.clear()
            assert await store.get_bytes(bucket, "k") == DATA
            await store.delete_bucket(bucket, force=True)
    return took


@pytest.mark.parametrize("how", [upload])
@pytest.mark.parametrize("name", ["rclone"])
async def test_a_part_that_takes_longer_than_the_limit_is_sent(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, how: Any
) -> None:
    assert await slowly(name, request.getfixturevalue(name), tmp_path, how) > LIMIT


async def test_a_link_that_stands_still_times_out(rclone: Any, tmp_path: Path) -> None:
    with pytest.raises(OperationTimeoutError, match="progress"):
        await slowly("rclone", rclone, tmp_path, put, stop=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [put, stream, upload])
@pytest.mark.parametrize("name", ["moto", "rclone", "azurite", "gcs", "sshd"])
async def test_every_body_to_every_server(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, how: Any
) -> None:
    assert await slowly(name, request.getfixturevalue(name), tmp_path, how) > LIMIT
