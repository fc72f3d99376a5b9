"""The least HTTP client that can send a presigned request: no library between us and it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Answer", "fetch"]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


async def fetch(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Sends one request over a connection of its own. The URL goes out exactly as it is."""
    parts = urlsplit(url)
    assert parts.hostname is not None, "no host in the URL"
    context = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if context else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        target = parts.path or "/"
        if parts.query:
            target += "?" + parts.query
        sent = {"host": parts.netloc.rpartition("@")[2], "connection": "close"}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        if body or method in ("PUT", "POST"):
            sent["content-length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        return _parsed(await reader.read(-1), method)
    finally:
        writer.close()
        await writer.wait_closed()


def _parsed(raw: bytes, method: str) -> Answer:
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ", 2)[1])
    if status == 100:
        return _parsed(rest, method)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        rest = _unchunked(rest)
    elif "content-length" in headers and method != "HEAD":
        wanted = int(headers["content-length"])
        assert len(rest) >= wanted, f"{len(rest)} of {wanted} bytes came"
        rest = rest[:wanted]
    return Answer(status, headers, rest)


def _unchunked(raw: bytes) -> bytes:
    found = bytearray()
    while True:
        line, _, raw = raw.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if not size:
            return bytes(found)
        found += raw[:size]
        raw = raw[size + 2 :]
