"""Listings against the plain rule: all keys in order, cut into pages."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

from tests.drivers.local.helpers_local import head, keys, put
from trove_async.driver import BucketOptions, DeleteOptions, ListOptions
from trove_async.driver.listing import page_of
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.model import ObjectPage


def _random_keys(chance: random.Random, count: int) -> list[str]:
    """Keys of which none begins with another and a slash."""
    names = ["a", "b", "a-", "a.", "a0", "é", "~", "🙀", "a b", "z", "\uffee", "--"]
    made: set[str] = set()
    while len(made) < count:
        key = "/".join(chance.choice(names) for _ in range(chance.randint(1, 4)))
        if not any(key.startswith(k + "/") or k.startswith(key + "/") for k in made):
            made.add(key)
    return sorted(made)


async def _pages(driver: LocalDriver, options: ListOptions) -> list[ObjectPage]:
    pages = []
    while True:
        page = await driver.list("bucket", options)
        pages.append(page)
        assert len(page.objects) + len(page.prefixes) <= options.page_size
        if page.cursor is None:
            return pages
        options = ListOptions(
            options.prefix, options.delimiter, options.start_after, page.cursor, options.page_size
        )


async def test_pages_are_those_of_the_plain_rule(driver: LocalDriver) -> None:
    chance = random.Random(7)
    for _ in range(4):
        made = _random_keys(chance, 60)
        for key in made:
            await put(driver, key, b"x")
        for _ in range(60):
            prefix = chance.choice(
                ["", "a", "a/", "a/a", "b/", "é", "--", chance.choice(made), "x"]
            )
            delimiter = chance.choice([None, "/", "/", "a", "--", "-", "/a"])
            after = chance.choice(
                [None, None, "a", "a/", chance.choice(made), "a/b", "zz", "a/\uffff"]
            )
            options = ListOptions(prefix, delimiter, after, None, chance.choice([1, 2, 3, 7, 100]))
            wanted = ListOptions(prefix, delimiter, after, None, 1000)
            objects, prefixes, _ = page_of(made, wanted)
            pages = await _pages(driver, options)
            assert [i.key for p in pages for i in p.objects] == objects, options
            assert [g for p in pages for g in p.prefixes] == prefixes, options
        for key in made:
            await driver.delete("bucket", key, DeleteOptions())


async def test_empty_folders_give_no_prefix(driver: LocalDriver, root: Path) -> None:
    (root / "bucket" / "empty" / "more").mkdir(parents=True)
    await put(driver, "full/more/k", b"1")
    assert await keys(driver, delimiter="/") == ["full/"]
    assert await keys(driver, delimiter="/", prefix="full/") == ["full/more/"]
    await asyncio.sleep(0.1)
    assert await keys(driver, delimiter="/") == ["full/"]
    assert await keys(driver, delimiter="/") == ["full/"]


async def test_cached_names_see_every_change(driver: LocalDriver, root: Path) -> None:
    await put(driver, "d/a", b"1")
    await asyncio.sleep(0.1)
    assert await keys(driver) == ["d/a"]
    assert await keys(driver) == ["d/a"]
    for number in range(50):
        await put(driver, f"d/n{number}", b"1")
        assert len(await keys(driver)) == number + 2
    (root / "bucket" / "d" / "foreign").write_bytes(b"")
    assert "d/foreign" in await keys(driver)
    os.rename(root / "bucket" / "d", root / "bucket" / "e")
    assert (await keys(driver))[0] == "e/a"


async def test_L6_files_that_vanish_during_a_listing_are_skipped(driver: LocalDriver) -> None:
    made = [f"k{i:03}" for i in range(200)]
    for key in made:
        await put(driver, key, b"x")

    async def churn() -> None:
        for key in made[::2]:
            await driver.delete("bucket", key, DeleteOptions())

    async def lister() -> list[str]:
        return await keys(driver, page_size=20)

    results = await asyncio.gather(lister(), churn(), lister(), lister())
    for seen in (results[0], results[2], results[3]):
        assert set(made[1::2]) <= set(seen)
        assert seen == sorted(seen)


async def test_keys_deleted_as_they_are_listed_are_all_seen(driver: LocalDriver) -> None:
    made = [f"d{i % 7}/k{i:03}" for i in range(300)]
    for key in made:
        await put(driver, key, b"x")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await driver.list("bucket", ListOptions(cursor=cursor, page_size=7))
        for info in page.objects:
            seen.append(info.key)
            await driver.delete("bucket", info.key, DeleteOptions())
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sorted(made)
    assert await keys(driver) == []


async def test_names_no_key_can_say_are_not_listed(driver: LocalDriver, root: Path) -> None:
    place = os.fsencode(root / "bucket")
    os.mknod(place + b"/\xff\xfe")
    os.mkdir(place + b"/\xc3")
    os.symlink("nowhere", place + b"/link")
    os.mkfifo(place + b"/pipe")
    await put(driver, "good", b"x")
    assert await keys(driver) == ["good"]
    assert await keys(driver, delimiter="/") == ["good"]


async def test_L9_a_large_folder_is_sorted_without_stalling_the_loop(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bucket").mkdir(parents=True)
    for number in range(30_000):
        os.close(os.open(root / "bucket" / f"k{number * 7919 % 30_000:05}", os.O_CREAT))
    await asyncio.sleep(0.1)
    driver = LocalDriver(LocalConfig(root, durability="none"))
    await driver.open()
    gaps: list[float] = []

    async def heartbeat() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.002)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    task = asyncio.create_task(heartbeat())
    try:
        first = await driver.list("bucket", ListOptions(page_size=100))
        assert [info.key for info in first.objects] == [f"k{n:05}" for n in range(100)]
        second = await driver.list("bucket", ListOptions(cursor=first.cursor, page_size=100))
        assert [info.key for info in second.objects] == [f"k{n:05}" for n in range(100, 200)]
        third = await driver.list("bucket", ListOptions(prefix="k2999", page_size=100))
        assert [info.key for info in third.objects] == [f"k{n:05}" for n in range(29_990, 30_000)]
    finally:
        task.cancel()
        await driver.close()
    assert max(gaps) < 0.5, "far more than a loaded machine explains"


async def test_list_and_head_agree_for_foreign_files(driver: LocalDriver, root: Path) -> None:
    (root / "bucket" / "f.json").write_bytes(b"{}")
    page = await driver.list("bucket", ListOptions())
    assert page.objects == [await head(driver, "f.json")]
    await driver.create_bucket("second", BucketOptions())
    assert (await driver.list("second", ListOptions())).objects == []
