"""Resumable uploads and downloads on the backends that are servers: stopped, gone on with."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.servers.azurite import Azurite, azurite
from tests.servers.gcs import Server as GCS
from tests.servers.gcs import gcs
from tests.servers.s3 import KEY, SECRET, moto, rclone
from tests.servers.s3 import Server as S3
from tests.servers.sshd import Sshd, sshd
from tests.uploads.ledger import sample
from trove_async import Driver
from trove_async.driver import MultipartDriver, capability
from trove_async.middleware import Compress, Encrypt, Keyring

__all__ = ["azurite", "gcs", "moto", "rclone", "sshd"]

MiB = 1024 * 1024
DATA = sample(33 * MiB + 5, 11)


def _s3(server: S3) -> Driver:
    from trove_async.drivers.s3 import S3Config, S3Driver

    return S3Driver(S3Config(endpoint=server.endpoint, region="us-east-1", key=KEY, secret=SECRET))


def _sftp(server: Sshd) -> Driver:
    from trove_async.driver.registry import driver_for

    dsn = server.dsn(server.new_root(), agent="false", durability="none")
    return driver_for(dsn)[0]


def _gcs(server: GCS) -> Driver:
    from trove_async.driver.registry import driver_for

    return driver_for(server.dsn())[0]


def _azure(server: Azurite) -> Driver:
    from trove_async.driver.registry import driver_for

    return driver_for(server.dsn())[0]


MAKERS: dict[str, Callable[[Any], Driver]] = {
    "moto": _s3,
    "rclone": _s3,
    "sshd": _sftp,
    "gcs": _gcs,
    "azurite": _azure,
}


@pytest.fixture(params=[*MAKERS])
def driver(request: pytest.FixtureRequest) -> Driver:
    server = request.getfixturevalue(request.param)
    return MAKERS[request.param](server)


@pytest.mark.parametrize("kind", ["plain", "sealed"])
async def test_an_upload_and_a_download_go_on(driver: Driver, kind: str, tmp_path: Path) -> None:
    assert capability(driver, MultipartDriver) is not None
    layers: list[Any] = [Compress(), Encrypt(Keyring({"k": bytes(32)}, active="k"))]
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    bucket = f"trove-{secrets.token_hex(6)}"
    multipart: Any = driver
    sent: Counter[int] = Counter()
    real = multipart.upload_part

    async def counted(bucket: str, key: str, upload_id: str, number: int, *more: Any) -> Any:
        part = await real(bucket, key, upload_id, number, *more)
        sent[number] += 1
        return part

    multipart.upload_part = counted
    catalog = f"sqlite:///{tmp_path}/catalog.sqlite"
    async with trove.open(
        driver, middleware=layers if kind == "sealed" else [], catalog=catalog
    ) as store:
        await store.create_bucket(bucket)
        options: Any = {"resumable": True, "part_size": 5 * MiB, "metadata": {"n": "v"}}
        for stop in (1, 2):
            task = asyncio.create_task(store.upload(bucket, "a/k", source, **options))
            while sum(sent.values()) < stop and not task.done():  # noqa: ASYNC110 -- untold
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
        (session,) = [found async for found in store.uploads.list()]
        assert session.parts
        info = await store.upload(bucket, "a/k", source, **options)
        assert info.size == len(DATA) and info.metadata == {"n": "v"}
        assert sum(sent.values()) - len(sent) <= 2 * 4, "no more than was on its way"
        assert await store.get_bytes(bucket, "a/k") == DATA
        found = await store.head(bucket, "a/k")
        assert (found.size, found.encodings) == (len(DATA), info.encodings)
        await store.download(bucket, "a/k", target, resumable=True)
        assert target.read_bytes() == DATA
        await store.delete_bucket(bucket, force=True)
