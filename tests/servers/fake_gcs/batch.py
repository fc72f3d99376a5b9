"""Many requests in one.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.servers.fake_gcs.errors import bad

__all__ = ["batched"]

_MOST = 100
One = Callable[[str, str, dict[str, str]], Awaitable[tuple[int, str]]]


async def batched(request: web.Request, one: One) -> web.Response:
    found = re.search(r'boundary="?([^";]+)"?', request.headers.get("Content-Type", ""))
    if found is None:
        raise bad("A batch is multipart/mixed.")
    if "Authorization" not in request.headers:
        raise bad("A batch needs credentials.", "required")
    pieces = (b"\r\n" + await request.read()).split(b"\r\n--" + found[1].encode())
    if pieces[-1][:2] != b"--" or not 1 <= len(pieces) - 2 <= _MOST:
        raise bad("Malformed batch, or more than 100 calls.")
    mark = f"batch_{secrets.token_hex(8)}"
    answers = []
    for piece in pieces[1:-1]:
        outer, _, inner = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb"(?im)^content-id:\s*<([^>\r\n]*)>", outer)
        if name is None or not re.search(rb"(?im)^content-type:\s*application/http", outer):
            raise bad("A part of a batch is application/http and has a Content-ID.")
        line, _, rest = inner.partition(b"\r\n")
        method, target, *_ = line.decode().split(" ")
        headers = dict(
            header.decode().split(": ", 1) for header in rest.split(b"\r\n") if b": " in header
        )
        status, text = await one(method, target, headers)
        answers.append(
            f"--{mark}\r\nContent-Type: application/http\r\n"
            f"Content-ID: <response-{name[1].decode()}>\r\n\r\n"
            f"HTTP/1.1 {status} Status\r\nContent-Type: application/json; charset=UTF-8\r\n"
            f"Content-Length: {len(text.encode())}\r\n\r\n{text}\r\n"
        )
    body = "".join(answers) + f"--{mark}--\r\n"
    return web.Response(
        body=body.encode(), headers={"Content-Type": f"multipart/mixed; boundary={mark}"}
    )
