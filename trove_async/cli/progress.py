"""A bar for each file on its way: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trove_async import Progress
from trove_async.cli.show import shown

__all__ = ["Bars", "bars"]


class Bars:
    """Where nobody looks: no bars."""

    @contextmanager
    def file(self, name: str) -> Iterator[Callable[[Progress], None] | None]:
        yield None


@contextmanager
def bars(*, quiet: bool) -> Iterator[Bars]:
    if quiet or not sys.stderr.isatty():
        yield Bars()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Live

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    live = Live(
        *columns,
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),  # else what programs read would be drawn
        transient=True,
    )

    class Drawn(Bars):
        @contextmanager
        def file(self, name: str) -> Iterator[Callable[[Progress], None] | None]:
            task = live.add_task(shown(name), total=None)

            def on_progress(progress: Progress) -> None:
                live.update(task, total=progress.total, completed=progress.bytes)

            try:
                yield on_progress
            finally:
                live.remove_task(task)

    with live:
        yield Drawn()
