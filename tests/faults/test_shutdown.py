"""F48: signals at random moments end a busy program soon, cleanly, with nothing torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.world import Value, found_at, opener, value
from trove_async.driver import BucketOptions

ROOT = Path(__file__).parent.parent.parent


async def made(root: Path) -> None:
    driver = opener(root)
    await driver.open()
    await driver.create_bucket("bucket", BucketOptions())
    await driver.close()


def is_one_put(seen: Value) -> bool:
    number = int(seen.data[1 : seen.data.index(b">")])
    return seen == value(number, len(seen.data))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("turn", range(3))
async def test_F48_a_signal_ends_it_soon_and_nothing_is_torn(
    scratch: Path, number: signal.Signals, turn: int
) -> None:
    root = scratch / "root"
    await made(root)
    with subprocess.Popen(  # noqa: ASYNC220 -- nothing else runs in this loop meanwhile
        [sys.executable, "-X", "dev", "-m", "tests.faults.shutdown_child", str(root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0, 0.3))  # noqa: ASYNC251 -- see above
        start = time.monotonic()
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
        took = time.monotonic() - start
    assert child.returncode == 0, err
    assert out == "clean\n"
    assert err == "", "warnings, or errors that nobody retrieved"
    assert took < 10, "no end in sight"
    assert os.listdir(root / ".trove" / "tmp") == []
    for name, there in (await found_at(root)).items():
        assert name.endswith("/") or is_one_put(there)


async def test_F48_a_kill_at_any_moment_is_recovered_from(scratch: Path) -> None:
    root = scratch / "root"
    await made(root)
    for _ in range(4):
        with subprocess.Popen(  # noqa: ASYNC220 -- nothing else runs in this loop meanwhile
            [sys.executable, "-m", "tests.faults.shutdown_child", str(root)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(random.uniform(0, 0.3))  # noqa: ASYNC251 -- see above
            child.kill()
        for name, there in (await found_at(root)).items():
            assert name.endswith("/") or is_one_put(there)
