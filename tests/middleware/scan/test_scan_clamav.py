"""Against a real clamd."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

import trove_async as trove
from tests.core.layers import Source
from tests.middleware.scan.unchanged import assert_unchanged
from tests.servers.clamd import EICAR, NAME, Clamd
from trove_async import (
    ContentBlockedError,
    Context,
    OperationTimeoutError,
    PolicyError,
    RetryPolicy,
    Trove,
    UnavailableError,
)
from trove_async._chunks import OneChunk, collect
from trove_async.middleware.scan import ClamAV, Scan
from trove_async.testing.stepper import Step, cancel_everywhere

MiB = 1024 * 1024


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("harmless.txt", data)
    return buffer.getvalue()


@pytest.fixture(params=["tcp", "unix"])
def scanner(request: pytest.FixtureRequest, clamd: Clamd) -> ClamAV:
    return reached(clamd, request.param)


def reached(clamd: Clamd, way: str, timeout: float = 30.0) -> ClamAV:
    if way == "tcp":
        return ClamAV(clamd.host, clamd.port, timeout)
    return ClamAV(path=clamd.path, timeout=timeout)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def test_it_answers_pings_and_tells_its_version(scanner: ClamAV) -> None:
    await scanner.ping()
    assert (await scanner.version()).startswith("ClamAV ")


BAD = {
    "alone": EICAR,
    "at offset 1000": bytes(1000) + EICAR,
    "at the end of 3 MiB": bytes(3 * MiB) + EICAR,
    "in a deflated zip": zipped(EICAR),
    "in a zip in a zip": zipped(zipped(EICAR)),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("size", [None, 7, 100_000])
async def test_EICAR_is_refused(
    store: Trove, tmp_path: Path, scanner: ClamAV, body: bytes, size: int | None
) -> None:
    if size == 7 and len(body) > MiB:
        size = 4096
    store.use(Scan(scanner))
    source: object = body if size is None else pieces(body, size)
    with pytest.raises(ContentBlockedError) as caught:
        await store.put(None, "innocent.png", source, content_type="image/png")
    assert caught.value.threat == NAME
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize(
    ("total", "size"),
    [
        (0, None),
        (1, None),
        (1000, 1),
        (64 * 1024, None),
        (64 * 1024, 4096),
        (MiB, None),
        (MiB + 1, 4096),
        (8 * MiB, 1_000_003),
    ],
)
async def test_clean_bodies_pass(
    store: Trove, scanner: ClamAV, total: int, size: int | None
) -> None:
    store.use(Scan(scanner))
    body = bytes(range(256)) * (total // 256) + bytes(total % 256)
    await store.put(None, "k", body if size is None else pieces(body, size))
    assert await store.get_bytes(None, "k") == body


async def test_many_chunks_of_one_byte_go_through(scanner: ClamAV) -> None:
    body = bytes(1000) + EICAR
    chunks = await Scan(scanner).write(
        pieces(body, 1),  # type: ignore[arg-type]
        Context("put", "box", "k"),
    )
    with pytest.raises(ContentBlockedError):
        await collect(chunks)
    await chunks.aclose()


async def test_a_hundred_puts_at_once_are_each_judged(store: Trove, scanner: ClamAV) -> None:
    store.use(Scan(scanner))

    async def put(number: int) -> str:
        try:
            await store.put(None, f"n{number}", b"%d" % number + (EICAR if number % 2 else b""))
        except ContentBlockedError as exc:
            return exc.threat
        return ""

    found = await asyncio.gather(*(put(number) for number in range(100)))
    assert found == ["", NAME] * 50
    kept = {info.key for info in (await store.list_page(None)).objects}
    assert kept == {"k", *(f"n{number}" for number in range(0, 100, 2))}


async def test_a_short_queue_of_a_unix_socket_is_waited_for(
    start_clamd: Callable[..., Clamd], nothing_left: None
) -> None:
    """Debian's clamd has room for 15; a connect to a full one fails with EAGAIN."""
    clamd = start_clamd(MaxConnectionQueueLength="1")
    scan = Scan(ClamAV(path=clamd.path))

    async def blocked() -> bool:
        chunks = await scan.write(OneChunk(EICAR), Context("put", "box", "k"))
        try:
            await collect(chunks)
        except ContentBlockedError:
            return True
        finally:
            await chunks.aclose()
        return False

    assert all(await asyncio.gather(*(blocked() for _ in range(100))))


