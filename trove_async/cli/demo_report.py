"""How the demo tells what it does: bars on a terminal, plain lines elsewhere, then a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trove_async.cli.show import shown, size_text

__all__ = ["Report", "Step"]

_EVERY = 1000  # objects between two plain lines


@dataclass(slots=True)
class Step:
    """One row of the table."""

    name: str
    total: int
    objects: int = 0
    bytes: int = 0
    seconds: float = 0.0
    note: str = ""
    faults: list[str] = field(default_factory=list)

    def wrong(self, key: str, why: str) -> None:
        self.faults.append(f"{self.name}: {key}: {why}")


class Report:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._bars = Console(stderr=True)
        self._live = self._bars.is_terminal
        self._told: dict[str, int] = {}
        self._update: Callable[[], None] = _nothing

    @property
    def faults(self) -> list[str]:
        return [fault for step in self.steps for fault in step.faults]

    def say(self, text: str) -> None:
        sys.stderr.write(shown(text) + "\n")
        sys.stderr.flush()

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Step]:
        """Timed. The step belongs to the table also when it ends with an error."""
        step = Step(name, total)
        self.steps.append(step)
        started = time.perf_counter()
        try:
            with self._shown(step):
                yield step
        finally:
            step.seconds = time.perf_counter() - started

    @contextmanager
    def _shown(self, step: Step) -> Iterator[None]:
        if not self._live:
            self.say(f"{step.name}: {step.total:,} objects")
            yield
            return
        columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self._bars) as progress:
            task = progress.add_task(step.name, total=step.total)

            def update() -> None:
                progress.update(task, completed=step.objects)

            self._update = update
            yield
            update()

    def advance(self, step: Step, size: int, objects: int = 1) -> None:
        step.objects += objects
        step.bytes += size
        if self._live:
            self._update()
        elif step.objects // _EVERY != self._told.get(step.name, 0):
            self._told[step.name] = step.objects // _EVERY
            self.say(f"{step.name}: {step.objects:,} of {step.total:,}")

    def table(self) -> None:
        """On stdout."""
        table = Table(title="trove demo", title_justify="left")
        table.add_column("step")
        for heading in ("objects", "data", "seconds", "per second", "MiB/s"):
            table.add_column(heading, justify="right")
        table.add_column("result")
        for step in self.steps:
            seconds = max(step.seconds, 1e-9)
            result = f"{len(step.faults)} WRONG" if step.faults else step.note or "ok"
            rate = f"{step.bytes / seconds / 2**20:,.1f}" if step.bytes else "-"
            table.add_row(
                step.name,
                f"{step.objects:,}",
                size_text(step.bytes) if step.bytes else "-",
                f"{step.seconds:.2f}",
                f"{step.objects / seconds:,.0f}",
                rate,
                escape(shown(result)),
            )
        console = Console()
        if not console.is_terminal:
            console.width = max(console.width, 100)
        console.print(table)


def _nothing() -> None: ...
