"""The command as a process: pipes, signals, start-up."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "trove_async.cli"]
MiB = 1024 * 1024


def trove(*arguments: str, body: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], input=body, capture_output=True, timeout=60)


def wait_until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def waiting(pipe: int) -> int:
    """Bytes that can be read."""
    count: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
    return count


@pytest.fixture
def bucket(store: str) -> str:
    assert trove("mb", store, "photos").returncode == 0
    return store


def staged(store: str) -> list[str]:
    """Files of the store that are neither locks nor objects."""
    root = Path(store.removeprefix("file://").partition("?")[0], ".trove")
    return [str(p) for p in root.rglob("*") if p.is_file() and p.stat().st_size]


def test_standard_input_and_output_carry_any_bytes(bucket: str) -> None:
    body = os.urandom(3 * MiB + 17)
    assert trove("put", bucket, "photos/x", "-", body=body).returncode == 0
    assert trove("cat", bucket, "photos/x").stdout == body
    assert trove("get", bucket, "photos/x", "-").stdout == body


@pytest.mark.parametrize("source", [os.devnull, "file"])
def test_standard_input_may_be_a_file_or_nothing(bucket: str, tmp_path: Path, source: str) -> None:
    file = Path(source) if source == os.devnull else tmp_path / source
    if source == "file":
        file.write_bytes(b"redirected")
    with file.open("rb") as stream:
        done = subprocess.run([*COMMAND, "put", bucket, "photos/x", "-"], stdin=stream, timeout=60)
    assert done.returncode == 0
    assert trove("cat", bucket, "photos/x").stdout == (
        b"" if source == os.devnull else b"redirected"
    )


def test_a_reader_that_leaves_early_ends_it_quietly(bucket: str) -> None:
    assert trove("put", bucket, "photos/x", "-", body=bytes(8 * MiB)).returncode == 0
    with subprocess.Popen(
        [*COMMAND, "cat", bucket, "photos/x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as cat:
        assert cat.stdout is not None
        assert cat.stderr is not None
        assert cat.stdout.read(10) == bytes(10)
        cat.stdout.close()
        assert cat.stderr.read() == b""
        assert cat.wait(30) == 128 + signal.SIGPIPE


def test_a_listing_whose_reader_leaves_early_ends_quietly(bucket: str) -> None:
    root = Path(bucket.removeprefix("file://").partition("?")[0], "photos")
    for number in range(2000):  # more than a pipe holds
        (root / f"{number:0200}").touch()
    environment = {**os.environ}
    environment.pop("PYTHONUNBUFFERED", None)  # what is buffered fails at the very end
    with subprocess.Popen(
        [*COMMAND, "ls", bucket, "photos"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as ls:
        assert ls.stdout is not None
        assert ls.stderr is not None
        assert ls.stdout.readline() == b"0" * 200 + b"\n"
        ls.stdout.close()
        assert ls.stderr.read() == b""
        assert ls.wait(30) == 128 + signal.SIGPIPE


def test_an_interrupt_ends_a_cat_that_nobody_reads(bucket: str) -> None:
    assert trove("put", bucket, "photos/x", "-", body=bytes(8 * MiB)).returncode == 0
    with subprocess.Popen(
        [*COMMAND, "cat", bucket, "photos/x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as cat:
        assert cat.stdout is not None
        assert cat.stderr is not None
        assert os.read(cat.stdout.fileno(), 1) == b"\0"  # it writes, and then the pipe is full
        pipe = cat.stdout.fileno()
        size = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
        wait_until(lambda: waiting(pipe) > size - 4096, "the pipe did not fill")
        cat.send_signal(signal.SIGINT)
        assert cat.wait(30) == 130
        assert cat.stderr.read() == b"trove: interrupted\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_put_publishes_nothing(
    bucket: str, number: signal.Signals, code: int
) -> None:
    assert trove("put", bucket, "photos/x", "-", body=b"old").returncode == 0
    with subprocess.Popen(
        [*COMMAND, "put", bucket, "photos/x", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as put:
        assert put.stdin is not None
        assert put.stderr is not None
        put.stdin.write(bytes(20 * MiB))  # more than a pipe holds: it is being read
        put.stdin.flush()
        put.send_signal(number)
        assert put.wait(30) == code
        assert put.stderr.read().count(b"\n") == 1
    assert trove("cat", bucket, "photos/x").stdout == b"old"
    assert staged(bucket) == []


def test_an_interrupted_get_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """The source is a pipe that gives the first half of the object and then waits."""
    (tmp_path / "store.py").write_text(SLOW_STORE)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "file"
    target.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "store.py"), "get", "slow://", "photos/x", str(target)],
        stderr=subprocess.PIPE,
    ) as get:
        assert get.stderr is not None
        wait_until(
            lambda: any(p.stat().st_size for p in (tmp_path / "out").glob(".trove-*.part")),
            "nothing was written",
        )
        get.send_signal(signal.SIGINT)
        assert get.wait(30) == 130
        assert get.stderr.read() == b"trove: interrupted\n"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


SLOW_STORE = """
import asyncio
import trove_async as trove
from trove_async.drivers.memory import MemoryDriver
from trove_async.cli import main


class Slow(MemoryDriver):
    async def open(self):
        await super().open()
        await self.create_bucket("photos", trove.BucketOptions())
        async with trove.open(MemoryDriver()) as store:
            pass

    async def get(self, bucket, key, options):
        half = trove.RawObject(info(key), Half(), 0, 2_000_000)
        return half


def info(key):
    from datetime import datetime, timezone
    from trove_async import ObjectInfo
    return ObjectInfo(key, 2_000_000, 2_000_000, "a/b", "e", datetime.now(timezone.utc))


class Half:
    given = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.given:
            await asyncio.sleep(3600)
        self.given = True
        return bytes(1_000_000)

    async def aclose(self):
        pass


trove.register("slow", lambda dsn: Slow())
main()
"""


def test_without_the_extra_it_names_the_extra(tmp_path: Path) -> None:
    for name in ("typer", "rich"):
        (tmp_path / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name={name!r})"
        )
    done = subprocess.run(
        [*COMMAND, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert 'pip install "trove-async[cli]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_names_every_command_and_starts_fast() -> None:
    best = float("inf")
    for _ in range(5):
        before = os.times()
        done = trove("--help")
        after = os.times()
        assert done.returncode == 0
        spent = after.children_user + after.children_system
        best = min(best, spent - before.children_user - before.children_system)
    for command in ("ls", "put", "get", "cat", "rm", "cp", "stat", "mb", "rb", "demo"):
        assert f"\n  {command} " in done.stdout.decode()
    assert best < 1.0, f"{best:.3f} s of CPU for --help (aim: 0.3)"
