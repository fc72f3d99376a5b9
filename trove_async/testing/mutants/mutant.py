"""What a mutant is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trove_async.driver import Driver

__all__ = ["Mutant"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A driver with one fault; every case of ``caught_by`` must fail on it."""

    name: str
    make: Callable[[], Driver]
    caught_by: tuple[str, ...]
    """Ids."""
