"""Runs the whole suite on every embedded driver under every stack, one pytest each.

    python -m tests.conformance.matrix [FOLDER] [PYTEST OPTIONS]

Writes ``<driver>-<stack>.json`` into FOLDER and ends with 1 when a case failed anywhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

DRIVERS = ("memory", "local")
STACKS = ("bare", "xor", "flip", "both")


def run(driver: str, stack: str, report: Path, options: list[str]) -> int:
    chosen = [] if stack == "bare" else [f"--trove-stack=tests.conformance.stacks:{stack}"]
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"),
        f"--trove-driver=tests.conformance.drivers:{driver}",
        f"--trove-report={report}",
        *chosen,
        *options,
    ]
    return subprocess.run(command, check=False).returncode


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else Path("build/conformance")
    worst = 0
    lines: list[str] = []
    for driver in DRIVERS:
        for stack in STACKS:
            report = folder / f"{driver}-{stack}.json"
            report.unlink(missing_ok=True)
            worst = max(worst, run(driver, stack, report, arguments[1:]))
            if not report.exists():
                lines.append(f"{driver:<8}{stack:<6} no report")
                continue
            cases = json.loads(report.read_text())["cases"].values()
            count = Counter(case["outcome"] for case in cases)
            lines.append(
                f"{driver:<8}{stack:<6}{count['passed']:>5} passed{count['failed']:>5} failed"
                f"{count['absent']:>5} absent"
            )
    print("\n".join(lines))
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
