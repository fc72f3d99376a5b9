"""Transforms that the whole suite is run through as well: ``--trove-stack=...stacks:both``."""

from __future__ import annotations

from tests.transforms import Flip, Xor
from trove_async import Middleware


def xor() -> list[Middleware]:
    return [Xor()]


def flip() -> list[Middleware]:
    return [Flip()]


def both() -> list[Middleware]:
    return [Xor(), Flip()]
