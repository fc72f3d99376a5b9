"""Hostile bytes end in a typed error or in what was put in; a million each: nox -s fuzz."""

from __future__ import annotations

import os
import random

import pytest

from tests.fuzz.run import sweep
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_S45_broken_inputs_give_typed_errors_and_nothing_that_was_not_put_in(name: str) -> None:
    outcomes = sweep(name, int(os.environ.get("TROVE_FUZZ", "5000")), seed=1)
    assert len(outcomes) > 1, "the inputs do not reach far enough"


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_are_read(name: str) -> None:
    target = TARGETS[name]()
    for number, data in enumerate(target.good):
        assert target(random.Random(number), data) in ("same", "part")
