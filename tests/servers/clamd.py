"""A real clamd on an ephemeral port and a Unix socket, with a signature base of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import md5
from pathlib import Path

import pytest

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE" + b"!$H+H*"
"""In pieces, so that no scanner minds this file."""
NAME = "Local.Eicar.Test.UNOFFICIAL"
"""How clamd names it: signatures that are not its makers' end so."""
BINARY = "clamd"
INSTALL = "apt-get install --no-install-recommends clamav-daemon"

_LIMITS = {"StreamMaxLength": "16M", "MaxFileSize": "16M", "MaxScanSize": "64M"}
_PATIENCE = 30.0


def binary() -> str | None:
    """Where clamd is; on Debian that is not on everybody's PATH."""
    return shutil.which(BINARY, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


class Clamd:
    """One running clamd."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, limits: dict[str, str]) -> None:
        self.path = str(folder / "socket")
        self.port = 0
        self._folder = folder
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "base").mkdir()
        (folder / "scratch").mkdir()
        (folder / "base" / "local.ndb").write_text(f"Local.Eicar.Test:0:*:{EICAR.hex()}\n")
        digest = md5(EICAR, usedforsecurity=False).hexdigest()
        (folder / "base" / "local.hdb").write_text(f"{digest}:{len(EICAR)}:Local.Eicar.Hash\n")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it answers. Another port when the one that was free no longer is."""
        for _ in range(5):
            with socket.socket() as probe:
                probe.bind((self.host, 0))
                self.port = probe.getsockname()[1]
            settings = {
                "Foreground": "yes",
                "TCPAddr": self.host,
                "TCPSocket": str(self.port),
                "LocalSocket": self.path,
                "FixStaleSocket": "yes",
                "DatabaseDirectory": str(self._folder / "base"),
                "TemporaryDirectory": str(self._folder / "scratch"),
                "LogFile": str(self._folder / "log"),
                **self._limits,
            }
            config = self._folder / "clamd.conf"
            config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
            program = binary()
            assert program is not None
            self._process = subprocess.Popen(
                [program, "-c", str(config)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._answers():
                return
        log = self._folder / "log"
        raise RuntimeError(f"clamd does not start: {log.read_text() if log.exists() else 'no log'}")

    def _answers(self) -> bool:
        """False when it has ended."""
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None:
            try:
                with socket.create_connection((self.host, self.port), 1.0) as sock:
                    sock.sendall(b"zPING\0")
                    if sock.recv(16) == b"PONG\0":
                        return True
            except OSError:
                pass
            assert time.monotonic() < deadline, "clamd does not answer"
            time.sleep(0.02)
        return False

    def kill(self) -> None:
        """At once, whatever it is doing."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """It is there, accepts, and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def running(**limits: str) -> Iterator[Clamd]:
    """``limits``: lines of clamd.conf, by name."""
    if binary() is None:
        pytest.skip(f"{BINARY} is not installed: {INSTALL}")
    folder = Path(tempfile.mkdtemp(prefix="trove-clamd-"))  # short: a socket's path has 107 bytes
    server = Clamd(folder, {**_LIMITS, **limits})
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def clamd() -> Iterator[Clamd]:
    """Shared: do not stop it."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def narrow_clamd() -> Iterator[Clamd]:
    """Takes streams of at most a MiB, and reports archives over its limits. Shared."""
    with running(StreamMaxLength="1M", MaxFileSize="512K", AlertExceedsMax="yes") as server:
        yield server


@pytest.fixture
def start_clamd() -> Iterator[Callable[..., Clamd]]:
    """For tests that stop it."""
    with ExitStack() as stack:
        yield lambda **limits: stack.enter_context(running(**limits))
