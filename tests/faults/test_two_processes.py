"""F15, F16, F45, S04: other processes write, swap and remove what we work on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults.world import (
    Value,
    all_keys,
    descriptors,
    found_at,
    opener,
    put,
    sidecars,
    temporary,
    value,
)
from trove_async._chunks import OneChunk, collect
from trove_async.driver import (
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    PutOptions,
)
from trove_async.drivers.local import LocalDriver
from trove_async.errors import ObjectNotFoundError, TroveError, TruncatedError
from trove_async.model import ObjectRef

ROOT = Path(__file__).parent.parent.parent
Process = asyncio.subprocess.Process


async def rival(kind: str, root: Path, number: int, seconds: float) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.rivals"),
        *(kind, str(root), str(number), str(seconds)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def ended(process: Process) -> list[str]:
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode().splitlines()


async def opened(root: Path) -> LocalDriver:
    driver = opener(root)
    await driver.open()
    for name in ("bucket", "second"):
        await driver.create_bucket(name, BucketOptions())
    return driver


async def whole(driver: LocalDriver, bucket: str, key: str) -> Value:
    raw = await driver.get(bucket, key, GetOptions())
    try:
        data = await collect(raw.body)
    finally:
        await raw.body.aclose()
    return Value(data, tuple(raw.info.metadata.items()), raw.info.content_type)


def made_by_one_put(seen: Value) -> bool:
    """Body, metadata and type of one and the same put."""
    number = int(seen.data[1 : seen.data.index(b">")]) if seen.data[:1] == b"<" else -1
    return seen == value(number, len(seen.data))


async def test_F45_writers_of_four_processes_leave_no_mixture(scratch: Path) -> None:
    root = scratch / "root"
    driver = await opened(root)
    writers = [await rival("write", root, number, 5.0) for number in range(1, 5)]
    waiting = asyncio.gather(*map(ended, writers))
    seen = 0
    try:
        while not waiting.done():
            for key in ("shared/key", "second"):
                try:
                    there = await whole(driver, "bucket", key)
                except ObjectNotFoundError:
                    continue
                assert made_by_one_put(there), f"a mixture: {there}"
                seen += 1
            await all_keys(driver, "bucket")  # folders come and go: never an error
            await asyncio.sleep(0)
    finally:
        lines = await waiting
    counts = [int(line[-1].split()[1]) for line in lines]
    print(f"{sum(counts)} writes, {seen} reads")
    assert all(count > 20 for count in counts) and seen > 50
    assert temporary(root) == []
    await driver.close()
    found = await found_at(root)
    for name, there in found.items():
        assert name.endswith("/") or made_by_one_put(there)


async def test_F45_of_those_who_create_a_key_one_wins(scratch: Path) -> None:
    root = scratch / "root"
    driver = await opened(root)
    lines = await asyncio.gather(
        *[ended(await rival("create", root, number, 0)) for number in range(4)]
    )
    wins = Counter(line for process in lines for line in process if line.startswith("won"))
    assert len(wins) == 150 and set(wins.values()) == {1}
    for number, process in enumerate(lines):
        for line in process:
            if line.startswith("won"):
                there = await whole(driver, "bucket", f"c/{line.split()[1]}")
                assert there.data == b"%d" % number
    await driver.close()


def steps_in(
    driver: LocalDriver, bucket: str, prefix: str, new: Value
) -> dict[str, Callable[[], Awaitable[object]]]:
    key, other = f"{prefix}x", f"{prefix}deep/x"
    here, there = ObjectRef(bucket, key), ObjectRef(bucket, other)
    return {
        "put": lambda: put(driver, f"{bucket}/{key}", new),
        "put deep": lambda: put(driver, f"{bucket}/{other}", new),
        "get": lambda: whole(driver, bucket, key),
        "head": lambda: driver.head(bucket, f"{prefix}y", HeadOptions()),
        "list": lambda: all_keys(driver, bucket),
        "copy": lambda: driver.copy(here, there, CopyOptions()),
        "move": lambda: driver.move(there, here, CopyOptions()),
        "delete": lambda: driver.delete(bucket, key, DeleteOptions()),
        "delete deep": lambda: driver.delete(bucket, other, DeleteOptions()),
    }


async def test_F16_S04_a_folder_swapped_for_a_link_never_lets_us_out(scratch: Path) -> None:
    root = scratch / "root"
    outside = scratch / "outside"
    (outside / "deep").mkdir(parents=True)
    for name in ("x", "deep/x", "y"):
        (outside / name).write_bytes(b"OUTSIDE")
    before = {str(p): (p.stat().st_mtime_ns, p.stat().st_ino) for p in outside.rglob("*")}
    driver = await opened(root)
    held = descriptors()
    racer = await rival("swap", root, 0, 6.0)
    waiting = asyncio.ensure_future(ended(racer))
    done: Counter[str] = Counter()
    number = 0
    while not waiting.done():
        number += 1
        for bucket, prefix in (("bucket", "dir/"), ("second", "")):
            for name, step in steps_in(driver, bucket, prefix, value(number)).items():
                try:
                    result = await step()
                except TroveError:
                    continue
                done[name] += 1
                if isinstance(result, Value):
                    assert result.data != b"OUTSIDE", "a file outside was read"
                if isinstance(result, list):
                    for info in result:
                        assert info.size != len(b"OUTSIDE"), "a file outside was listed"
    swaps = int((await waiting)[-1].split()[1])
    print(f"{swaps} swaps, {dict(done)}")
    assert swaps > 50 and len(done) >= 7
    after = {str(p): (p.stat().st_mtime_ns, p.stat().st_ino) for p in outside.rglob("*")}
    assert after == before, "something outside was changed"
    assert descriptors() == held
    await driver.close()


async def test_F15_files_that_vanish_and_change_give_a_typed_error_or_one_version(
    scratch: Path,
) -> None:
    root = scratch / "root"
    driver = await opened(root)
    held = descriptors()
    racer = await rival("churn", root, 0, 4.0)
    waiting = asyncio.ensure_future(ended(racer))
    errors: Counter[str] = Counter()
    reads = 0
    while not waiting.done():
        for key in ("replaced", "gone", "f1/x", "f2/x"):
            try:
                there = await whole(driver, "bucket", key)
                assert len(set(there.data)) <= 1, f"two versions in one body of {key}"
                reads += 1
                await driver.head("bucket", key, HeadOptions())
            except (ObjectNotFoundError, TruncatedError) as exc:
                errors[type(exc).__name__] += 1
        try:
            await whole(driver, "bucket", "cut")  # written in place: short is said
        except (ObjectNotFoundError, TruncatedError) as exc:
            errors[type(exc).__name__] += 1
        keys = [info.key for info in await all_keys(driver, "bucket")]
        assert keys == sorted(set(keys))
    turns = (await waiting)[-1]
    print(f"{reads} reads, {turns} turns, {dict(errors)}")
    assert reads > 20 and errors["ObjectNotFoundError"] > 0
    assert descriptors() == held
    await driver.close()


async def test_F45_two_drivers_on_one_root_see_each_others_writes(scratch: Path) -> None:
    root = scratch / "root"
    first = await opened(root)
    second = opener(root, "auto")
    await second.open()
    for number in range(20):
        await put(first, "bucket/k", value(number))
        assert await whole(second, "bucket", "k") == value(number)
        await second.delete("bucket", "k", DeleteOptions())
        assert await all_keys(first, "bucket") == []
    rooms = os.listdir(root / ".trove" / "tmp")
    assert len(rooms) == 2
    third = opener(root)
    await third.open()  # its sweep spares rooms that are held
    assert set(rooms) < set(os.listdir(root / ".trove" / "tmp"))
    with pytest.raises(TroveError):
        options = PutOptions(if_match="no-such-etag")
        await second.put("bucket", "k", _body(), options)
    await put(second, "bucket/k", value(50))
    for driver in (third, second, first):
        await driver.close()
    assert await found_at(root) == {
        "bucket/": (await found_at(root))["bucket/"],
        "second/": (await found_at(root))["second/"],
        "bucket/k": value(50),
    }
    assert sidecars(root) == []


def _body() -> OneChunk:
    return OneChunk(b"never")