# -- limits of clamd --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tcp", "unix"])
@pytest.mark.parametrize("total", [MiB + 1, 8 * MiB])
@pytest.mark.parametrize("size", [None, 10_000])
async def test_a_body_over_its_stream_limit_is_refused_as_such(
    store: Trove, tmp_path: Path, narrow_clamd: Clamd, way: str, total: int, size: int | None
) -> None:
    """It answers and hangs up in the middle: what it said is not lost."""
    store.use(Scan(reached(narrow_clamd, way)))
    body = bytes(total)
    with pytest.raises(PolicyError, match="StreamMaxLength"):
        await store.put(None, "k", body if size is None else pieces(body, size))
    await assert_unchanged(store, tmp_path)


async def test_with_AlertExceedsMax_what_it_did_not_look_at_is_a_finding(
    store: Trove, tmp_path: Path, narrow_clamd: Clamd
) -> None:
    store.use(Scan(ClamAV(narrow_clamd.host, narrow_clamd.port)))
    with pytest.raises(ContentBlockedError) as caught:
        await store.put(None, "k", bytes(MiB - len(EICAR)) + EICAR)
    assert caught.value.threat.startswith("Heuristics.Limits.Exceeded")
    await assert_unchanged(store, tmp_path)


async def test_max_size_is_for_what_clamd_passes_unseen(
    store: Trove, tmp_path: Path, start_clamd: Callable[..., Clamd]
) -> None:
    """The trap that the docs warn of, and the way out of it."""
    clamd = start_clamd(StreamMaxLength="2M", MaxFileSize="1M")
    scanner = ClamAV(clamd.host, clamd.port)
    body = bytes(MiB) + EICAR
    store.use(Scan(scanner))
    await store.put(None, "seen as clean", body)
    await store.delete(None, "seen as clean")
    store.remove("scan")
    store.use(Scan(scanner, max_size=MiB))
    with pytest.raises(PolicyError):
        await store.put(None, "k", body)
    await assert_unchanged(store, tmp_path)


# -- it goes away ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_S49_a_clamd_that_is_not_there_passes_nothing(
    store: Trove, tmp_path: Path, start_clamd: Callable[..., Clamd], way: str
) -> None:
    clamd = start_clamd()
    store.use(Scan(reached(clamd, way)))
    clamd.stop()
    with pytest.raises(UnavailableError) as caught:
        await store.put(None, "k", b"new")
    assert caught.value.backend == "clamav" and caught.value.retryable
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(UnavailableError):
        await reached(clamd, way).ping()
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize("way", ["tcp", "unix"])
@pytest.mark.parametrize("before", [1, 64 * 1024, 3 * MiB])
async def test_S49_a_clamd_killed_in_mid_stream_passes_nothing(
    store: Trove, tmp_path: Path, start_clamd: Callable[..., Clamd], way: str, before: int
) -> None:
    clamd = start_clamd()
    store.use(Scan(reached(clamd, way)))

    async def body() -> AsyncIterator[bytes]:
        yield bytes(before)
        yield bytes(1)
        clamd.kill()
        yield bytes(MiB)
        yield bytes(MiB)

    with pytest.raises(UnavailableError):
        await store.put(None, "k", body())
    await assert_unchanged(store, tmp_path)


