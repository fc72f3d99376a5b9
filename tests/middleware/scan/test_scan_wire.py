"""Servers that are not what a clamd is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.middleware.scan.unchanged import assert_unchanged
from trove_async import (
    BackendError,
    ContentBlockedError,
    Context,
    OperationTimeoutError,
    PolicyError,
    Trove,
    UnavailableError,
)
from trove_async.middleware.scan import ClamAV, Scan

MiB = 1024 * 1024
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Gives the port; ends with every connection's handler ended."""
    handled: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handled.add(task)
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if handled:
            await asyncio.wait(handled)
        await server.wait_closed()


async def whole_stream(reader: asyncio.StreamReader) -> bytes:
    """What a client sent by INSTREAM, checked for its form."""
    assert await reader.readexactly(10) == b"zINSTREAM\0"
    body = b""
    while size := int.from_bytes(await reader.readexactly(4), "big"):
        body += await reader.readexactly(size)
    return body


def answering(*pieces: bytes) -> Handler:
    """Takes the whole stream, answers, hangs up."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_stream(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)

    return handler


async def put_through(
    store: Trove, handler: Handler, body: object = b"new", timeout: float = 10.0
) -> None:
    async with serving(handler) as port:
        store.use(Scan(ClamAV("127.0.0.1", port, timeout)))
        await store.put(None, "k", body)


# -- answers -----------------------------------------------------------------------------------


async def test_an_answer_in_pieces_is_one_answer(store: Trove) -> None:
    await put_through(store, answering(b"str", b"eam: O", b"K", b"\0"))
    assert await store.get_bytes(None, "k") == b"new"


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 10_000], ids=["0", "1", "big"])
async def test_the_server_sees_the_whole_body(store: Trove, body: bytes) -> None:
    seen = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = await whole_stream(reader)
        writer.write(b"stream: OK\0")

    await put_through(store, handler, body)
    assert seen == body == await store.get_bytes(None, "k")


@pytest.mark.parametrize(
    ("answer", "threat"),
    [
        (b"stream: A.Name-1 FOUND\0", "A.Name-1"),
        (b"stream: two words FOUND\0", "two words"),
        (b"stream: stream: OK FOUND\0", "stream: OK"),
        (b"stream: \xff\n FOUND\0", "\\xff\n"),
        (b"stream:  FOUND\0", ""),
        (b"stream: FOUND\0", "FOUND"),
    ],
)
async def test_a_finding_names_the_threat_as_the_server_does(
    store: Trove, tmp_path: Path, answer: bytes, threat: str
) -> None:
    with pytest.raises(ContentBlockedError) as caught:
        await put_through(store, answering(answer))
    assert caught.value.threat == threat
    assert "\n" not in str(caught.value)
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", UnavailableError),
        (b"stream: OK", UnavailableError),  # cut off: it may have gone on otherwise
        (b"stream: Eicar FOU", UnavailableError),
        (b"\0", BackendError),
        (b"OK\0", BackendError),
        (b"stream: OK \0", BackendError),
        (b"stream: OK\n\0", BackendError),
        (b"stream: ok\0", BackendError),
        (b"1: stream: OK\0", BackendError),
        (b"stream: OK\0stream: Eicar FOUND\0", BackendError),
        (b"stream: OK\0\0", BackendError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\0", BackendError),
        (b"UNKNOWN COMMAND\0", BackendError),
        (b"\xff\xfe\xfd\0", BackendError),
        (b"x" * 5000, BackendError),
        (b"stream: OK" + b" " * 5000 + b"\0", BackendError),
        (b"stream: lstat() failed. ERROR\0", BackendError),
        (b"INSTREAM size limit exceeded. ERROR\0", PolicyError),
    ],
)
async def test_S49_what_is_no_verdict_passes_nothing(
    store: Trove, tmp_path: Path, answer: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        await put_through(store, answering(answer))
    assert type(caught.value) is error
    await assert_unchanged(store, tmp_path)


# -- time --------------------------------------------------------------------------------------


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def trickling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole_stream(reader)
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes a little and no more, until the client has gone."""
    await reader.readexactly(10)
    while not writer.transport.is_closing():
        await asyncio.sleep(0.01)
        try:
            writer.write(b"x")  # notices the end of the connection
            await writer.drain()
        except ConnectionError:
            return


@pytest.mark.parametrize("handler", [silent, trickling], ids=lambda handler: handler.__name__)
async def test_S49_a_server_that_does_not_come_to_an_end_passes_nothing(
    store: Trove, tmp_path: Path, handler: Handler
) -> None:
    with pytest.raises(OperationTimeoutError, match=r"answer within 0\.1 s") as caught:
        await put_through(store, handler, timeout=0.1)
    assert caught.value.retryable and isinstance(caught.value.__cause__, TimeoutError)
    await assert_unchanged(store, tmp_path)


