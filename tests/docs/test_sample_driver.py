"""The sample driver of the docs is short, is what the page shows, and passes every case."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs" / "sample_driver.py"


def test_the_sample_driver_is_short_and_shown_as_it_is() -> None:
    source = SAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 150
    page = (ROOT / "docs" / "write-a-driver.md").read_text(encoding="utf-8")
    assert f"```python\n{source}```\n" in page


@pytest.mark.timeout(600)
def test_the_sample_driver_passes_the_conformance_cases(tmp_path: Path) -> None:
    """As its author would run them: from the folder of the driver, with the plugin alone."""
    report = tmp_path / "report.json"
    arguments = ["--trove-driver=sample_driver:DictDriver", f"--trove-report={report}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *arguments],
        cwd=SAMPLE.parent,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    outcomes = [case["outcome"] for case in _cases(json.loads(report.read_text()))]
    assert outcomes.count("passed") >= 100
    assert "failed" not in outcomes


def _cases(report: dict[str, object]) -> list[dict[str, str]]:
    cases = report["cases"]
    assert isinstance(cases, dict)
    return [*cases.values()]
