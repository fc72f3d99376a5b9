"""Scanners that want a whole file."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path
from typing import IO

import pytest

from tests.core.layers import Source
from tests.middleware.scan.unchanged import assert_unchanged
from trove_async import BackendError, ContentBlockedError, Context, Trove
from trove_async.middleware.scan import CLEAN, Scan, Spooled, Verdict
from trove_async.testing.stepper import Step, cancel_everywhere

MEMORY = 1000


def examine(file: IO[bytes], context: Context) -> Verdict:
    return Verdict("Found") if b"virus" in file.read() else CLEAN


async def examine_async(file: IO[bytes], context: Context) -> Verdict:
    await asyncio.sleep(0)
    return examine(file, context)


class Examiner:
    """Its call is async, which its type does not tell."""

    async def __call__(self, file: IO[bytes], context: Context) -> Verdict:
        return await examine_async(file, context)


@pytest.mark.parametrize("function", [examine, examine_async, Examiner()])
@pytest.mark.parametrize("size", [0, 1, MEMORY, MEMORY + 1, 100_000])
async def test_clean_bodies_pass_and_bad_ones_do_not(
    store: Trove, tmp_path: Path, function: object, size: int
) -> None:
    store.use(Scan(Spooled(function, memory=MEMORY)))  # type: ignore[arg-type]
    body = bytes(size)
    for bad in (body + b"virus", [body[:999], b"vir", b"us"] if size else [b"vir", b"us"]):
        with pytest.raises(ContentBlockedError) as caught:
            await store.put(None, "k", bad)
        assert caught.value.threat == "Found"
    await assert_unchanged(store, tmp_path)
    await store.put(None, "k", body)
    assert await store.get_bytes(None, "k") == body


@pytest.mark.parametrize("size", [MEMORY, MEMORY + 1])
async def test_only_large_bodies_are_on_disk_and_then_without_a_name(
    store: Trove, tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    seen: list[tuple[int, int]] = []
    place: list[str] = []

    def look(file: IO[bytes], context: Context) -> Verdict:
        if size > MEMORY:
            status = os.fstat(file.fileno())
            seen.append((status.st_nlink, stat.S_IMODE(status.st_mode)))
            place.append(os.readlink(f"/proc/self/fd/{file.fileno()}"))
        assert (context.bucket, context.key) == ("box", "k")
        assert file.tell() == 0 and len(file.read()) == size
        return CLEAN

    store.use(Scan(Spooled(look, memory=MEMORY, directory=folder)))
    await store.put(None, "k", Source([bytes(1)] * size))
    if size > MEMORY:
        assert seen == [(0, 0o600)]
        assert place[0].startswith(str(folder))
    assert os.listdir(folder) == []


async def test_a_plain_function_does_not_hold_up_the_loop(store: Trove) -> None:
    loop = asyncio.get_running_loop()
    beat = threading.Event()

    def wait(file: IO[bytes], context: Context) -> Verdict:
        loop.call_soon_threadsafe(beat.set)
        assert beat.wait(10), "the loop stands still"
        return CLEAN

    store.use(Scan(Spooled(wait)))
    await store.put(None, "k", b"new")


@pytest.mark.parametrize("size", [1, 5000])
async def test_an_error_of_the_function_passes_nothing(
    store: Trove, tmp_path: Path, size: int
) -> None:
    def fail(file: IO[bytes], context: Context) -> Verdict:
        raise LookupError("no rules")

    store.use(Scan(Spooled(fail, memory=MEMORY)))
    with pytest.raises(LookupError):
        await store.put(None, "k", bytes(size))
    await assert_unchanged(store, tmp_path)


async def test_a_body_that_cannot_be_spooled_passes_nothing(store: Trove, tmp_path: Path) -> None:
    store.use(Scan(Spooled(examine, memory=MEMORY, directory=tmp_path / "not there")))
    with pytest.raises(BackendError) as caught:
        await store.put(None, "k", bytes(MEMORY + 1))
    assert isinstance(caught.value.__cause__, OSError)
    await assert_unchanged(store, tmp_path)


async def test_a_cancelled_put_waits_for_the_function_that_has_the_file(
    store: Trove, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    began, go = asyncio.Event(), threading.Event()
    ended = False

    def hold(file: IO[bytes], context: Context) -> Verdict:
        nonlocal ended
        loop.call_soon_threadsafe(began.set)
        assert go.wait(10)
        assert len(file.read()) == 5000
        ended = True
        return CLEAN

    store.use(Scan(Spooled(hold, memory=MEMORY)))
    task = asyncio.create_task(store.put(None, "k", bytes(5000)))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize("function", [examine, examine_async])
async def test_a_put_cancelled_anywhere_leaves_nothing(
    store: Trove, tmp_path: Path, function: object
) -> None:
    store.use(Scan(Spooled(function, memory=MEMORY)))  # type: ignore[arg-type]

    async def put() -> None:
        try:
            await store.put(None, "k", Source([bytes(900), b"virus", bytes(900)]))
        except ContentBlockedError:
            await asyncio.sleep(0)

    async def check(step: Step) -> None:
        assert await store.get_bytes(None, "k") == b"old"

    assert await cancel_everywhere(put, check=check, twice=True) >= 3
    await assert_unchanged(store, tmp_path)


async def test_a_source_that_fails_or_a_consumer_that_stops_leaves_nothing(
    store: Trove, tmp_path: Path
) -> None:
    scan = Scan(Spooled(examine, memory=MEMORY))
    store.use(scan)
    with pytest.raises(OSError, match="gone"):
        await store.put(None, "k", Source([bytes(900)] * 3, at=2, error=OSError("gone")))
    for pulls in (0, 1, 2):
        chunks = await scan.write(Source([bytes(900)] * 4), Context("put", "box", "k"))
        for _ in range(pulls):
            await anext(chunks)
        await chunks.aclose()
    await assert_unchanged(store, tmp_path)


def test_a_spool_needs_some_memory() -> None:
    with pytest.raises(ValueError, match="memory"):
        Spooled(examine, memory=0)
