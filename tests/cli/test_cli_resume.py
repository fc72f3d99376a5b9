"""`trove put` and `get`: stopped, and gone on with by the same command; bars on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import Cli
from tests.cli.test_cli_process import COMMAND, MiB, trove, wait_until
from tests.uploads.ledger import sample

UNIT = sample(8 * MiB)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    with path.open("wb") as file:
        for number in range(8):
            file.write(bytes([number]) + UNIT[1:])
    return path


@pytest.fixture
def bucket(store: str) -> str:
    assert trove("mb", store, "photos").returncode == 0
    return store


def parts(store: str) -> list[Path]:
    root = Path(store.removeprefix("file://").partition("?")[0], ".trove", "multipart")
    return [path for path in root.rglob("*-*-*") if path.is_file()]


def listed(store: str) -> list[dict[str, object]]:
    done = trove("uploads", "ls", store, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_put_goes_on_after_it_was_stopped(bucket: str, large: Path, by: signal.Signals) -> None:
    command = [*COMMAND, "put", bucket, "photos/x", str(large)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE)
    wait_until(lambda: len(parts(bucket)) >= 2, "no part was stored")
    running.send_signal(by)
    assert running.communicate(timeout=60) is not None
    assert running.returncode == (130 if by == signal.SIGINT else -by)
    (session,) = listed(bucket)
    assert session["key"] == "x" and session["parts"]
    kept = {path.name for path in parts(bucket)}
    again = trove("put", bucket, "photos/x", str(large))
    assert again.returncode == 0, again.stderr
    assert kept and not listed(bucket) and not parts(bucket)
    assert trove("get", bucket, "photos/x", f"{large}.back").returncode == 0
    assert Path(f"{large}.back").read_bytes() == large.read_bytes()


def test_a_get_goes_on_after_it_was_killed(bucket: str, large: Path, tmp_path: Path) -> None:
    assert trove("put", bucket, "photos/x", str(large)).returncode == 0
    target = tmp_path / "got"
    target.mkdir()
    running = subprocess.Popen([*COMMAND, "get", bucket, "photos/x", str(target)])
    wait_until(lambda: list(target.glob(".trove-*.record")), "no start was kept")
    running.kill()
    running.wait(60)
    (record,) = target.glob(".trove-*.record")
    assert record.stat().st_size
    assert trove("get", bucket, "photos/x", str(target)).returncode == 0
    assert (target / "x").read_bytes() == large.read_bytes()
    assert [path.name for path in target.iterdir()] == ["x"]


def test_uploads_are_listed_aborted_and_swept(cli: Cli, store: str, tmp_path: Path) -> None:
    import asyncio

    import trove_async

    async def leave() -> str:
        async with trove_async.open(store) as opened:
            await opened.create_bucket("photos")
            session = await opened.uploads.create("photos", "a/b", size=7)
            await session.put_part(1, b"1234567")
            await opened.uploads.create("photos", "old", expires=0.001)
            return session.id

    id = asyncio.run(leave())
    ran = cli("uploads", "ls", store)
    assert ran.code == 0 and id in ran.out and "photos/a/b" in ran.out and "7 B" in ran.out
    assert cli("uploads", "sweep", store).out == "1 swept\n"
    assert cli("uploads", "abort", store, id).code == 0
    ran = cli("uploads", "abort", store, id)
    assert ran.code == 1 and id in ran.err
    assert cli("uploads", "ls", store, "--json").out == ""


def test_a_bar_is_drawn_on_a_terminal_only(bucket: str, large: Path) -> None:
    command = [*COMMAND, "put", bucket, "photos/x", str(large)]
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert b"\x1b[" in seen and b"photos/x" in seen
    assert b"\x1b" not in out and out.startswith(b"put photos/x")
    quiet = trove("put", bucket, "photos/x", str(large))
    assert quiet.stderr == b""
