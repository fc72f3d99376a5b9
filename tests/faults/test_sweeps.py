"""F01, F05, F08 to F10 on real disks: strace and power cuts. Short here, long when marked slow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.power_cut import CANNOT

ROOT = Path(__file__).parent.parent.parent


def script(name: str, *options: str, most: float) -> tuple[int, dict[str, int], str]:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{name}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=most,
        check=False,
    )
    print(done.stdout, done.stderr)
    figures = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return done.returncode, figures, done.stderr


def strace_works() -> bool:
    path = shutil.which("strace")
    return path is not None and subprocess.run([path, "-V"], capture_output=True).returncode == 0


needs_strace = pytest.mark.skipif(not strace_works(), reason="strace is not installed")


def swept(*options: str, most: float) -> dict[str, int]:
    code, figures, said = script("strace_sweep", *options, most=most)
    if "does not attach" in said:
        pytest.skip("strace may not attach to a process here (ptrace_scope)")
    assert code == 0, said[-3000:]
    assert figures["torn"] == figures["acknowledged and lost"] == 0
    return figures


@needs_strace
def test_F01_F08_F10_twenty_faults_by_strace() -> None:
    assert swept("--quick", most=110)["injected"] >= 20


@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_F01_F08_F10_every_call_by_strace() -> None:
    figures = swept(most=1500)
    assert figures["injected"] >= 300
    assert figures["not hit"] <= figures["injected"] // 20


def cut(*options: str, most: float) -> tuple[int, dict[str, int]]:
    if os.geteuid() != 0:
        pytest.skip("a loop device can only be mounted by root")
    code, figures, said = script("power_cut", *options, most=most)
    if code == CANNOT:
        pytest.skip(said.strip())
    return code, figures


@pytest.mark.timeout(180)
def test_F05_ten_power_cuts() -> None:
    code, figures = cut("--cuts", "10", most=110)
    assert code == 0 and figures["cuts"] == 10 and figures["lost or torn"] == 0


def test_F05_the_cuts_do_lose_what_is_not_synced() -> None:
    code, figures = cut("--cuts", "4", "--control", most=110)
    assert code == 1 and figures["lost or torn"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_F05_F06_two_hundred_power_cuts() -> None:
    code, figures = cut("--cuts", "220", most=1500)
    assert code == 0 and figures["cuts"] == 220 and figures["lost or torn"] == 0
    assert figures["acknowledged"] > 500
