"""Azurite, a process of its own on an ephemeral port, with its objects in memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from urllib.parse import quote

import pytest

__all__ = ["ACCOUNT", "ACCOUNTS", "KEY", "Azurite", "azurite", "running_azurite"]

ACCOUNT = "devstoreaccount1"
# The key that every azurite has: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
ACCOUNTS = [f"trove{number:02}" for number in range(32)]
"""More of them, with the same key: each is storage of its own."""
_PATIENCE = 60.0


class Azurite:
    def __init__(self, binary: str, port: int) -> None:
        self.port = port
        self.endpoint = self.endpoint_of(ACCOUNT)
        command = [binary, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
        flags = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        accounts = [ACCOUNT, *ACCOUNTS]
        self._process = subprocess.Popen(
            [*command, *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "AZURITE_ACCOUNTS": ";".join(f"{a}:{KEY}" for a in accounts)},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def endpoint_of(self, account: str) -> str:
        return f"http://127.0.0.1:{self.port}/{account}"

    def dsn(self, container: str = "", account: str = ACCOUNT, **params: str) -> str:
        endpoint = self.endpoint_of(account)
        given = {"account": account, "key": KEY, "endpoint": endpoint, **params}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())
        return f"azblob://{container}?{query}"

    def wait(self) -> bool:
        """Until it answers; False when it has ended."""
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return True
            except OSError:
                assert time.monotonic() < deadline, "azurite does not answer"
                time.sleep(0.05)
        return False

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _binary() -> str | None:
    """What ``.ci/servers`` installs, else PATH's."""
    root = Path(__file__).parents[2]
    installed = root / "build" / "servers" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    return str(installed) if installed.exists() else which("azurite-blob")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_azurite() -> Iterator[Azurite]:
    binary = _binary()
    if binary is None:
        pytest.skip("azurite is not installed: bash .ci/servers")
    for _ in range(5):  # another port when the one that was free no longer is
        server = Azurite(binary, free_port())
        try:
            if server.wait():
                yield server
                return
        finally:
            server.stop()
    raise RuntimeError("azurite does not start")


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Shared: make a container of your own."""
    with running_azurite() as server:
        yield server
