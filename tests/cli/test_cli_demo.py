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
from trove_async.cli.demo import Demo, pattern_for, scan, verdict
from trove_async.cli.demo_report import Report
from trove_async.cli.demo_steps import Tour
from trove_async.cli.files import Found
from trove_async.drivers.memory import MemoryDriver

STEPS = (
    *("import", "list", "list by /", "routed", "ranges", "overwrite", "copy", "verify", "delete"),
    *("seal", "sealed read"),
)


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
    assert "equal" in ran.out
    assert "aws-esdk" in ran.out and "fetched of" in ran.out
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


VICTIM = "dir-1/file 1.txt"


class Rotting(MemoryDriver):
    """Gives one wrong byte in one object; the record is right, so only reading shows it."""

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        raw = await super().get(bucket, key, options)
        if key != VICTIM:
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


class Swapping(MemoryDriver):
    """Gives another object, sound in itself, for one key."""

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        return await super().get(bucket, "dir-2/file 2.txt" if key == VICTIM else key, options)


class Forgetful(MemoryDriver):
    """Loses one object when it lists."""

    async def list(self, bucket: str, options: trove.ListOptions) -> trove.ObjectPage:
        page = await super().list(bucket, options)
        kept = [info for info in page.objects if info.key != VICTIM]
        return trove.ObjectPage(kept, page.prefixes, page.cursor)


class Deaf(MemoryDriver):
    """Keeps the first body of a key: what is put over it is lost."""

    async def put(
        self, bucket: str, key: str, body: trove.Chunks, options: trove.PutOptions
    ) -> trove.ObjectInfo:
        if key == VICTIM and options.if_match is not None:
            async for _ in body:
                pass
            return await self.head(bucket, key, trove.HeadOptions())
        return await super().put(bucket, key, body, options)


async def faults_of(driver: Driver, source: Path, *steps: str) -> list[str]:
    """What the import and then these steps find wrong; all steps when none is named."""
    report = Report()
    files = (await scan(Demo(str(source), None, 4))).files
    async with trove.open(driver, checksum="sha256") as store:
        tour = Tour(store, report, files, None, tasks=4)
        if not steps:
            await tour.run()
            return report.faults
        await store.create_bucket("demo")
        await tour.bring_in()
        for step in steps:
            await getattr(tour, step)()
    return report.faults


async def test_a_sound_store_has_no_faults(source: Path) -> None:
    assert await faults_of(MemoryDriver(), source) == []


@pytest.mark.parametrize(
    ("driver", "step", "fault"),
    [
        (Rotting, "verify", "verify: demo/dir-1/file 1.txt: "),
        (Rotting, "read_ranges", "ranges: dir-1/file 1.txt: a range differs"),
        (Swapping, "verify", "verify: demo/dir-1/file 1.txt: the bytes differ"),
        (Forgetful, "list_all", "list: demo: 1 keys missing"),
        (Deaf, "overwrite", "overwrite: dir-1/file 1.txt: the new bytes are not there"),
    ],
)
async def test_a_store_that_lies_is_found_out(
    source: Path, driver: type[MemoryDriver], step: str, fault: str
) -> None:
    faults = await faults_of(driver(), source, step)
    assert [found for found in faults if found.startswith(fault)], faults


async def test_a_record_of_another_checksum_is_found_out(source: Path) -> None:
    report = Report()
    files = (await scan(Demo(str(source), None, 4))).files
    async with trove.open("mem://", checksum="xxh3") as store:
        await Tour(store, report, files, None).run()
    assert len(report.faults) >= len(files)
    assert "the recorded checksum is xxh3:" in report.faults[0]


def test_a_fault_is_shown_and_makes_the_exit_code_1(capfd: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with report.step("verify", 1) as step:
        step.wrong("a\x1b[31m.txt", "the bytes differ")
    assert verdict(report) == 1
    out, err = capfd.readouterr()
    assert "1 WRONG" in out
    assert "WRONG verify: a\\x1b[31m.txt: the bytes differ\n" in err
    assert verdict(Report()) == 0


async def test_objects_in_the_wrong_backend_are_found_out(source: Path) -> None:
    report = Report()
    files = (await scan(Demo(str(source), None, 4))).files
    async with trove.open("mem://", backends={"other": "mem://"}, checksum="sha256") as store:
        await Tour(store, report, files, None, route=("*.bin", "other")).run()
    assert [fault.partition(":")[0] for fault in report.faults] == ["routed"]


async def test_a_source_that_changes_meanwhile_is_no_fault(source: Path) -> None:
    class Meddling(MemoryDriver):
        """The source is written to once all objects are in."""

        async def list(self, bucket: str, options: trove.ListOptions) -> trove.ObjectPage:
            (source / VICTIM).write_bytes(b"changed by somebody else")
            return await super().list(bucket, options)

    assert await faults_of(Meddling(), source) == []


async def test_a_bounded_demo_says_what_it_left_out(source: Path) -> None:
    report = Report()
    files = (await scan(Demo(str(source), 15.0, 4))).files
    async with trove.open("mem://", checksum="sha256") as store:
        await Tour(store, report, files, deadline=time.monotonic() - 1).run()
    assert report.faults == []
    assert "left out" in report.steps[0].note


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["a.txt", "b.txt", "c.txt", "d.bin", "e.bin", "f.c"], "*.bin"),
        (["one/a.h", "one/b.h", "one/c.h", "two/d.h", "e.h", "[x]/f.h"], "two/*"),
        (["a.h", "b1.h", "b2.h", "c.h", "*.h"], "b*"),
        (["only.txt"], None),
    ],
)
def test_a_minority_is_routed(names: list[str], pattern: str | None) -> None:
    assert pattern_for([Found(Path(name), name, 1, 0) for name in names]) == pattern


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
