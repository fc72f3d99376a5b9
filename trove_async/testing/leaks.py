"""What a process holds: threads and descriptors, counted before and after."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Baseline", "keep_since", "open_descriptors"]

# Pools that live as long as the process, by the prefix of their threads' names.
_SHARED: Final = ("trove-cpu", "trove-body")
_PATIENCE: Final = 2.0
_kept: set[str] = set()


def open_descriptors() -> dict[int, str]:
    """Number -> what it stands for; empty where there is no /proc."""
    found: dict[int, str] = {}
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            found[int(name)] = target.removesuffix(" (deleted)")  # it may go while it is open
        except OSError:  # it was the descriptor of this very listing
            continue
    return found


def keep_since(before: dict[int, str]) -> None:
    """What was opened since ``before`` lives as long as the process: no leak."""
    now = open_descriptors()
    _kept.update(target for number, target in now.items() if before.get(number) != target)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What was there before."""

    threads: frozenset[int]
    descriptors: dict[int, str]

    @classmethod
    def now(cls) -> Self:
        alive = frozenset(t.ident for t in threading.enumerate() if t.ident is not None)
        return cls(alive, open_descriptors())

    def grown(self) -> list[str]:
        """What is there now and was not before."""
        more = [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread.ident not in self.threads and not thread.name.startswith(_SHARED)
        ]
        return more + [
            f"descriptor {number} -> {target}"
            for number, target in open_descriptors().items()
            if self.descriptors.get(number) != target and target not in _kept
        ]

    def check(self) -> None:
        """AssertionError when something stays; what is just ending gets two seconds."""
        if not self.grown():
            return
        deadline = time.monotonic() + _PATIENCE
        gc.collect()
        while grown := self.grown():
            assert time.monotonic() < deadline, f"left behind: {', '.join(grown)}"
            time.sleep(0.01)
