"""Our own HTTP/1.1 against a server that says exactly what a test wants said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ServerDisconnectedError

from tests.servers.s3 import KEY, SECRET
from trove_async._chunks import OneChunk
from trove_async.driver import PutOptions
from trove_async.drivers.s3 import S3Config, S3Driver
from trove_async.drivers.s3.connection import Response
from trove_async.drivers.s3.framing import Chunked, framing_of, read_head
from trove_async.drivers.s3.http1 import Http1
from trove_async.drivers.s3.transport import Proxied
from trove_async.errors import InvalidInputError

MiB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: a\r\n\r\nok"


class Scripted:
    """Answers every request with ``answer``, after its body; counts connections."""

    def __init__(self, answer: bytes, *, close: bool, early: bool, silent: bool) -> None:
        self.answer = answer
        self.close = close
        self.early = early
        self.silent = silent
        self.connections = 0
        self.requests: list[bytes] = []
        self.bodies: list[int] = []
        self.origin = ""
        self.most_at_once = 0
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self._open += 1
                self.most_at_once = max(self.most_at_once, self._open)
                self.requests.append(head)
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                if self.silent:
                    await asyncio.sleep(60)
                if not self.early:
                    body = await reader.readexactly(length) if length else b""
                    self.bodies.append(len(body))
                await asyncio.sleep(0.005)
                self._open -= 1
                writer.write(self.answer)
                await writer.drain()
                if self.close or self.early:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(
    answer: bytes = OK, *, close: bool = False, early: bool = False, silent: bool = False
) -> AsyncIterator[Scripted]:
    script = Scripted(answer, close=close, early=early, silent=silent)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await script.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client(most: int = 4, read_timeout: float = 5.0) -> AsyncIterator[Http1]:
    http = Http1(most, 5.0, read_timeout)
    try:
        yield http
    finally:
        await http.close()


async def read(response: Response) -> bytes:
    pieces = []
    while piece := await response.content.readany():
        pieces.append(piece)
    return b"".join(pieces)


async def get(http: Http1, script: Scripted) -> Response:
    return await http.request("GET", script.origin, "/b/k", "host", {})


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'3\r\nabc\r\nA;x="y"\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n'
)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_chunks_are_read_however_they_are_cut(step: int) -> None:
    body = CHUNKED.partition(b"\r\n\r\n")[2]
    framing, got = Chunked(), b""
    for start in range(0, len(body), step):
        assert not framing.is_over
        got += b"".join(framing.take(body[start : start + step]))
    assert (got, framing.is_over, framing.surplus) == (b"abc0123456789", True, False)


@pytest.mark.parametrize(
    "body",
    [
        b"3\r\nabcd\r\n",
        b"-3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"\r\n",
        b"3" * 5000,
        b"1" * 16 + b"\r\n",
    ],
)
def test_a_chunk_that_lies_is_refused(body: bytes) -> None:
    with pytest.raises(ClientPayloadError):
        Chunked().take(body)


@pytest.mark.parametrize(
    "head",
    [
        b"ICY 200 OK",
        b"HTTP/2 200",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded",
        b"HTTP/1.1 200 OK\r\nContent-Length : 3",
        b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xc2\xb2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
    ],
)
def test_an_answer_that_can_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(ClientPayloadError):
        framing_of("GET", read_head(head))


async def test_a_connection_is_used_again() -> None:
    async with scripted() as script, client() as http:
        for _ in range(3):
            response = await get(http, script)
            assert (response.status, response.headers["etag"]) == (200, "a")
            assert await read(response) == b"ok"
        assert script.connections == 1


@pytest.mark.parametrize(
    ("answer", "close", "wanted"),
    [
        (CHUNKED, False, b"abc0123456789"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, b""),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", True, b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", True, b"to the end"),
        (OK + b"surplus", False, b"ok"),
    ],
)
async def test_every_framing(answer: bytes, close: bool, wanted: bytes) -> None:
    async with scripted(answer, close=close) as script, client() as http:
        for _ in range(2):
            assert await read(await get(http, script)) == wanted
        is_kept = not close and not answer.endswith(b"surplus")
        assert script.connections == (1 if is_kept else 2)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ServerDisconnectedError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ServerDisconnectedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort", ClientPayloadError),
        (CHUNKED[:-20], ClientPayloadError),
        (b"HTTP/1.1 101 Switching\r\n\r\n", ClientPayloadError),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, ClientPayloadError),
    ],
)
async def test_what_ends_too_early_is_no_answer(answer: bytes, error: type[Exception]) -> None:
    async with scripted(answer, close=True) as script, client() as http:
        with pytest.raises(error):
            await read(await get(http, script))


async def test_no_more_connections_than_allowed_and_each_turn_comes() -> None:
    async with scripted() as script, client(most=3) as http:

        async def one() -> bytes:
            return await read(await get(http, script))

        assert await asyncio.gather(*[one() for _ in range(40)]) == [b"ok"] * 40
        assert script.most_at_once == script.connections == 3


async def test_cancelled_at_any_moment_nothing_is_lost() -> None:
    """The turns come back: afterwards as many requests as ever are served."""
    async with scripted() as script, client(most=2) as http:

        async def one() -> bytes:
            return await read(await get(http, script))

        for step in range(60):
            tasks = [asyncio.create_task(one()) for _ in range(4)]
            for _ in range(step % 20):
                await asyncio.sleep(0 if step < 40 else 0.001)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(5):
            assert await asyncio.gather(*[one() for _ in range(10)]) == [b"ok"] * 10
        assert script.most_at_once >= 2


async def test_silence_times_out() -> None:
    async with scripted(silent=True) as script, client(read_timeout=0.1) as http:
        with pytest.raises(TimeoutError):
            await get(http, script)


async def test_a_body_that_stops_times_out_but_a_slow_reader_does_not() -> None:
    size = 3 * MiB
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    async with scripted(whole) as script, client(read_timeout=0.2) as http:
        response = await get(http, script)
        await asyncio.sleep(0.5)
        assert await read(response) == bytes(size)
        script.answer = whole[: 2 * MiB]
        with pytest.raises(TimeoutError):
            await read(await get(http, script))


async def test_a_reader_that_waits_holds_the_server_back() -> None:
    size = 64 * MiB
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    async with scripted(whole) as script, client() as http:
        response = await get(http, script)
        await asyncio.sleep(0.2)
        assert response._held < 2 * MiB
        response.close()
        with pytest.raises(ClientConnectionError):
            while True:
                await response.content.readany()


async def test_a_long_body_is_sent_and_a_refusal_ends_it() -> None:
    pieces = [bytes(MiB)] * 20
    size = 20 * MiB
    headers = {"content-length": str(size)}
    async with scripted() as script, client() as http:
        response = await http.request("PUT", script.origin, "/b/k", "h", headers, pieces, size)
        assert await read(response) == b"ok"
        assert script.bodies == [size]
    refusal = OK.replace(b"200 OK", b"403 No")
    async with scripted(refusal, early=True) as script, client() as http:
        try:
            response = await http.request("PUT", script.origin, "/b/k", "h", headers, pieces, size)
        except ConnectionError:
            pass  # the reset came before the answer was read
        else:
            assert response.status == 403
        assert script.connections == 1


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\rb", "a\0b"])
async def test_a_header_is_never_two(value: str) -> None:
    async with scripted() as script, client() as http:
        with pytest.raises(InvalidInputError):
            await http.request("GET", script.origin, "/b/k", "host", {"x-amz-meta-a": value})
        with pytest.raises(InvalidInputError):
            await http.request("GET", script.origin, f"/b/{value}", "host", {})
        assert script.connections == 0


async def test_what_is_under_way_ends_with_the_client() -> None:
    async with scripted(silent=True) as script, client(most=1) as http:
        tasks = [asyncio.create_task(get(http, script)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await http.close()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, RuntimeError) and "closed" in str(outcome)
        with pytest.raises(RuntimeError, match="closed"):
            await get(http, script)


async def test_an_idle_connection_that_the_server_closed_is_not_used() -> None:
    async with scripted(close=True) as script, client() as http:
        for _ in range(3):
            assert await read(await get(http, script)) == b"ok"
            await asyncio.sleep(0.02)
        assert script.connections == 3


async def test_idle_connections_go_and_make_room_for_another_host() -> None:
    async with scripted() as one, scripted() as other, client(most=1) as http:
        for script in (one, other, one):
            assert await read(await get(http, script)) == b"ok"
        assert (one.connections, other.connections) == (2, 1)
        looks: Callable[[], None] = http._sweep
        for idle in http._idle.values():
            for connection in idle:
                connection.idle_since -= 60
        looks()
        await asyncio.sleep(0.01)
        assert not http._all


@pytest.mark.parametrize("signed", [None, True, False])
async def test_a_body_is_signed_unless_told_otherwise(signed: bool | None) -> None:
    """Over plain HTTP."""
    async with scripted() as script:
        driver = S3Driver(
            S3Config(
                endpoint=script.origin, region="r", key=KEY, secret=SECRET, sign_payload=signed
            )
        )
        await driver.open()
        try:
            await driver.put("b", "k", OneChunk(b"body"), PutOptions(size=4))
        finally:
            await driver.close()
        sent = script.requests[-1]
        digest = b"UNSIGNED-PAYLOAD" if signed is False else sha256(b"body").hexdigest().encode()
        assert b"x-amz-content-sha256: " + digest in sent


async def test_behind_a_proxy_aiohttp_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody resolves: only the proxy is asked for it."""
    async with scripted() as script:
        monkeypatch.setenv("http_proxy", script.origin)
        http = Proxied(S3Config(region="r"))
        try:
            for body in ([], [bytes(MiB)] * 3):
                size = sum(map(len, body))
                headers = {"content-length": str(size)}
                where = "http://nowhere.invalid"
                response = await http.request("PUT", where, "/b/k", "h", headers, body, size)
                assert response.status == 200
                assert await response.content.readany() == b"ok"
                response.release()
        finally:
            await http.close()
        assert script.requests[0].startswith(b"PUT http://nowhere.invalid/b/k ")
        assert script.bodies == [0, 3 * MiB]
