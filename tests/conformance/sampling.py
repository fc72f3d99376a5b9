"""Some of the cases, for the normal suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

__all__ = ["only"]


def only(
    numbers: Sequence[int], folder: Path
) -> Callable[[pytest.Config, list[pytest.Item]], None]:
    """The ``pytest_collection_modifyitems`` of the conftest of ``folder``: the cases of these
    numbers are kept there, the others are deselected."""
    sample = frozenset(f"K{number:03}" for number in numbers)

    def select(config: pytest.Config, items: list[pytest.Item]) -> None:
        left_out = {
            item
            for item in items
            if folder in item.path.parents and item.name.partition("_")[0] not in sample
        }
        if left_out:
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=[*left_out])

    return select
