"""`Trove.upload` and `Trove.download`: progress, whole or not at all, from where they stopped."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.uploads.ledger import sample
from trove_async import (
    ConflictError,
    GetOptions,
    InvalidInputError,
    ObjectChangedError,
    ObjectNotFoundError,
    PartInfo,
    Progress,
    RawObject,
    Trove,
    UnavailableError,
)
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Encrypt, Keyring

KiB, MiB = 1024, 1024 * 1024
DATA = sample(20 * MiB + 7, 5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def partials(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".trove-")]


@pytest.mark.parametrize("resumable", [False, True])
async def test_an_upload_tells_its_progress(store: Trove, source: Path, resumable: bool) -> None:
    seen: list[Progress] = []

    async def hook(progress: Progress) -> None:
        seen.append(progress)
        raise RuntimeError("hooks break nothing")

    info = await store.upload(
        "bucket", "k", source, resumable=resumable, on_progress=hook, part_size=MiB
    )
    assert info.size == len(DATA)
    assert [p.bytes for p in seen] == sorted(p.bytes for p in seen)
    assert (seen[-1].bytes, seen[-1].percent) == (len(DATA), 100.0)
    assert all(p.percent is not None and p.percent < 100 for p in seen[:-1])
    assert await store.get_bytes("bucket", "k") == DATA


@pytest.mark.parametrize("size", [0, 1, 64 * KiB, 64 * KiB + 1])
async def test_every_size_goes_up_and_down(store: Trove, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA[:size])
    for resumable in (True, False):
        await store.upload("bucket", "k", source, resumable=resumable)
        for concurrency in (1, 3):
            info = await store.download(
                "bucket", "k", target, resumable=resumable, concurrency=concurrency
            )
            assert info.size == size
            assert target.read_bytes() == DATA[:size]
    assert not partials(tmp_path)


async def test_what_is_no_regular_file_is_not_resumable(store: Trove, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError):
        await store.upload("bucket", "k", tmp_path / "pipe", resumable=True)
    with pytest.raises(FileNotFoundError):
        await store.upload("bucket", "k", tmp_path / "missing", resumable=True)
    assert not [session async for session in store.uploads.list()]


class Pieces(MemoryDriver):
    """Gives bodies in pieces, and fails after so many bytes of the next ones."""

    left: int | None = None
    given = 0

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        raw = await super().get(bucket, key, options)
        driver, body = self, raw.body

        async def cut() -> Any:
            async for chunk in body:
                for start in range(0, len(chunk), 64 * KiB):
                    piece = chunk[start : start + 64 * KiB]
                    if driver.left is not None:
                        if driver.left < len(piece):
                            raise UnavailableError("broken")
                        driver.left -= len(piece)
                    driver.given += len(piece)
                    yield piece

        raw.body = cut()
        return raw


async def pieces_store(*layers: Any) -> tuple[Trove, Pieces]:
    driver = Pieces()
    retry = trove.RetryPolicy(attempts=1)
    chunk = 2 * MiB if layers else 256 * KiB  # frames are of 1 MiB
    store = Trove(driver, chunk_size=chunk, retry=retry, middleware=layers)
    await store.aopen()
    await store.create_bucket("bucket")
    await store.put("bucket", "k", DATA)
    return store, driver


async def stopped(store: Trove, driver: Pieces, target: Path, at: int) -> None:
    driver.left = at
    with pytest.raises(UnavailableError):
        await store.download("bucket", "k", target, resumable=True)
    driver.left, driver.given = None, 0


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_download_through_layers_goes_on(tmp_path: Path, concurrency: int) -> None:
    store, driver = await pieces_store(Compress(), Encrypt(Keyring.generate()))
    async with store:
        target = tmp_path / "target"
        target.write_bytes(b"old")
        driver.left = (await store.head("bucket", "k")).stored_size * 3 // 4
        with pytest.raises(UnavailableError):
            await store.download("bucket", "k", target, resumable=True, concurrency=concurrency)
        assert target.read_bytes() == b"old" and partials(tmp_path)
        driver.left, driver.given = None, 0
        seen: list[Progress] = []
        await store.download(
            "bucket", "k", target, resumable=True, concurrency=concurrency, on_progress=seen.append
        )
        assert target.read_bytes() == DATA
        assert (seen[-1].bytes, seen[-1].percent) == (len(DATA), 100.0)
        assert driver.given < (await store.head("bucket", "k")).stored_size * 3 // 4
        assert not partials(tmp_path)


async def test_only_the_rest_is_read_again(tmp_path: Path) -> None:
    store, driver = await pieces_store()
    async with store:
        target = tmp_path / "target"
        await stopped(store, driver, target, 17 * MiB)
        assert partials(tmp_path) and not target.exists()
        info = await store.download("bucket", "k", target, resumable=True)
        assert driver.given == len(DATA) - 16 * MiB
        assert target.read_bytes() == DATA and info.checksum
        assert not partials(tmp_path)


async def test_another_object_is_begun_anew(tmp_path: Path) -> None:
    store, driver = await pieces_store()
    async with store:
        target = tmp_path / "target"
        await stopped(store, driver, target, 17 * MiB)
        await store.put("bucket", "k", DATA[::-1])
        await store.download("bucket", "k", target, resumable=True)
        assert target.read_bytes() == DATA[::-1]


async def test_bytes_that_are_not_what_was_written_are_not_taken_over(tmp_path: Path) -> None:
    store, driver = await pieces_store()
    async with store:
        target = tmp_path / "target"
        await stopped(store, driver, target, 17 * MiB)
        (name,) = [n for n in partials(tmp_path) if n.endswith(".part")]
        with (tmp_path / name).open("r+b") as file:
            file.seek(5)
            file.write(b"other")
        await store.download("bucket", "k", target, resumable=True)
        assert driver.given == len(DATA)
        assert target.read_bytes() == DATA
        await stopped(store, driver, target, 17 * MiB)
        (record,) = [n for n in partials(tmp_path) if n.endswith(".record")]
        (tmp_path / record).write_bytes(b"nonsense")
        await store.download("bucket", "k", target, resumable=True)
        assert target.read_bytes() == DATA
        assert not partials(tmp_path)


async def test_all_but_the_rename_was_done(tmp_path: Path) -> None:
    store, driver = await pieces_store()
    async with store:
        await store.put("bucket", "k", DATA[: 16 * MiB])
        target = tmp_path / "target"
        driver.left = 16 * MiB - 1
        with pytest.raises(UnavailableError):
            await store.download("bucket", "k", target, resumable=True)
        driver.left = None
        await store.download("bucket", "k", target, resumable=True)
        assert target.read_bytes() == DATA[: 16 * MiB]


async def test_one_at_a_time_writes_a_file(tmp_path: Path) -> None:
    store, _ = await pieces_store()
    async with store:
        target = tmp_path / "target"
        results = await asyncio.gather(
            *(store.download("bucket", "k", target, resumable=True) for _ in range(3)),
            return_exceptions=True,
        )
        assert target.read_bytes() == DATA
        assert all(isinstance(r, ConflictError) for r in results if isinstance(r, Exception))
        assert not partials(tmp_path)


async def test_a_download_leaves_nothing_when_it_fails(store: Trove, tmp_path: Path) -> None:
    for resumable in (False, True):
        with pytest.raises(ObjectNotFoundError):
            await store.download("bucket", "missing", tmp_path / "t", resumable=resumable)
        await store.put("bucket", "k", b"x")
        with pytest.raises(InvalidInputError):
            await store.download("bucket", "k", tmp_path, resumable=resumable)
    assert not partials(tmp_path) and not partials(tmp_path.parent)


async def test_a_downloaded_file_has_the_mode_of_any_new_file(store: Trove, tmp_path: Path) -> None:
    await store.put("bucket", "k", b"x")
    mask = os.umask(0o027)
    try:
        await store.download("bucket", "k", tmp_path / "t")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o640


async def test_a_link_is_replaced_and_not_followed(store: Trove, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"untouched")
    (tmp_path / "t").symlink_to(tmp_path / "other")
    await store.put("bucket", "k", b"x")
    await store.download("bucket", "k", tmp_path / "t")
    assert (tmp_path / "other").read_bytes() == b"untouched"
    assert (tmp_path / "t").read_bytes() == b"x"


@pytest.mark.parametrize("resumable", [False, True])
async def test_cancelled_anywhere_a_download_leaves_the_old_file(
    tmp_path: Path, resumable: bool
) -> None:
    store, _ = await pieces_store()
    async with store:
        target = tmp_path / "target"
        target.write_bytes(b"old")
        for turn in range(0, 120, 7):
            task = asyncio.create_task(
                store.download("bucket", "k", target, resumable=resumable, concurrency=2)
            )
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert target.read_bytes() in (b"old", DATA)
            if not resumable:
                assert not partials(tmp_path)
            assert len(asyncio.all_tasks()) == 1


async def test_a_file_that_changes_meanwhile_is_refused(source: Path) -> None:
    class Touching(MemoryDriver):
        async def upload_part(self, *args: Any) -> PartInfo:
            os.utime(source)
            return await super().upload_part(*args)

    async with trove.open(Touching()) as store:
        await store.create_bucket("bucket")
        with pytest.raises(ObjectChangedError):
            await store.upload("bucket", "k", source, resumable=True, part_size=MiB)
        assert not await store.exists("bucket", "k")
        assert not [session async for session in store.uploads.list()]
        assert not await store.driver.list_uploads("bucket", "")  # type: ignore[attr-defined]


async def test_other_options_begin_another_session(store: Trove, source: Path) -> None:
    task = asyncio.create_task(
        store.upload("bucket", "k", source, resumable=True, part_size=MiB, metadata={"a": "1"})
    )
    found: list[Any] = []
    while not found:
        await asyncio.sleep(0)
        found = [s async for s in store.uploads.list() if s.parts]
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    info = await store.upload(
        "bucket", "k", source, resumable=True, part_size=MiB, metadata={"a": "2"}
    )
    assert info.metadata == {"a": "2"}
    assert not [session async for session in store.uploads.list()]


async def test_two_at_once_one_wins(store: Trove, source: Path) -> None:
    results = await asyncio.gather(
        *(store.upload("bucket", "k", source, resumable=True) for _ in range(2)),
        return_exceptions=True,
    )
    assert await store.get_bytes("bucket", "k") == DATA
    assert all(isinstance(r, trove.ObjectInfo | ConflictError) for r in results)
