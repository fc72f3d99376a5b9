"""The fault proxy itself: each fault does what its name says, to the right message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.servers import proxy as faults
from tests.servers.proxy import Proxy

BODY = bytes(range(256)) * 40


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Proxy, list[bytes], aiohttp.ClientSession]]:
    """A server that notes what it gets and answers with BODY."""
    got: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        got.append(await request.read())
        return web.Response(body=BODY)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    port = server.sockets[0].getsockname()[1]
    timeout = aiohttp.ClientTimeout(sock_read=0.3)
    try:
        async with Proxy("127.0.0.1", port) as proxy, aiohttp.ClientSession(timeout=timeout) as s:
            s._retry_connection = False
            yield proxy, got, s
    finally:
        await runner.cleanup()


async def ask(session: aiohttp.ClientSession, url: str, body: bytes = b"x" * 1000) -> bytes:
    async with session.put(url, data=body) as answer:
        assert answer.status == 200
        return await answer.read()


async def test_without_a_fault_connections_carry_many_requests() -> None:
    async with echoing() as (proxy, got, session):
        for _ in range(3):
            assert await ask(session, proxy.endpoint + "/a") == BODY
        assert proxy.connections == 1 and proxy.requests == ["PUT /a HTTP/1.1"] * 3
        assert got == [b"x" * 1000] * 3


async def test_a_fault_hits_the_request_it_is_meant_for() -> None:
    async with echoing() as (proxy, got, session):
        fault = faults.reset(when="/b")
        proxy.add(fault)
        assert await ask(session, proxy.endpoint + "/a") == BODY
        with pytest.raises(aiohttp.ClientError):
            await ask(session, proxy.endpoint + "/b")
        assert await ask(session, proxy.endpoint + "/b") == BODY
        assert fault.hits == 1 and len(got) == 3, "the lost reply was to a request that was done"


@pytest.mark.parametrize("at", [0, 1, 0.5, -1])
@pytest.mark.parametrize("make", [faults.reset, faults.truncate])
async def test_a_broken_answer_is_no_answer(make: Callable[..., faults.Fault], at: float) -> None:
    async with echoing() as (proxy, _, session):
        fault = make(at=0.9999 if at == -1 else at)
        proxy.add(fault)
        with pytest.raises(aiohttp.ClientError):
            await ask(session, proxy.endpoint)
        assert fault.hits == 1


async def test_one_byte_is_another() -> None:
    async with echoing() as (proxy, got, session):
        proxy.add(faults.corrupt("down", at=0.7))
        body = await ask(session, proxy.endpoint)
        assert sum(a != b for a, b in zip(body, BODY, strict=True)) == 1
        proxy.add(faults.corrupt("up", at=0.9))
        await ask(session, proxy.endpoint)
        assert sum(c != ord("x") for c in got[-1]) == 1


async def test_a_request_that_is_cut_never_arrives_whole() -> None:
    async with echoing() as (proxy, got, session):
        proxy.add(faults.reset("up", at=0.9))
        with pytest.raises(aiohttp.ClientError):
            await ask(session, proxy.endpoint)
        assert got == []


async def test_silence_and_trickles_end_in_the_clients_timeout() -> None:
    async with echoing() as (proxy, _, session):
        for fault in (faults.hang("up"), faults.hang(), faults.slow(0.5, at=0.5)):
            proxy.add(fault)
            with pytest.raises(TimeoutError):
                await ask(session, proxy.endpoint)
            assert fault.hits


async def test_latency_delays_and_changes_nothing() -> None:
    async with echoing() as (proxy, _, session):
        fault = faults.latency(0.05)
        proxy.add(fault)
        assert await ask(session, proxy.endpoint) == BODY and fault.hits == 1


async def test_scripted_answers_do_not_reach_the_server() -> None:
    async with echoing() as (proxy, got, session):
        proxy.add(faults.status(503, body=b"busy", headers={"retry-after": "7"}, times=2))
        for _ in range(2):
            async with session.put(proxy.endpoint, data=b"x" * 200_000) as answer:
                assert (answer.status, await answer.read()) == (503, b"busy")
                assert answer.headers["retry-after"] == "7"
        assert got == []
        assert await ask(session, proxy.endpoint) == BODY


async def test_plain_tcp_is_broken_at_an_offset_of_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Proxy("127.0.0.1", port, http=False) as proxy:
        proxy.add(faults.corrupt("up", at=3), faults.truncate("down", at=5))
        for wanted in (b"abcDefgh", b"abcde"):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"abcdefgh")
            writer.write_eof()
            assert await reader.read() == wanted
            writer.close()
            await writer.wait_closed()
        assert proxy.connections == 2
    server.close()
    await server.wait_closed()
