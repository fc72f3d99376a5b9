"""Transforms by name that every case can be run through."""

from __future__ import annotations

from typing import Final

from trove_async.testing.harness import BARE, Stack

__all__ = ["STACKS"]

STACKS: Final[dict[str, Stack]] = {BARE.name: BARE}
"""Name for ``--trove-stack`` -> how to make the layers, afresh for every store."""
