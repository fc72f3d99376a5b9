"""kill -9 at every part boundary and inside parts: the same upload in a new process goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import trove_async as trove
from tests.uploads.ledger import sample
from tests.uploads.upload_child import layers

MiB = 1024 * 1024
ROOT = Path(__file__).parents[2]


def run(root: Path, source: Path, part: int, kind: str, at: int, log: Path) -> int:
    command = [sys.executable, "-m", "tests.uploads.upload_child", f"file://{root}"]
    done = subprocess.run(
        [*command, str(source), str(part), kind, str(at), str(log)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def boundaries(log: str) -> list[int]:
    """Every step at the end of a part, and one in the middle of each."""
    chosen: list[int] = []
    inside: list[int] = []
    for line in log.splitlines():
        word, number, *what = line.split()
        if word != "step":
            continue
        if what == ["chunk"]:
            inside.append(int(number))
            continue
        if inside:
            chosen.append(inside[len(inside) // 2])
            inside = []
        chosen.append(int(number))
    return chosen


async def swept(tmp_path: Path, kind: str, size: int, part: int, points: int | None) -> int:
    """``points``: of all steps; None: the boundaries of the parts, and their middles."""
    source = tmp_path / "source"
    unit = sample(min(size, 8 * MiB))
    with source.open("wb") as file:
        for number in range(-(-size // len(unit))):
            file.write(number.to_bytes(8, "big") + unit[: size - number * len(unit)][8:])
    expected = source.read_bytes()
    assert len(expected) == size

    async def fresh(name: str) -> Path:
        root = tmp_path / name
        async with trove.open(f"file://{root}?durability=none") as store:
            await store.create_bucket("bucket")
        return root

    log = tmp_path / "whole.log"
    assert run(await fresh("whole"), source, part, kind, 0, log) == 0
    total = int(log.read_text().rsplit(maxsplit=1)[1])
    steps = range(1, total + 1)
    chosen = boundaries(log.read_text())
    if points is not None:
        chosen = [*steps][:: max(1, total // points)]
    for at in chosen:
        root, log = await fresh(f"at{at}"), tmp_path / f"at{at}.log"
        assert run(root, source, part, kind, at, log) == -signal.SIGKILL
        assert run(root, source, part, kind, 0, log) == 0
        sent = Counter(line for line in log.read_text().splitlines() if line.startswith("sent"))
        assert sum(sent.values()) - len(sent) <= 1, "at most one part is sent twice"
        assert len({line.split()[1] for line in sent}) == 1, "it is the same upload"
        async with trove.open(f"file://{root}", middleware=layers(kind)) as store:
            assert await store.get_bytes("bucket", "key") == expected
            assert not [session async for session in store.uploads.list()]
        shutil.rmtree(root)
    return len(chosen)


@pytest.mark.parametrize(("kind", "points"), [("plain", 2), ("sealed", 4)])
async def test_a_killed_upload_goes_on_in_a_new_process(
    tmp_path: Path, kind: str, points: int
) -> None:
    assert await swept(tmp_path, kind, 5 * MiB + 17, MiB, points) >= points


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "parts"), [("plain", 16), ("sealed", 8)])  # half, compressed
async def test_256_mib_killed_at_every_boundary_and_inside_parts(
    tmp_path: Path, kind: str, parts: int
) -> None:
    points = await swept(tmp_path, kind, 256 * MiB, 16 * MiB, None)
    assert points >= 3 * parts, "in the middle of each, and where driver and catalog have it"
    print(f"256 MiB, {kind}: killed at {points} points")