async def test_S49_a_clamd_killed_while_it_is_asked_for_the_verdict_passes_nothing(
    store: Trove, tmp_path: Path, start_clamd: Callable[..., Clamd]
) -> None:
    clamd = start_clamd()
    store.use(Scan(ClamAV(clamd.host, clamd.port)))
    clamd.pause()
    task = asyncio.create_task(store.put(None, "k", b"new"))
    await asyncio.sleep(0.05)
    assert not task.done()
    clamd.kill()
    with pytest.raises(UnavailableError):
        await task
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize("total", [3, 12 * MiB])
@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_S49_a_clamd_that_hangs_passes_nothing(
    store: Trove, tmp_path: Path, start_clamd: Callable[..., Clamd], way: str, total: int
) -> None:
    clamd = start_clamd()
    store.use(Scan(reached(clamd, way, timeout=0.2)))
    clamd.pause()
    try:
        with pytest.raises(OperationTimeoutError) as caught:
            await store.put(None, "k", bytes(total))
    finally:
        clamd.resume()
    assert caught.value.retryable
    await assert_unchanged(store, tmp_path)


async def test_a_put_is_tried_again_when_clamd_is_back(
    target: str, start_clamd: Callable[..., Clamd], nothing_left: None
) -> None:
    clamd = start_clamd()
    scanner = ClamAV(path=clamd.path)  # the port changes
    policy = RetryPolicy(attempts=1000, base=0.01, maximum=0.01)
    async with trove.open(target, default_bucket="box", retry=policy) as store:
        await store.create_bucket("box")
        store.use(Scan(scanner))
        clamd.kill()
        task = asyncio.create_task(store.put(None, "k", b"new"))
        await asyncio.sleep(0.05)
        assert not task.done()
        clamd.start()
        await task
        assert await store.get_bytes(None, "k") == b"new"


# -- nothing left ------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [(b"one", b"two"), (bytes(2 * MiB), EICAR)], ids=["clean", "bad"])
async def test_a_put_cancelled_anywhere_leaves_nothing(
    store: Trove, tmp_path: Path, scanner: ClamAV, body: tuple[bytes, ...]
) -> None:
    store.use(Scan(scanner))

    async def suspending() -> AsyncIterator[bytes]:
        for chunk in body:
            await asyncio.sleep(0)  # clamd may answer before it is waited for
            yield chunk

    async def put() -> None:
        try:
            await store.put(None, "k", suspending())
        except ContentBlockedError:
            await asyncio.sleep(0)

    async def again() -> None:
        await store.put(None, "k", b"old", metadata={"is": "old"})

    async def check(step: Step) -> None:
        found = await store.get_bytes(None, "k")
        assert found in ((b"old", b"onetwo") if body[0] == b"one" else (b"old",))

    assert await cancel_everywhere(put, check=check, before=again) >= 2


async def test_a_source_that_fails_or_stops_leaves_nothing(
    store: Trove, tmp_path: Path, scanner: ClamAV
) -> None:
    store.use(Scan(scanner))
    with pytest.raises(OSError, match="gone"):
        await store.put(None, "k", Source([bytes(MiB)] * 3, at=2, error=OSError("gone")))
    chunks = await Scan(scanner).write(Source([bytes(MiB)] * 3), Context("put", "box", "k"))
    await anext(chunks)
    await chunks.aclose()
    await assert_unchanged(store, tmp_path)


def test_it_works_on_uvloop(clamd: Clamd) -> None:
    async def main() -> None:
        for way in ("tcp", "unix"):
            scanner = reached(clamd, way)
            await scanner.ping()
            async with trove.open("mem://", default_bucket="box") as store:
                await store.create_bucket("box")
                store.use(Scan(scanner))
                await store.put(None, "k", bytes(12 * MiB))
                with pytest.raises(ContentBlockedError):
                    await store.put(None, "k", bytes(12 * MiB) + EICAR)
                assert (await store.head(None, "k")).size == 12 * MiB

    uvloop.run(main())


async def test_a_host_by_name_and_one_that_cannot_be_one(clamd: Clamd) -> None:
    await ClamAV("localhost", clamd.port).ping()  # ::1 refuses, 127.0.0.1 answers
    with pytest.raises(UnavailableError):
        await ClamAV("a" * 70 + ".b", clamd.port).ping()


def test_wrong_settings_are_refused_at_once() -> None:
    for port in (0, -1, 65536):
        with pytest.raises(ValueError, match="port"):
            ClamAV(port=port)
    for timeout in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            ClamAV(timeout=timeout)
