"""Every broken driver is found by the cases that say they find it; the whole ones pass them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trove_async import Driver
from trove_async.drivers.memory import MemoryDriver
from trove_async.testing.case import Result, load_cases
from trove_async.testing.harness import run_case
from trove_async.testing.mutants import MUTANTS, Mutant
from trove_async.testing.mutants.files import local

IDS = sorted({id for mutant in MUTANTS for id in mutant.caught_by})
# Ten thousand objects each; the conformance runs of the drivers have them.
LARGE = {"K144", "K167"}


def results(id: str, factory: Callable[[], Driver]) -> list[Result]:
    """Of all nodes of ``id`` up to the first failure."""
    found: list[Result] = []
    for case in load_cases()[id]:
        for _, args in case.nodes():
            found.append(run_case(case, args, factory))
            if found[-1].outcome == "failed":
                return found
    return found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_driver_is_found(mutant: Mutant) -> None:
    missed = [id for id in mutant.caught_by if results(id, mutant.make)[-1].outcome != "failed"]
    assert not missed, f"{mutant.name}: not noticed by {missed}"


@pytest.mark.parametrize("id", [id for id in IDS if id not in LARGE])
@pytest.mark.parametrize("factory", [MemoryDriver, local()], ids=["memory", "local"])
def test_a_whole_driver_passes_the_same_cases(factory: Callable[[], Driver], id: str) -> None:
    failed = [result for result in results(id, factory) if result.outcome == "failed"]
    assert not failed, failed


def test_mutants_are_many_and_of_all_kinds() -> None:
    assert len(MUTANTS) >= 32
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    groups = {id[:3] for id in IDS}
    assert len(IDS) >= 60 and len(groups) >= 20


def test_each_mutant_is_broken_in_its_own_way() -> None:
    kinds = [mutant.make for mutant in MUTANTS]
    assert len(set(kinds)) == len(kinds)
