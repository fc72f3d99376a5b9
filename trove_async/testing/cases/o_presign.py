"""O. Presigned requests, sent by a client that knows nothing of the store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from trove_async.errors import InvalidKeyError, UnsupportedError
from trove_async.model import PresignedRequest
from trove_async.testing.case import case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.cases.f_copy import ODD
from trove_async.testing.harness import Harness
from trove_async.testing.http import Answer, fetch

NEEDS = ["presign"]
REFUSED = (400, 401, 403)


async def send(request: PresignedRequest, body: bytes = b"") -> Answer:
    return await fetch(request.method, request.url, request.headers, body)


@case("K218", "presign_get_plain_http", needs=NEEDS, stacks=False)
async def presign_get_plain_http(h: Harness) -> None:
    body = noise(300_000)
    await h.store.put(h.bucket, "a/b.bin", body, content_type="text/x")
    request = await h.store.presign_get(h.bucket, "a/b.bin")
    assert request.method == "GET"
    assert request.url not in repr(request), "repr shows the signature"
    answer = await send(request)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "text/x"


@case("K218", "presign_get_with_overrides", needs=NEEDS, stacks=False)
async def presign_get_with_overrides(h: Harness) -> None:
    """Signed in, or refused; never dropped."""
    await h.put("k", b"body")
    try:
        request = await h.store.presign_get(
            h.bucket, "k", content_type="image/png", filename='a "b" é.png'
        )
    except UnsupportedError:
        return
    answer = await send(request)
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("attachment")


@case("K219", "presign_put_plain_http", needs=NEEDS, stacks=False)
async def presign_put_plain_http(h: Harness) -> None:
    body = noise(300_000)
    request = await h.store.presign_put(h.bucket, "a/new")
    assert request.method == "PUT"
    answer = await send(request, body)
    assert answer.status in (200, 201, 204), answer
    assert await h.get("a/new") == body


@case("K219", "presign_put_binds_type_and_size", needs=NEEDS, stacks=False)
async def presign_put_binds_type_and_size(h: Harness) -> None:
    """What was asked to be bound is bound, or refused when signing."""
    try:
        request = await h.store.presign_put(h.bucket, "k", content_type="text/x", size=4)
    except UnsupportedError:
        return
    wrong = PresignedRequest(
        request.method, request.url, {**request.headers, "content-type": "text/html"}
    )
    assert (await send(wrong, b"body")).status in REFUSED
    assert (await send(request, b"too long")).status in REFUSED
    assert not await h.store.exists(h.bucket, "k")
    assert (await send(request, b"body")).status in (200, 201, 204)
    assert (await h.store.head(h.bucket, "k")).content_type == "text/x"


@case("K220", "presign_expires", needs=NEEDS, stacks=False)
async def presign_expires(h: Harness) -> None:
    await h.put("k", b"body")
    get = await h.store.presign_get(h.bucket, "k", expires=1)
    put = await h.store.presign_put(h.bucket, "k", expires=1)
    await asyncio.sleep(2.1)
    assert (await send(get)).status in REFUSED
    assert (await send(put, b"late")).status in REFUSED
    assert await h.get("k") == b"body"


@case("K221", "presign_expiry_bounds", needs=NEEDS, stacks=False)
async def presign_expiry_bounds(h: Harness) -> None:
    for expires in (0, -1, 7 * 24 * 3600 + 1, float("inf"), float("nan")):
        with h.raises(ValueError):
            await h.store.presign_get(h.bucket, "k", expires=expires)
        with h.raises(ValueError):
            await h.store.presign_put(h.bucket, "k", expires=expires)


@case("K222", "presign_wrong_method_key_or_query", needs=NEEDS, stacks=False)
async def presign_wrong_method_key_or_query(h: Harness) -> None:
    await h.put("k", b"body")
    await h.put("k2", b"secret")
    request = await h.store.presign_get(h.bucket, "k")
    parts = urlsplit(request.url)
    other_key = urlunsplit(parts._replace(path=parts.path + "2"))
    half = len(parts.query) // 2
    turned = "0" if parts.query[half] != "0" else "1"
    other_query = urlunsplit(
        parts._replace(query=parts.query[:half] + turned + parts.query[half + 1 :])
    )
    for method, url in (
        ("PUT", request.url),
        ("DELETE", request.url),
        ("GET", other_key),
        ("GET", other_query),
        ("GET", urlunsplit(parts._replace(query=""))),
    ):
        answer = await fetch(method, url, request.headers, b"evil" if method == "PUT" else b"")
        assert answer.status >= 400, f"{method}: {answer.status}"
        assert b"secret" not in answer.body
    assert await h.get("k") == b"body"
    assert sorted(await h.keys()) == ["k", "k2"]


@case("K223", "presign_odd_keys", needs=NEEDS, stacks=False, params=ODD)
async def presign_odd_keys(h: Harness, key: str) -> None:
    try:
        await h.put(key, key.encode())
    except InvalidKeyError:
        return  # the backend cannot hold it, and says so
    answer = await send(await h.store.presign_get(h.bucket, key))
    assert (answer.status, answer.body) == (200, key.encode())
    answer = await send(await h.store.presign_put(h.bucket, key), b"new")
    assert answer.status in (200, 201, 204)
    assert await h.keys() == [key]
    assert await h.get(key) == b"new"


_heard: list[str] | None = None
_hooked = False


def _listen(event: str, args: tuple[object, ...]) -> None:
    if _heard is not None and event in ("socket.connect", "socket.getaddrinfo"):
        _heard.append(f"{event} {args!r}")


@contextmanager
def connections() -> Iterator[list[str]]:
    """Every connection and name look-up of the process. An audit hook cannot be taken off."""
    global _heard, _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_listen)
    _heard = []
    try:
        yield _heard
    finally:
        _heard = None


@case("K224", "presign_needs_no_network", needs=NEEDS, stacks=False)
async def presign_needs_no_network(h: Harness) -> None:
    await h.store.presign_get(h.bucket, "k")  # whatever is looked up once
    with connections() as heard:
        for number in range(10):
            await h.store.presign_get(h.bucket, f"k{number}")
            await h.store.presign_put(h.bucket, f"k{number}")
    assert heard == []
