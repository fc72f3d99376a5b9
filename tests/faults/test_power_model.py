"""F05 to F07 in process: what is acknowledged survives every cut that a file system allows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.load import Load
from tests.faults.world import Expected, Ledger, Place, found_at
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.testing.crashfs import CrashFS, Image, materialise


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
    root: Path, seed: int, *, lanes: int, steps: int, each: int, place: Place
) -> list[tuple[Image, Expected]]:
    root.mkdir(mode=0o700)
    fs = CrashFS(root, "slow", seed=seed)
    driver = LocalDriver(LocalConfig(root, metadata=place), fs)
    ledger = Ledger()
    cuts = Cuts(fs, ledger, each)
    fs.on_change = cuts.take
    await driver.open()
    load = Load(driver, ledger, seed)
    load.after_each = cuts.take
    await load.start()
    await load.run(lanes, steps)
    await driver.close()
    cuts.take()
    return cuts.taken


async def check_all(scratch: Path, cuts: list[tuple[Image, Expected]], place: Place) -> int:
    for number, (image, expected) in enumerate(cuts):
        root = scratch / f"cut-{number}"
        materialise(image, root)
        try:
            expected.check(await found_at(root, place))
        except Exception as exc:
            exc.add_note(f"cut {number} of {len(cuts)}; kept in {root}: {sorted(image)}")
            raise
        shutil.rmtree(root)
    return len(cuts)


@pytest.mark.parametrize("place", ["auto", "sidecar"])
@pytest.mark.parametrize("seed", range(4))
async def test_F07_nothing_acknowledged_is_lost(scratch: Path, seed: int, place: Place) -> None:
    cuts = await cuts_of(scratch / "live", seed, lanes=2, steps=14, each=8, place=place)
    print(await check_all(scratch, cuts, place), "states")
