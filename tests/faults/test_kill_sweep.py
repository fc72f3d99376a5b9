"""F01, F02, F04, F17, F59: a kill before, and within, every file system call of an operation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.operations import WRITES

ROOT = Path(__file__).parent.parent.parent


def kills_of(place: str, *names: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill_runner", place, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["operation"]: row["kills"] for row in rows}


GROUPS = {
    "F01_put": [n for n in WRITES if n.startswith(("put", "over", "create_only", "if_match"))],
    "F04_copy": [n for n in WRITES if n.startswith(("copy", "retag"))],
    "F04_move_and_delete": [n for n in WRITES if n.startswith(("move", "delete"))],
    "F17_multipart": ["initiate", "part", "part_again", "complete", "abort", "create_bucket"],
}


def test_every_operation_is_in_a_group() -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(WRITES)


@pytest.mark.parametrize("place", ["auto", "sidecar"])
@pytest.mark.parametrize("group", GROUPS)
def test_a_kill_leaves_the_old_or_the_new(group: str, place: str) -> None:
    kills = kills_of(place, *GROUPS[group])
    print(f"{group}, {place}: {sum(kills.values())} kills {kills}")
    assert set(kills) == set(GROUPS[group])
    assert all(count >= 12 for count in kills.values())


@pytest.mark.parametrize("place", ["auto", "sidecar"])
def test_F59_recovery_is_killed_and_runs_again(place: str) -> None:
    assert kills_of(place, "recovery")["recovery"] >= 100
