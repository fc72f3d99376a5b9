"""The state machine and the queue against a model: nothing lost, doubled or swapped."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stream.model import DownloadMachine, Machine, UploadMachine

MACHINES = [UploadMachine, DownloadMachine]


def explored(machine: type[Machine], examples: int, steps: int) -> int:
    machine.steps = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return machine.steps


@pytest.mark.parametrize("machine", MACHINES)
def test_a_stream_does_what_the_model_says(machine: type[Machine]) -> None:
    assert explored(machine, 60, 50) > 600


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("machine", MACHINES)
def test_a_stream_does_what_the_model_says_for_100_000_steps(machine: type[Machine]) -> None:
    steps = 0
    while steps < 100_000:
        steps += explored(machine, 500, 60)
    print(f"{machine.__name__}: {steps} steps")
