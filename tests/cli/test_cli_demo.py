"""The demo: every byte compared, nothing left behind, an exit code that tells the truth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trove_async as trove
from tests.cli.running import Cli
from trove_async import Driver, GetOptions, RawObject
from trove_async.cli.demo import Demo, pattern_for, scan
from trove_async.cli.demo_report import Report
from trove_async.cli.demo_steps import Tour
from trove_async.drivers.memory import MemoryDriver

STEPS = ("import", "list", "list by /", "routed", "ranges", "overwrite", "copy", "verify", "delete")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for number in range(60):
        file = root / f"dir-{number % 7}" / f"file {number}.{'txt' if number % 3 else 'bin'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(number * 997))
    (root / "dir-0" / "large.txt").write_bytes(os.urandom(2 * 1024 * 1024))
    (root / "link").symlink_to("/etc/passwd")
    return root


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its folder."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def contents(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_it_passes_and_leaves_nothing(cli: Cli, source: Path, temporary: Path) -> None:
    before = contents(source)
    ran = cli("demo", str(source))
    assert ran.code == 0, ran.err
    for step in STEPS:
        assert step in ran.out
    assert "*.bin -> backend 'memory'" in ran.err
    assert "equal to the source" in ran.out
    assert "WRONG" not in ran.out + ran.err
    assert list(temporary.iterdir()) == []
    assert contents(source) == before


def test_a_folder_of_one_kind_is_not_routed(cli: Cli, tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_bytes(b"1")
    ran = cli("demo", str(tmp_path / "one"))
    assert ran.code == 0
    assert "route:" not in ran.err


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_without_files_it_is_a_usage_error(
    cli: Cli, tmp_path: Path, temporary: Path, kind: str
) -> None:
    place = tmp_path / kind
    if kind == "empty":
        place.mkdir()
    elif kind == "file":
        place.write_bytes(b"1")
    assert cli("demo", str(place)).code == 2
    assert list(temporary.iterdir()) == []


class Rotting(MemoryDriver):
    """Gives one wrong byte in one object; the record is right, so only reading shows it."""

    victim = "dir-1/file 1.txt"

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        raw = await super().get(bucket, key, options)
        if key != self.victim:
            return raw
        return RawObject(raw.info, Rotten(raw), raw.start, raw.stop)


class Rotten:
    def __init__(self, raw: RawObject) -> None:
        self._body = raw.body

    def __aiter__(self) -> Rotten:
        return self

    async def __anext__(self) -> bytes:
        chunk = bytes(await self._body.__anext__())
        return bytes([chunk[0] ^ 1]) + chunk[1:]

    async def aclose(self) -> None:
        await self._body.aclose()


class Forgetful(MemoryDriver):
    """Loses one object when it lists."""

    async def list(self, bucket: str, options: trove.ListOptions) -> trove.ObjectPage:
        page = await super().list(bucket, options)
        kept = [info for info in page.objects if info.key != Rotting.victim]
        return trove.ObjectPage(kept, page.prefixes, page.cursor)


async def tour_of(driver: Driver, source: Path) -> Report:
    report = Report()
    files = (await scan(Demo(str(source), None, 4), source)).files
    async with trove.open(driver, checksum="sha256") as store:
        await Tour(store, report, files, None, tasks=4).run()
    return report


async def test_a_sound_store_has_no_faults(source: Path) -> None:
    assert (await tour_of(MemoryDriver(), source)).faults == []


@pytest.mark.parametrize(("driver", "step"), [(Rotting, "verify"), (Forgetful, "list")])
async def test_a_store_that_lies_is_found_out(
    source: Path, driver: type[MemoryDriver], step: str
) -> None:
    faults = (await tour_of(driver(), source)).faults
    assert any(fault.startswith(f"{step}: ") for fault in faults), faults


async def test_a_source_that_changes_meanwhile_is_no_fault(source: Path) -> None:
    class Meddling(MemoryDriver):
        """The source is written to once all objects are in."""

        async def list(self, bucket: str, options: trove.ListOptions) -> trove.ObjectPage:
            (source / Rotting.victim).write_bytes(b"changed by somebody else")
            return await super().list(bucket, options)

    report = await tour_of(Meddling(), source)
    assert report.faults == []
    verify = next(step for step in report.steps if step.name == "verify")
    assert "changed meanwhile" in verify.note


async def test_a_bounded_demo_says_what_it_left_out(source: Path) -> None:
    report = Report()
    files = (await scan(Demo(str(source), 15.0, 4), source)).files
    async with trove.open("mem://", checksum="sha256") as store:
        await Tour(store, report, files, deadline=time.monotonic() - 1).run()
    assert report.faults == []
    assert "left out" in report.steps[0].note


async def test_the_commonest_minority_is_routed(source: Path) -> None:
    files = (await scan(Demo(str(source), None, 4), source)).files
    assert pattern_for(files) == "*.bin"
    assert pattern_for(files[:1]) is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_removes_the_temporary_folder(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "trove_async.cli", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    ) as demo:
        assert demo.stderr is not None
        assert demo.stdout is not None
        for line in demo.stderr:
            if line.startswith("import:"):
                break
        demo.send_signal(number)
        rest = demo.stderr.read()
        assert demo.wait(60) == code, rest
        assert "Traceback" not in rest
    assert list(place.iterdir()) == []
