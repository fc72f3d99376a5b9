"""kill -9 of an uploading process, its bytes counted by a proxy before a real server: another
process goes on, the object equals its source, and at most one part crosses the wire twice.

Killed at a step of its own (a chunk taken by the driver, a part acknowledged by the driver, by
the catalog), or by the proxy after so many bytes, wherever that is in a request."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.servers.azurite import azurite
from tests.servers.gcs import gcs
from tests.servers.proxy import Proxy
from tests.servers.s3 import moto, rclone
from tests.servers.sshd import sshd
from tests.uploads.ledger import sample
from tests.uploads.upload_child import layers
from trove_async.driver import MultipartDriver, capability
from trove_async.driver.registry import driver_for

__all__ = ["azurite", "gcs", "moto", "rclone", "sshd"]

MiB = 1024 * 1024
ROOT = Path(__file__).parents[2]
SLACK = 96 * 1024
"""Heads of requests, the handshake of SSH and its packets, of one more process."""
SERVERS = ["moto", "rclone", "azurite", "sshd", "gcs"]


@dataclass
class Place:
    dsn: str
    """Through the proxy."""
    beside: str
    bucket: str
    proxy: Proxy
    folder: Path
    part: int

    async def run(self, source: Path, kind: str, log: Path, *, at: int = 0, byte: int = 0) -> bool:
        """Whether the process was killed, at its step ``at`` or once ``byte`` bytes have come."""
        command = [sys.executable, "-m", "tests.uploads.upload_child", self.dsn, str(source)]
        process = await asyncio.create_subprocess_exec(
            *(*command, str(self.part), kind, str(at), str(log)),
            *(self.bucket, str(self.folder / "catalog.sqlite")),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )

        def struck(uploaded: int) -> None:
            if byte and uploaded >= byte and process.returncode is None:
                process.kill()
                self.proxy.on_uploaded = None

        self.proxy.on_uploaded = struck
        try:
            _, said = await process.communicate()
        finally:
            self.proxy.on_uploaded = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode in (0, -signal.SIGKILL), said.decode()
        return process.returncode != 0


@asynccontextmanager
async def placed(name: str, server: Any, folder: Path) -> AsyncIterator[Place]:
    is_ssh = name == "sshd"
    async with Proxy("127.0.0.1", server.port, http=not is_ssh) as proxy:
        if is_ssh:
            known = folder / "known_hosts"
            known.write_text(f"[{server.host}]:{proxy.port} {server.host_key}\n")
            root = server.new_root()
            given = {"agent": "false", "durability": "none", "connections": "1"}
            beside = server.dsn(root, **given)
            dsn = server.dsn(root, **given, known_hosts=str(known))
        else:
            beside = dsn = server.dsn()
        for colon in (":", "%3A"):
            dsn = dsn.replace(f"{colon}{server.port}", f"{colon}{proxy.port}")
        driver = driver_for(beside)[0]
        if capability(driver, MultipartDriver) is None:
            pytest.skip(f"the {driver.name} driver takes no uploads in parts")
        part = max(MiB, driver.features.min_part_size or 1)
        bucket = f"trove-{secrets.token_hex(6)}"
        async with trove.open(beside) as store:
            await store.create_bucket(bucket)
            try:
                yield Place(dsn, beside, bucket, proxy, folder, part)
            finally:
                await store.delete_bucket(bucket, force=True)


async def swept(place: Place, kind: str, parts: int, *, steps: int, cuts: list[float]) -> int:
    """``steps``: how many of the process's own, spread over all of them, 0 for none and -1 for
    every one; ``cuts``: parts of all its bytes."""
    source = place.folder / "source"
    size = place.part * parts + 4321
    data = sample(2 * size if kind == "sealed" else size, parts)
    source.write_bytes(data)
    log = place.folder / "log"
    assert not await place.run(source, kind, log)
    whole = place.proxy.uploaded
    total = int(log.read_text().rsplit(maxsplit=1)[1])
    assert len({line for line in log.read_text().splitlines() if line[0:4] == "sent"}) >= parts
    every = range(1, total + 1)
    chosen = [*every] if steps < 0 else [*every][total // (2 * steps or 1) :: total // (steps or 1)]
    points = [{"at": at} for at in (chosen if steps else [])]
    points += [{"byte": int(cut * whole)} for cut in cuts]
    async with trove.open(place.beside, middleware=layers(kind)) as store:
        await store.delete(place.bucket, "key")
        for point in points:
            log.unlink()
            before = place.proxy.uploaded
            if "byte" in point:
                point = {"byte": point["byte"] + before}
            assert await place.run(source, kind, log, **point), f"it was to be killed: {point}"
            assert not await store.exists(place.bucket, "key"), "nothing is seen before the end"
            assert not await place.run(source, kind, log)
            moved = place.proxy.uploaded - before
            assert moved <= whole + place.part + place.part // 50 + SLACK, point
            sent = Counter(ln for ln in log.read_text().splitlines() if ln.startswith("sent"))
            assert sum(sent.values()) - len(sent) <= 1, "at most one part is sent twice"
            assert len({line.split()[1] for line in sent}) == 1, "it is the same upload"
            assert await store.get_bytes(place.bucket, "key") == data
            await store.delete(place.bucket, "key")
    return len(points)


@pytest.mark.parametrize(("name", "kind"), [("sshd", "sealed")])
async def test_a_killed_upload_to_a_server_goes_on(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, kind: str
) -> None:
    async with placed(name, request.getfixturevalue(name), tmp_path) as place:
        assert await swept(place, kind, 2, steps=0, cuts=[0.6]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["plain", "sealed"])
@pytest.mark.parametrize("name", SERVERS)
async def test_killed_at_every_boundary_and_inside_parts(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, kind: str
) -> None:
    cuts = [number / 20 for number in range(1, 19)]
    async with placed(name, request.getfixturevalue(name), tmp_path) as place:
        points = await swept(place, kind, 4, steps=-1, cuts=cuts)
        assert points > 25
        print(f"{name}, {kind}: killed at {points} points, {len(cuts)} of them by the proxy")
