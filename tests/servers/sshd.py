"""A real OpenSSH sshd on an ephemeral port, as an unprivileged process, with keys of its own."""

from __future__ import annotations

import atexit
import getpass
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

import asyncssh
import pytest

BINARY = "/usr/sbin/sshd"
INSTALL = "bash .ci/servers (or apt-get install --no-install-recommends openssh-server)"
ACCOUNT = "trovetest"
"""Made when the tests run as root: sshd serves the user it runs as."""
_PATIENCE = 30.0

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
Subsystem sftp internal-sftp{options}
MaxStartups 100
MaxSessions 100
"""


class Sshd:
    """One running sshd. Each `new_root` is a folder of its own below its home."""

    host = "127.0.0.1"

    def __init__(self, options: str = "") -> None:
        """``options``: of internal-sftp, as ``-R`` for read-only."""
        self.user = _account()
        self.folder = Path(tempfile.mkdtemp(prefix="trove-sshd-", dir=_fastest()))
        self.key = self.folder / "client_key"
        self.known_hosts = self.folder / "known_hosts"
        self.port = 0
        self._options = options and f" {options}"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        host = asyncssh.generate_private_key("ssh-ed25519")
        client = asyncssh.generate_private_key("ssh-ed25519")
        host.write_private_key(self.folder / "host_key")
        client.write_private_key(self.key)
        client.write_public_key(self.folder / "authorized_keys")
        for private in (self.folder / "host_key", self.key):
            private.chmod(0o600)
        self.host_key = host.export_public_key().decode().strip()
        if os.getuid() == 0:
            entry = pwd.getpwnam(self.user)
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def new_root(self) -> Path:
        """A path that does not exist yet."""
        return self.folder / f"root-{next(self._numbers)}"

    def dsn(self, root: Path | str, **params: str) -> str:
        shown = {"key": str(self.key), "known_hosts": str(self.known_hosts), **params}
        query = "&".join(f"{name}={quote(value)}" for name, value in shown.items())
        return f"sftp://{self.user}@{self.host}:{self.port}{quote(str(root))}?{query}"

    def start(self) -> None:
        """Returns once it answers; on the port it had before, if it had one."""
        for _ in range(5):
            if not self.port:
                with socket.socket() as probe:
                    probe.bind((self.host, 0))
                    self.port = probe.getsockname()[1]
            settings = _CONFIG.format(port=self.port, folder=self.folder, options=self._options)
            (self.folder / "sshd_config").write_text(settings)
            self.known_hosts.write_text(f"[{self.host}]:{self.port} {self.host_key}\n")
            with open(self.folder / "log", "ab") as log:
                command = [BINARY, "-D", "-e", "-f", str(self.folder / "sshd_config")]
                if os.getuid() == 0:
                    group = pwd.getpwnam(self.user).pw_gid
                    self._process = subprocess.Popen(
                        command, stdout=log, stderr=log, user=self.user, group=group,
                        extra_groups=[],
                    )  # fmt: skip
                else:
                    self._process = subprocess.Popen(command, stdout=log, stderr=log)
            if self._answers():
                return
            self.port = 0
        raise RuntimeError(f"sshd does not start: {(self.folder / 'log').read_text()}")

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None:
            with suppress(OSError), socket.create_connection((self.host, self.port), 1.0) as sock:
                if sock.recv(4) == b"SSH-":
                    return True
            assert time.monotonic() < deadline, "sshd does not answer"
            time.sleep(0.02)
        return False

    @property
    def sessions(self) -> list[int]:
        """Process ids of the sessions that are open."""
        return [] if self._process is None else _descendants(self._process.pid)

    def kill_sessions(self) -> int:
        """Ends all connections at once, in the middle of what they do; sshd listens on."""
        found = self.sessions
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def kill(self) -> None:
        """The listener and all its sessions."""
        process, self._process = self._process, None
        if process is None:
            return
        below = _descendants(process.pid)
        process.kill()
        process.wait()
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _fastest() -> str | None:
    """Memory, where there is some: these tests are not about the disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                text = Path("/proc", entry, "stat").read_text()
                parent = int(text.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


@cache
def _account() -> str:
    if os.getuid() != 0:
        return getpass.getuser()
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--create-home", "--shell", "/bin/sh", ACCOUNT], check=True
        )
    os.makedirs("/run/sshd", exist_ok=True)
    return ACCOUNT


def missing() -> str | None:
    """Why there can be no sshd here."""
    return None if os.access(BINARY, os.X_OK) else f"{BINARY} is not installed: {INSTALL}"


@cache
def shared() -> Sshd:
    """The one of this process; it goes with it. Do not stop it."""
    server = Sshd()
    atexit.register(server.remove)
    server.start()
    return server


@contextmanager
def running(options: str = "") -> Iterator[Sshd]:
    server = Sshd(options)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def sshd() -> Sshd:
    """Shared: do not stop it."""
    if reason := missing():
        pytest.skip(reason)
    return shared()


@pytest.fixture
def start_sshd() -> Iterator[Callable[..., Sshd]]:
    """For tests that stop it."""
    if reason := missing():
        pytest.skip(reason)
    made: list[Sshd] = []

    def start(options: str = "") -> Sshd:
        server = Sshd(options)
        made.append(server)
        server.start()
        return server

    yield start
    for server in made:
        server.remove()
