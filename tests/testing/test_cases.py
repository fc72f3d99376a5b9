"""The cases on drivers that can do less, or more, than those of this package."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.testing import other_drivers as others
from tests.testing.test_mutants import LARGE, results
from trove_async import Driver
from trove_async.testing.case import load_cases
from trove_async.testing.harness import run_case

PRESIGN = [f"K{number}" for number in range(218, 225)]
NO_PRESIGN: dict[type[others.Signing], str] = {
    others.SignsNoMethod: "K222",
    others.SignsNoKey: "K222",
    others.NeverExpires: "K220",
    others.BindsNothing: "K219",
    others.AsksBeforeItSigns: "K224",
    others.QuotesWrongly: "K223",
}


@pytest.mark.parametrize("id", [id for id in load_cases() if id not in LARGE])
def test_a_driver_that_can_do_the_least_fails_nothing(id: str) -> None:
    make: Callable[[], Driver] = others.PoorDriver  # type: ignore[assignment] # made at run time
    outcomes = results(id, make)
    assert outcomes[-1].outcome != "failed", outcomes[-1]
    assert all(outcome.reason for outcome in outcomes if outcome.outcome == "absent")


@pytest.mark.parametrize("id", PRESIGN)
def test_a_driver_that_signs_passes(id: str) -> None:
    for case in load_cases()[id]:
        for _, args in case.nodes():
            outcome = run_case(case, args, others.Signing)
            assert outcome.outcome == "passed", (case.name, args, outcome)


@pytest.mark.parametrize("kind", NO_PRESIGN, ids=lambda kind: kind.__name__)
def test_a_driver_that_signs_badly_is_found(kind: type[others.Signing]) -> None:
    assert results(NO_PRESIGN[kind], kind)[-1].outcome == "failed"
