"""F05 to F07 in process: what is acknowledged survives every cut that a file system allows."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.faults.load import Load
from tests.faults.operations import WRITES, Template, driver_at
from tests.faults.world import Expected, Ledger, Place, found_at, put, value
from trove_async._chunks import chunks_of
from trove_async.driver import CopyOptions
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.errors import CorruptMetadataError, UploadNotFoundError
from trove_async.model import ObjectRef
from trove_async.testing.crashfs import CrashFS, Image, materialise

EACH = 1_300
"""Eight runs of so many: more than 10,000 distinct states in the normal suite."""


class Cuts:
    """Distinct trees that a cut during the load may leave, each with what must be in it."""

    def __init__(self, fs: CrashFS, ledger: Ledger, each: int) -> None:
        self._fs = fs
        self._ledger = ledger
        self._each = each
        self._seen: set[int] = set()
        self.taken: list[tuple[Image, Expected]] = []

    def take(self) -> None:
        expected = self._ledger.now()
        for image in self._fs.states(self._each):
            key = hash((self._ledger.version, tuple(image.items())))
            if key not in self._seen:
                self._seen.add(key)
                self.taken.append((image, expected))


async def cuts_of(
    root: Path, fs: CrashFS, seed: int, *, most: int, place: Place
) -> list[tuple[Image, Expected]]:
    """A load in two lanes, until there are so many cuts of it."""
    driver = LocalDriver(LocalConfig(root, metadata=place), fs)
    ledger = Ledger()
    cuts = Cuts(fs, ledger, each=8)
    fs.on_change = cuts.take
    await driver.open()
    load = Load(driver, ledger, seed)
    load.after_each = cuts.take
    await load.start()
    while len(cuts.taken) < most:
        await load.run(lanes=2, steps=2)
    await driver.close()
    return cuts.taken[:most]


async def check_all(scratch: Path, cuts: list[tuple[Image, Expected]], place: Place) -> None:
    for number, (image, expected) in enumerate(cuts):
        root = scratch / f"cut-{number}"
        materialise(image, root)
        try:
            await found_at(root, place, expected)
        except BaseException as exc:
            exc.add_note(f"cut {number} of {len(cuts)}: {sorted(image)}")
            raise
        shutil.rmtree(root)


def empty_root(scratch: Path) -> Path:
    root = scratch / "live"
    root.mkdir(mode=0o700)
    return root


@pytest.mark.parametrize("place", ["auto", "sidecar"])
@pytest.mark.parametrize("seed", range(4))
async def test_F07_nothing_acknowledged_is_lost(scratch: Path, seed: int, place: Place) -> None:
    root = empty_root(scratch)
    cuts = await cuts_of(root, CrashFS(root, "slow", seed=seed), seed, most=EACH, place=place)
    assert len(cuts) == EACH  # all distinct
    await check_all(scratch, cuts, place)


@pytest.mark.parametrize("place", ["auto", "sidecar"])
@pytest.mark.parametrize("name", [name for name in WRITES if name != "overwrite_large"])
async def test_F05_F07_each_operation_by_itself(scratch: Path, name: str, place: Place) -> None:
    """From a store at rest, cut after every single change."""
    template, operation = await Template.made(scratch / "template", place), WRITES[name]
    root = scratch / "live"
    template.make(root)
    fs = CrashFS(root, "slow", seed=len(name))
    driver = driver_at(root, place, fs)
    await driver.open()
    taken: list[tuple[Image, Expected]] = []
    seen: set[int] = set()
    done = False

    def take() -> None:
        expected = template.expected(operation, done)
        for image in fs.states(12):
            key = hash((done, tuple(image.items())))
            if key not in seen:
                seen.add(key)
                taken.append((image, expected))

    fs.on_change = take
    await operation.work(driver, template)
    done = True
    take()
    await driver.close()
    assert len(taken) >= 4
    print(len(taken), "states")
    await check_all(scratch, taken, place)


@pytest.mark.parametrize("place", ["auto", "sidecar"])
async def test_F07_a_body_of_many_writes_is_there_whole_or_not_at_all(
    scratch: Path, place: Place
) -> None:
    root = empty_root(scratch)
    fs = CrashFS(root, "slow", seed=7)
    driver = LocalDriver(LocalConfig(root, metadata=place), fs)
    ledger = Ledger()
    cuts = Cuts(fs, ledger, each=8)
    await driver.open()
    load = Load(driver, ledger, 7)
    await load.start()
    small, large = value(1, 100), value(2, 2_300_000)
    with ledger.flight({"bucket/k": small}):
        await put(driver, "bucket/k", small)
    fs.on_change = cuts.take
    body = chunks_of(large.data, 300_000)
    with ledger.flight({"bucket/k": large}):
        await driver.put("bucket", "k", body, large.options)
    await body.aclose()
    cuts.take()
    copied = ObjectRef("bucket", "e/copy")
    with ledger.flight({"bucket/e/copy": large}):
        await driver.copy(ObjectRef("bucket", "k"), copied, CopyOptions())
    cuts.take()
    await driver.close()
    assert len(cuts.taken) >= 40
    await check_all(scratch, cuts.taken, place)


class NoFileSync(CrashFS):
    def fsync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            super().fsync(fd)


class NoFolderSync(CrashFS):
    def fsync(self, fd: int) -> None:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            super().fsync(fd)


@pytest.mark.parametrize("place", ["auto", "sidecar"])
@pytest.mark.parametrize("broken", [NoFileSync, NoFolderSync])
async def test_F07_the_model_sees_a_sync_that_is_missing(
    scratch: Path, broken: type[CrashFS], place: Place
) -> None:
    root = empty_root(scratch)
    cuts = await cuts_of(root, broken(root, "slow"), 1, most=600, place=place)
    with pytest.raises((AssertionError, CorruptMetadataError, UploadNotFoundError)):
        await check_all(scratch, cuts, place)


async def test_F05_a_missing_sync_of_the_folder_undoes_a_rename(scratch: Path) -> None:
    """The model itself: a rename is there or not, and lasts once the folder is synced."""
    root = empty_root(scratch)
    fs = CrashFS(root)
    at = fs.open(os.fsencode(root), os.O_RDONLY | os.O_DIRECTORY)
    fd = fs.open(b"draft", os.O_RDWR | os.O_CREAT, at=at)
    fs.writev(fd, [b"new"])
    fs.rename(b"draft", at, b"final", at)
    names = {name for image in fs.states(50) for name in image}
    datas = {held.data for image in fs.states(200) if (held := image.get(b"final"))}
    assert names == {b"draft", b"final"}
    assert datas == {b"", b"new", b"\0\0\0", b"n"}
    fs.fsync(fd)
    datas = {held.data for image in fs.states(50) if (held := image.get(b"final"))}
    assert datas == {b"new"}
    assert {} in list(fs.states(50))
    fs.fsync(at)
    assert [sorted(image) for image in fs.states(20)] == [[b"final"]] * 20
    fs.close(fd)
    fs.close(at)
