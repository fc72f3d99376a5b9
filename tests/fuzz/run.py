"""``python -m tests.fuzz.run [--count N] [--seed N] [TARGET ...]``: prints the outcomes."""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter

from tests.fuzz.mutate import broken
from tests.fuzz.targets import TARGETS

__all__ = ["sweep"]


def sweep(name: str, count: int, seed: int) -> Counter[str]:
    """Outcomes by class. An input that breaks a promise is in the error that is raised."""
    dice = random.Random(f"{name}/{seed}")
    target = TARGETS[name]()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        data = broken(dice, target.good)
        try:
            outcomes[target(dice, data)] += 1
        except BaseException as exc:
            exc.add_note(f"{name}, seed {seed}, input {number}: {data.hex()}")
            raise
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], default=[])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for name in asked.targets or TARGETS:
        started = time.perf_counter()
        outcomes = sweep(name, asked.count, asked.seed)
        took = time.perf_counter() - started
        print(f"{name}: {outcomes.total():,} inputs in {took:.0f} s, 0 wrong")
        for outcome, times in outcomes.most_common():
            print(f"  {times:>10,}  {outcome}")


if __name__ == "__main__":
    main()
