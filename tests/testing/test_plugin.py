"""The plugin as a driver author meets it: pytest in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trove_async.testing.case import load_cases

MEMORY = "--trove-driver=trove_async.drivers.memory:MemoryDriver"

BROKEN = """
from trove_async.drivers.memory import MemoryDriver

class Broken(MemoryDriver):
    version = "7.8"

    async def list(self, bucket, options):
        page = await super().list(bucket, options)
        return type(page)(page.objects[:3], page.prefixes, page.cursor)
"""

CONFTEST = """
import pytest
from trove_async.drivers.memory import MemoryDriver

@pytest.fixture
def trove_driver_factory(tmp_path):
    return MemoryDriver
"""


def run(folder: Path, *options: str, quiet: bool = True) -> subprocess.CompletedProcess[str]:
    """pytest in ``folder``, which has no settings of its own; warnings are errors."""
    (folder / "pytest.ini").touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    silent = ["-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *(silent if quiet else []), *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def matrix(path: Path) -> dict[str, dict[str, str]]:
    cases: dict[str, dict[str, str]] = json.loads(path.read_text())["cases"]
    return cases


def test_every_id_of_the_suite_has_a_case() -> None:
    assert list(load_cases()) == [f"K{number:03}" for number in range(1, 249)]


def test_no_two_nodes_share_a_name() -> None:
    names = [name for cases in load_cases().values() for case in cases for name, _ in case.nodes()]
    assert len(names) == len(set(names))
    assert all(name.isascii() and name.isprintable() for name in names)


def test_a_factory_whose_server_is_not_here_skips_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "absent.py").write_text(
        "import pytest\n\ndef factory():\n    pytest.skip('no server: apt install it')\n"
    )
    done = run(tmp_path, "-q", "-rs", "--trove-driver=absent:factory", "-k", "K001 or K093")
    assert done.returncode == 0, done.stdout
    assert "no server: apt install it" in done.stdout
    assert " failed" not in done.stdout.splitlines()[-1]


def test_a_driver_named_on_the_command_line_is_proved(tmp_path: Path) -> None:
    report = tmp_path / "deep" / "report.json"
    (tmp_path / "test_own.py").write_text("def test_own():\n    raise SystemError\n")
    chosen = "K001 or K045 or K103 or K143"
    done = run(tmp_path, MEMORY, f"--trove-report={report}", "-k", chosen, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trove_async.testing::K001_ascii_key_round_trip[a] PASSED" in done.stdout
    assert "test_own" not in done.stdout, "with the option the cases are run alone"
    told = json.loads(report.read_text())
    assert told["driver"] == "memory"
    assert told["version"]
    assert told["stack"] == "bare"
    assert told["cases"]["K001"] == {"outcome": "passed", "reason": ""}
    assert told["cases"]["K045"] == {
        "outcome": "absent",
        "reason": "driver keeps objects in this process's memory",
    }
    assert told["cases"]["K002"] == {"outcome": "absent", "reason": "not run"}
    assert "conformance of memory" in done.stdout
    assert "absent: K103: no transform is in use in this run" in done.stdout


def test_a_projects_timeout_does_not_cut_a_case_short(tmp_path: Path) -> None:
    done = run(tmp_path, "-q", "--timeout=0.05", MEMORY, "-k", "K144")
    assert done.returncode == 0, done.stdout


def test_paths_named_beside_the_driver_are_run_as_well(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    done = run(tmp_path, MEMORY, "-v", "-k", "test_own or K001", "test_own.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_own.py::test_own PASSED" in done.stdout
    assert "::K001_" in done.stdout


def test_a_broken_driver_of_the_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    report = tmp_path / "report.json"
    done = subprocess.run(  # the console script: the folder is not on sys.path by itself
        [
            Path(sys.executable).with_name("pytest"),
            *("-p", "no:cacheprovider", "-p", "no:asyncio", "-k", "K001 or K143 or K150"),
            *("--trove-driver=mine:Broken", f"--trove-report={report}"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(report.read_text())
    assert told["version"] == "7.8"
    assert told["cases"]["K001"]["outcome"] == "passed"
    assert told["cases"]["K143"]["outcome"] == "failed"
    assert "a key is missing or comes twice" in told["cases"]["K143"]["reason"]
    assert "failed: K143" in done.stdout


def test_a_fixture_of_a_conftest_is_enough(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "conftest.py").write_text(CONFTEST)
    (tests / "test_own.py").write_text("def test_own():\n    pass\n")
    report = tmp_path / "report.json"
    done = run(tmp_path, "-v", "-k", "test_own or K001 or K038", f"--trove-report={report}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/conftest.py::K038_body_empty PASSED" in done.stdout
    assert "tests/test_own.py::test_own PASSED" in done.stdout
    assert matrix(report)["K038"]["outcome"] == "passed"


def test_two_drivers_of_one_session_are_reported_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conftest.py").write_text(CONFTEST)
    report = tmp_path / "report.json"
    done = run(tmp_path, "-k", "K001", f"--trove-report={report}")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads(report.read_text())["runs"]
    assert [one["cases"]["K001"]["outcome"] for one in runs] == ["passed", "passed"]


STACKS = """
import pytest
from trove_async import Direction, Stage

class Reverse:
    name = encoding = "reverse"
    direction = Direction.READ_WRITE
    stage = Stage.TRANSFORM

    async def write(self, chunks, context):
        return self.turned(chunks)

    read = write

    async def turned(self, chunks):
        async for chunk in chunks:
            yield bytes(255 - value for value in bytes(chunk))

@pytest.fixture
def trove_stacks():
    return {"reverse": [Reverse()]}
"""


def test_a_stack_of_the_project_is_used_by_name(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(STACKS)
    report = tmp_path / "report.json"
    options = (MEMORY, "--trove-stack=reverse", "-k", "K001 or K103", f"--trove-report={report}")
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())["stack"] == "reverse"
    assert matrix(report)["K103"] == {"outcome": "passed", "reason": ""}


def test_an_unknown_stack_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, MEMORY, "--trove-stack=nowhere", "-k", "K001")
    assert done.returncode != 0
    assert "unknown stack 'nowhere'" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["nothing", "no.such.module:factory", "json:no_such_name"])
def test_a_driver_that_cannot_be_loaded_is_a_usage_error(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, f"--trove-driver={name}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "--trove-driver" in done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_a_factory_that_raises_fails_the_cases(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def factory():\n    raise OSError('no room')\n")
    done = run(tmp_path, "--trove-driver=mine:factory", "-k", "K001")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "no room" in done.stdout


def test_workers_report_to_one_matrix(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("-n", "2", MEMORY, "-k", "K00", f"--trove-report={report}")
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [id for id, case in matrix(report).items() if case["outcome"] == "passed"]
    assert ran[:9] == [f"K00{number}" for number in range(1, 10)]
    assert "conformance of memory" in done.stdout


def test_a_project_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own():\n"
        "    loaded = {name for name in sys.modules if name.startswith('trove_async.testing')}\n"
        "    assert loaded == {'trove_async.testing', 'trove_async.testing.plugin'}\n"
        "    assert not [name for name in sys.modules if name.startswith('trove_async.drivers')]\n"
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "conformance" not in done.stdout


def test_it_runs_beside_an_asyncio_plugin_in_auto_mode(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_own.py").write_text(
        "import asyncio\nasync def test_own():\n    await asyncio.sleep(0)\n"
    )
    done = run(
        tmp_path,
        *("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"),
        *("-W", "error", "-k", "test_own or K001 or K169"),
        quiet=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
