"""The hot requests over TLS: a server that is known is spoken to, any other is not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trove_async.drivers.s3 import http1
from trove_async.drivers.s3.http1 import Http1

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def certificate(folder: Path, address: str) -> Path:
    """A key and its own certificate for that address, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{address}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[str, list[bytes]]]:
    """An origin, and the heads of the requests it has answered."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        server.close()
        await asyncio.sleep(0.01)


async def asked(http: Http1, origin: str) -> bytes:
    response = await http.request("GET", origin, "/k", "127.0.0.1", {})
    data = b""
    while piece := await response.readany():
        data += piece
    return data


async def test_a_server_that_is_trusted_is_asked_again_on_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, "127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(path))
    monkeypatch.setattr(http1, "_tls", lambda: trusting)
    async with serving(path) as (origin, heard):
        http = Http1(2, 5.0, 5.0)
        try:
            assert [await asked(http, origin) for _ in range(3)] == [b"hello"] * 3
            assert len(http._all) == 1
        finally:
            await http.close()
    assert len(heard) == 3


@pytest.mark.parametrize("is_known", [False, True], ids=["unknown", "of another host"])
async def test_a_server_that_is_not_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    path = certificate(tmp_path, "127.0.0.2" if is_known else "127.0.0.1")
    if is_known:
        trusting = ssl.create_default_context(cafile=str(path))
        monkeypatch.setattr(http1, "_tls", lambda: trusting)
    async with serving(path) as (origin, heard):
        http = Http1(2, 5.0, 5.0)
        try:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asked(http, origin)
        finally:
            await http.close()
    assert heard == []
