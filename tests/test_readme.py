"""The README runs: its five lines, its two commands as they are checked, its links."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [body for language, body in BLOCKS if language == "python"]
SHELL = [body for language, body in BLOCKS if language == "console"]


async def test_the_five_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len([line for line in PYTHON[0].splitlines() if line]) == 5
    code = compile(PYTHON[0], "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, {})
    assert inspect.iscoroutine(running)
    await running
    assert capsys.readouterr().out == "['cats/tom.txt']\n"
    assert (tmp_path / "my-trove/photos/cats/tom.txt").read_bytes() == b"meow"


def test_two_lines_do_all_their_own_set_up() -> None:
    lines = SHELL[0].splitlines()
    assert len(lines) == 2
    extras = set()
    for line in lines:
        command = re.fullmatch(r"bash \.ci/setup (\w+) && \.venv/bin/.+", line)
        assert command is not None
        extras.add(command[1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras <= set(project["optional-dependencies"])
    assert (ROOT / "LICENSE").is_file()


def test_the_checks_run_the_line_that_the_readme_gives() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -m1 -E '([^']+)' README\.md", script)
    assert pattern is not None
    found = subprocess.run(
        ["grep", "-E", pattern[1], "README.md"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert found == SHELL[0].splitlines()[1] + "\n"


@pytest.mark.parametrize("script", [".ci/run", ".ci/setup"])
def test_the_scripts_parse_and_are_executable(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)
