"""Outcomes per case id, as JSON and as a readable matrix."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from trove_async.testing.case import CASES, Result, roll_up

if TYPE_CHECKING:
    import pytest

__all__ = ["GROUPS", "Matrix", "group_of"]

GROUPS = {
    "A Keys": 37,
    "B Bodies": 62,
    "C Metadata": 79,
    "D List": 88,
    "E Ranges": 103,
    "F Copy and move": 117,
    "G Conditional": 126,
    "H Delete": 132,
    "I Buckets": 142,
    "J Pages": 156,
    "K Concurrency": 168,
    "L Cancellation": 184,
    "M Lifecycle": 196,
    "N Multipart": 217,
    "O Capabilities": 237,
    "P Errors": 248,
}
"""Name -> the last number of its ids."""


def group_of(id: str) -> str:
    number = int(id[1:])
    return next(name for name, last in GROUPS.items() if number <= last)


class CaseReport(TypedDict):
    outcome: str
    reason: str


class RunReport(TypedDict):
    """One driver under one stack."""

    driver: str
    version: str
    stack: str
    cases: dict[str, CaseReport]


class _Run:
    def __init__(self) -> None:
        self.driver = "unknown"
        self.version = "unknown"
        self.stack = "bare"
        self.results: dict[str, list[Result]] = {}

    def outcomes(self) -> dict[str, Result]:
        return {id: roll_up(self.results.get(id, [])) for id in sorted({*CASES, *self.results})}


class Matrix:
    """All runs of a session; usually one."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Every phase of a test; a failed set-up counts as a failure."""
        facts = {name: str(value) for name, value in report.user_properties}
        if report.when != "call" and report.outcome == "passed":
            return
        run = self._runs.setdefault(facts["trove_target"], _Run())
        run.stack = facts.get("trove_stack", run.stack)
        run.driver = facts.get("trove_driver", run.driver)
        run.version = facts.get("trove_version", run.version)
        run.results.setdefault(facts["trove_case"], []).append(_result(report))

    def reports(self) -> list[RunReport]:
        found: list[RunReport] = []
        for run in self._runs.values():
            cases: dict[str, CaseReport] = {
                id: {"outcome": result.outcome, "reason": result.reason}
                for id, result in run.outcomes().items()
            }
            found.append(
                {"driver": run.driver, "version": run.version, "stack": run.stack, "cases": cases}
            )
        return found

    def write(self, path: Path) -> None:
        """One run as it is; several under ``runs``."""
        reports = self.reports()
        content = reports[0] if len(reports) == 1 else {"runs": reports}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")

    def lines(self) -> Iterator[str]:
        for target, run in self._runs.items():
            yield ""
            yield f"conformance of {run.driver} {run.version}, stack {run.stack} ({target})"
            yield from _table(run.outcomes())


def _table(outcomes: dict[str, Result]) -> Iterator[str]:
    counts: dict[str, Counter[str]] = {name: Counter() for name in GROUPS}
    for id, result in outcomes.items():
        counts[group_of(id)][result.outcome] += 1
    yield f"  {'group':<18}{'passed':>8}{'failed':>8}{'absent':>8}"
    total: Counter[str] = Counter()
    for name, count in counts.items():
        if count:
            total += count
            yield _row(name, count)
    yield _row("all", total)
    for outcome in ("failed", "absent"):
        by_reason: dict[str, list[str]] = {}
        for id, result in outcomes.items():
            if result.outcome == outcome:
                by_reason.setdefault(result.reason, []).append(id)
        for reason, ids in by_reason.items():
            yield f"  {outcome}: {_spans(ids)}: {reason}"


def _spans(ids: list[str]) -> str:
    """``K001-K003 K007``."""
    spans: list[list[str]] = []
    for id in ids:
        if spans and int(id[1:]) == int(spans[-1][-1][1:]) + 1:
            spans[-1].append(id)
        else:
            spans.append([id])
    return " ".join(s[0] if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in spans)


def _row(name: str, count: Counter[str]) -> str:
    return f"  {name:<18}{count['passed']:>8}{count['failed']:>8}{count['absent']:>8}"


def _result(report: pytest.TestReport) -> Result:
    if report.outcome == "passed":
        return Result("passed")
    told = report.longrepr
    if report.outcome == "skipped":
        reason = str(told[2]) if isinstance(told, tuple) else str(told)
        return Result("absent", reason.removeprefix("Skipped: "))
    crash = getattr(told, "reprcrash", None)
    text = str(crash.message if crash is not None else told).strip()
    return Result("failed", text.splitlines()[0] if text else "failed")
