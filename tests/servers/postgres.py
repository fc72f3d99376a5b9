"""PostgreSQL, a cluster of its own in a temporary folder, on an ephemeral port.

It refuses to run as root, so there it runs as ``nobody``."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Postgres", "postgres", "running_postgres"]

_PATIENCE = 60.0


def _tool(name: str) -> str | None:
    """PATH's, else Debian's newest."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


class Postgres:
    def __init__(self, initdb: str, server: str, ready: str) -> None:
        self._home = tempfile.mkdtemp(prefix="trove-postgres-")
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._home, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data = f"{self._home}/data"
        env = {**os.environ, "HOME": self._home, "LC_ALL": "C.UTF-8"}
        command = [initdb, "-D", data, "-U", "trove", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(
            command, check=True, capture_output=True, cwd=self._home, env=env, **self._as
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        flags = ["-D", data, "-k", self._home, "-h", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(
            [server, *flags, "-c", "fsync=off"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._home,
            env=env,
            **self._as,
        )
        deadline = time.monotonic() + _PATIENCE
        while True:
            assert self._process.poll() is None, "postgres has ended"
            assert time.monotonic() < deadline, "postgres does not answer"
            asked = [ready, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(asked, check=False).returncode == 0:
                break
            time.sleep(0.05)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://trove@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Hundreds of databases: Python's rmtree takes minutes for their files beside other work.
        subprocess.run(["rm", "-rf", self._home], check=False)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Skips, with the reason, where it is not installed."""
    initdb, server, ready = _tool("initdb"), _tool("postgres"), _tool("pg_isready")
    if initdb is None or server is None or ready is None:
        pytest.skip("no PostgreSQL here: bash .ci/servers installs it")
    pytest.importorskip("asyncpg", reason="no asyncpg here: trove-async[sql]")
    running = Postgres(initdb, server, ready)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as running:
        yield running