async def test_S49_a_server_that_takes_no_more_passes_nothing(store: Trove, tmp_path: Path) -> None:
    with pytest.raises(OperationTimeoutError, match="take the body"):
        await put_through(store, deaf, bytes(16 * MiB), timeout=0.1)
    await assert_unchanged(store, tmp_path)


async def test_S49_a_server_that_does_not_accept_passes_nothing(
    store: Trove, tmp_path: Path
) -> None:
    with socket.socket() as listening, socket.socket() as first:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        first.connect(listening.getsockname())  # the queue is full
        store.use(Scan(ClamAV("127.0.0.1", listening.getsockname()[1], 0.1)))
        with pytest.raises(OperationTimeoutError):
            await store.put(None, "k", b"new")
    await assert_unchanged(store, tmp_path)


async def test_a_full_queue_of_a_unix_socket_is_waited_for(
    store: Trove, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("s") / "s")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(BlockingIOError):
            probe.setblocking(False)
            probe.connect(path)
        with pytest.raises(OperationTimeoutError, match="connect within"):
            await ClamAV(path=path, timeout=0.05).ping()
        waiting = asyncio.create_task(ClamAV(path=path, timeout=10.0).ping())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        listening.accept()[0].close()
        listening.setblocking(False)
        accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
        with accepted:
            assert await asyncio.get_running_loop().sock_recv(accepted, 100) == b"zPING\0"
            accepted.sendall(b"PONG\0")
            await waiting


@pytest.mark.parametrize("wait", ["connect", "send", "answer"])
async def test_a_cancel_while_waiting_closes_the_socket(
    store: Trove, tmp_path: Path, wait: str
) -> None:
    gone = asyncio.Event()
    come = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if wait == "answer":
            await whole_stream(reader)
            come.set()
            assert await reader.read() == b""
            gone.set()
        else:
            await reader.readexactly(10)
            come.set()
            await deaf(reader, writer)
            gone.set()

    if wait == "connect":
        with socket.socket() as listening, socket.socket() as first:
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)
            first.connect(listening.getsockname())
            store.use(Scan(ClamAV("127.0.0.1", listening.getsockname()[1])))
            task = asyncio.create_task(store.put(None, "k", b"new"))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    else:
        async with serving(handler) as port:
            store.use(Scan(ClamAV("127.0.0.1", port)))
            body = b"new" if wait == "answer" else bytes(16 * MiB)
            task = asyncio.create_task(store.put(None, "k", body))
            await come.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone.wait()
    await assert_unchanged(store, tmp_path)


# -- it hangs up --------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [0, 10, 100_000])
@pytest.mark.parametrize(
    ("says", "error"),
    [
        (b"", UnavailableError),
        (b"stream: OK\0", UnavailableError),  # of bytes that it has not seen
        (b"stream: Eicar FOUND\0", UnavailableError),
        (b"INSTREAM size limit exceeded. ERROR\0", PolicyError),
        (b"nonsense\0", BackendError),
    ],
)
async def test_S49_a_server_that_hangs_up_in_the_middle_passes_nothing(
    store: Trove, tmp_path: Path, taken: int, says: bytes, error: type[Exception]
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(taken)
        writer.write(says)

    with pytest.raises(error) as caught:
        await put_through(store, handler, bytes(16 * MiB))
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, OSError | None)
    await assert_unchanged(store, tmp_path)


# -- economy -------------------------------------------------------------------------------------


async def test_a_small_body_is_one_write(nothing_left: None) -> None:
    first = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        first = await reader.read(1000)
        writer.write(b"stream: OK\0")

    async with serving(handler) as port:
        session = await ClamAV("127.0.0.1", port).session(Context("put", "box", "k"))
        for chunk in (b"a", b"bc"):
            await session.feed(chunk)
        assert (await session.finish()).threat is None
        await session.aclose()
    assert first == b"zINSTREAM\0" + b"\0\0\0\1a" + b"\0\0\0\2bc" + b"\0\0\0\0"


async def test_large_chunks_go_out_in_pieces_of_a_MiB(nothing_left: None) -> None:
    sizes = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            sizes.append(size)
            await reader.readexactly(size)
        writer.write(b"stream: OK\0")

    async with serving(handler) as port:
        session = await ClamAV("127.0.0.1", port).session(Context("put", "box", "k"))
        await session.feed(bytes(2 * MiB + 5))
        await session.finish()
        await session.aclose()
    assert sizes == [MiB, MiB, 5]


async def test_a_slow_body_is_sent_before_much_of_it_has_come(
    nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """clamd ends a stream that is silent for long."""
    monkeypatch.setattr("trove_async.middleware.scan.clamav._LINGER", 0.0)
    come = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(15)
        come.set()
        await reader.read()

    async with serving(handler) as port:
        session = await ClamAV("127.0.0.1", port).session(Context("put", "box", "k"))
        await session.feed(b"a")
        await come.wait()
        await session.aclose()
