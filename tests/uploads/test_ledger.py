"""Random deaths at every step of a compressed and encrypted upload: the object equals its
source, and no place of a message is ever sealed with two contents."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import trove_async as trove
from tests.uploads.ledger import Crash, Ledger, Mortal, Steps, sample
from trove_async import ObjectChangedError, ObjectInfo
from trove_async.middleware import Compress, Encrypt, Keyring

KiB = 1024
PART = 64 * KiB
KEYRING = Keyring({"k": bytes(range(32))}, active="k")


def layers(level: int = 3) -> list[object]:
    return [
        Compress(level=level, frame_size=24 * KiB),
        Encrypt(KEYRING, frame_size=4 * KiB),
    ]


async def attempt(
    driver: Ledger,
    catalog: Mortal,
    source: Path,
    *,
    level: int = 3,
    plain: bool = False,
    concurrency: int | None = None,
) -> ObjectInfo:
    async with trove.open(
        driver,
        catalog=catalog,
        chunk_size=32 * KiB,
        middleware=[] if plain else layers(level),  # type: ignore[arg-type]
    ) as store:
        return await store.upload(
            "bucket", "key", source, resumable=True, part_size=PART, concurrency=concurrency
        )


async def survived(driver: Ledger, expected: bytes, *, plain: bool) -> None:
    async with trove.open(driver, middleware=[] if plain else layers()) as store:  # type: ignore[arg-type]
        assert await store.get_bytes("bucket", "key") == expected


async def new(steps: Steps, *, plain: bool = False) -> tuple[Ledger, Mortal]:
    driver, catalog = Ledger(steps), Mortal(steps)
    driver.sealed = not plain
    async with trove.open(driver) as store:
        await store.create_bucket("bucket")
    return driver, catalog


async def steps_of(source: Path, *, plain: bool) -> int:
    steps = Steps()
    driver, catalog = await new(steps, plain=plain)
    await attempt(driver, catalog, source, plain=plain)
    return steps.count


def revive(catalog: Mortal) -> None:
    """The processes that died are known to be dead: their leases are void."""
    for id, record in catalog._sessions.items():
        catalog._sessions[id] = type(record)(
            **{
                name: getattr(record, name)
                for name in record.__slots__
                if name not in ("owner", "leased_until")
            }
        )


@pytest.mark.parametrize("plain", [False, True], ids=["zstd+aes", "plain"])
async def test_a_death_at_any_step_is_gone_on_from(tmp_path: Path, plain: bool) -> None:
    source = tmp_path / "source"
    data = sample(420 * KiB)
    source.write_bytes(data)
    total = await steps_of(source, plain=plain)
    assert total > 40
    for at in range(1, total + 1):
        steps = Steps()
        driver, catalog = await new(steps, plain=plain)
        steps.arm(at)
        with pytest.raises(Crash):
            await attempt(driver, catalog, source, plain=plain)
        steps.arm(None)
        revive(catalog)
        info = await attempt(driver, catalog, source, plain=plain)
        assert info.size == len(data)
        await survived(driver, data, plain=plain)
        assert sum(driver.sent.values()) - len(driver.sent) <= 1, "parts sent twice"
        assert not catalog._sessions


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_hundreds_of_deaths_in_a_row_seal_nothing_twice(
    tmp_path: Path, concurrency: int
) -> None:
    chance = random.Random(concurrency)
    source = tmp_path / "source"
    deaths = 0
    for turn in range(40):
        data = sample(chance.randrange(1, 600 * KiB), turn)
        source.write_bytes(data)
        steps = Steps()
        driver, catalog = await new(steps)
        mine = 0
        while True:
            steps.arm(chance.randrange(1, 26))
            try:
                level = chance.choice([3, 3, 3, 9])
                await attempt(driver, catalog, source, level=level, concurrency=concurrency)
            except Crash:
                mine += 1
                revive(catalog)
                continue
            break
        deaths += mine
        steps.arm(None)
        await survived(driver, data, plain=False)
        again = sum(driver.sent.values()) - len(driver.sent)
        assert again <= mine * concurrency
    assert deaths > 150


async def test_another_compressor_begins_another_message(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(sample(500 * KiB))
    steps = Steps()
    driver, catalog = await new(steps)
    steps.arm(40)
    with pytest.raises(Crash):
        await attempt(driver, catalog, source)
    steps.arm(None)
    revive(catalog)
    before = len(driver.ids)
    await attempt(driver, catalog, source, level=12)
    assert len(driver.ids) == before + 1
    await survived(driver, source.read_bytes(), plain=False)
    assert not driver._state.buckets["bucket"].uploads, "the first upload was aborted"


@pytest.mark.parametrize("plain", [False, True], ids=["zstd+aes", "plain"])
async def test_a_source_that_looks_the_same_and_is_not_is_refused(
    tmp_path: Path, plain: bool
) -> None:
    source = tmp_path / "source"
    data = bytearray(sample(500 * KiB))
    source.write_bytes(data)
    status = source.stat()
    steps = Steps()
    driver, catalog = await new(steps, plain=plain)
    steps.arm(40 if not plain else 22)
    with pytest.raises(Crash):
        await attempt(driver, catalog, source, plain=plain)
    steps.arm(None)
    revive(catalog)
    data[10] ^= 1
    with source.open("r+b") as file:
        file.write(data)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ObjectChangedError):
        await attempt(driver, catalog, source, plain=plain)
    info = await attempt(driver, catalog, source, plain=plain)  # a new upload altogether
    assert info.size == len(data)
    await survived(driver, bytes(data), plain=plain)
