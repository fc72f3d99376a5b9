"""The fake GCS server as a process of its own on an ephemeral port, with a service account."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["EMAIL", "Server", "gcs", "running_fake"]

EMAIL = "tester@trove-test.iam.gserviceaccount.com"


class Server:
    def __init__(self, process: subprocess.Popen[str], port: int, folder: Path) -> None:
        self._process = process
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self.credentials = folder / "account.json"
        """A service account's key file that this server knows."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def dsn(self, bucket: str = "", **params: str) -> str:
        given = {
            "endpoint": self.endpoint,
            "credentials": str(self.credentials),
            "project": "trove-test",
            **params,
        }
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"gs://{bucket}?{query}"

    def control(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Asks the server what only tests may; blocks for a moment."""
        request = urllib.request.Request(
            f"{self.endpoint}/_fake/{verb}", json.dumps(fields).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10.0) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def uploads(self) -> list[str]:
        """``bucket/name`` of each object whose resumable upload is open."""
        found: list[str] = self.control("state")["uploads"]
        return found

    def script(self, when: str, status: int, **fields: Any) -> None:
        self.control("script", when=when, status=status, **fields)

    def register(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        account = {
            "type": "service_account",
            "project_id": "trove-test",
            "private_key_id": "1",
            "private_key": private.decode(),
            "client_email": EMAIL,
            "token_uri": f"{self.endpoint}/token",
        }
        self.credentials.write_text(json.dumps(account))
        self.control("keys", email=EMAIL, public_key=public.decode())

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running_fake(step: int = 8 << 20) -> Iterator[Server]:
    """``step``: bytes that one call of rewrite copies."""
    command = [sys.executable, "-m", "tests.servers.fake_gcs", "0", str(step)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    with tempfile.TemporaryDirectory(prefix="trove-gcs-") as folder:
        server = Server(process, 0, Path(folder))
        try:
            line = process.stdout.readline()
            process.stdout.close()
            assert line.strip().isdigit(), "the fake GCS server does not start"
            server = Server(process, int(line), Path(folder))
            server.register()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def gcs() -> Iterator[Server]:
    """Shared: make a bucket of your own."""
    with running_fake() as server:
        yield server
