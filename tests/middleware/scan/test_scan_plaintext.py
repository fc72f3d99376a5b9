"""Scanning beside encryption: the plaintext is in memory and on the way to clamd only."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

import trove_async as trove
from tests.servers.clamd import EICAR, Clamd
from trove_async import ContentBlockedError, Middleware, RetryPolicy
from trove_async.middleware import Compress, Encrypt, Keyring
from trove_async.middleware.scan import ClamAV, Scan

CANARY = b"a canary that sings in plain text only. "
PIECE = CANARY * 16_384


def singing(folders: Sequence[Path]) -> list[str]:
    """Files with the canary in ``folders``, and among those this process has open."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    paths += [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    found = []
    for path in paths:
        try:
            if stat.S_ISREG(path.stat().st_mode) and CANARY in path.read_bytes():
                found.append(str(path))
        except OSError:  # the descriptor of the listing
            continue
    return found


@pytest.mark.parametrize("end", ["clean", "blocked", "source fails", "cancelled"])
@pytest.mark.parametrize("kind", ["encrypt", "compress and encrypt", "plain"])
async def test_S48_no_plaintext_on_disk_while_and_after_an_encrypted_put_is_scanned(
    nothing_left: None,
    clamd: Clamd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
    kind: str,
) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    folders = (root, scratch)
    heard: list[str] = []
    waiting = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield PIECE
            await asyncio.sleep(0)
            heard.extend(singing(folders))
        if kind == "plain":  # what a worker is writing now
            while not heard:
                await asyncio.sleep(0.01)
                heard.extend(singing(folders))
        if end == "blocked":
            yield EICAR
        if end == "source fails":
            raise OSError("gone")
        if end == "cancelled":
            waiting.set()
            await asyncio.Event().wait()

    layers: list[Middleware] = []
    if kind != "plain":
        layers.append(Encrypt(Keyring.generate("k1")))
    if kind == "compress and encrypt":
        layers.append(Compress())
    layers.append(Scan(ClamAV(clamd.host, clamd.port)))
    async with trove.open(
        f"file://{root}?durability=none",
        default_bucket="box",
        middleware=layers,
        retry=RetryPolicy(attempts=1),
    ) as store:
        await store.create_bucket("box")
        task = asyncio.create_task(store.put(None, "k", body()))
        if end == "clean":
            await task
            assert await store.get_bytes(None, "k") == PIECE * 8
        elif end == "cancelled":
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(ContentBlockedError if end == "blocked" else OSError):
                await task
        assert await store.exists(None, "k") is (end == "clean")
        left = singing(folders)
    if kind == "plain":  # so it is found where it is
        assert heard and bool(left) is (end == "clean")
    else:
        assert (heard, left) == ([], [])
