"""The checker accepts what can be ordered, and nothing else."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trove_async import Trove
from trove_async.drivers.memory import MemoryDriver
from trove_async.testing.linear import FOREVER, Operation, explain, record


def put(value: str, start: int, end: int = FOREVER, key: str = "k") -> Operation:
    return Operation(key, "put", value, start, end)


def get(value: str | None, start: int, end: int, key: str = "k") -> Operation:
    return Operation(key, "get", value, start, end)


def delete(start: int, end: int = FOREVER, key: str = "k") -> Operation:
    return Operation(key, "delete", None, start, end)


GOOD = {
    "nothing": [],
    "one after the other": [put("a", 0, 1), get("a", 2, 3), delete(4, 5), get(None, 6, 7)],
    "reads differ while a put is under way": [
        put("a", 0, 1),
        put("b", 2, 9),
        get("a", 3, 4),
        get("b", 5, 6),
    ],
    "two puts at once, either order": [put("a", 0, 9), put("b", 0, 9), get("a", 10, 11)],
    "a read that spans both": [put("a", 0, 1), put("b", 2, 5), get("a", 1, 6)],
    "an unknown put that happened": [put("a", 0, 1), put("b", 2), get("b", 5, 6)],
    "an unknown put that did not": [put("a", 0, 1), put("b", 2), get("a", 5, 6)],
    "an unknown put that happened late": [
        put("a", 0, 1),
        put("b", 2),
        get("a", 5, 6),
        get("b", 7, 8),
    ],
    "keys are apart": [put("a", 0, 1, "x"), get(None, 2, 3, "y"), get("a", 2, 3, "x")],
}
BAD = {
    "a stale read": [put("a", 0, 1), put("b", 2, 3), get("a", 4, 5)],
    "a lost put": [put("a", 0, 1), get(None, 2, 3)],
    "read and unread again": [
        put("a", 0, 1),
        put("b", 2, 9),
        get("b", 3, 4),
        get("a", 5, 6),
    ],
    "back from the dead": [put("a", 0, 1), delete(2, 3), get("a", 4, 5)],
    "of nobody": [put("a", 0, 1), get("z", 2, 3)],
    "two readers disagree on the order": [
        put("a", 0, 1),
        put("b", 0, 1),
        get("a", 2, 3),
        get("b", 4, 5),
    ],
    "an unknown put undone": [
        put("a", 0, 1),
        put("b", 2),
        get("b", 3, 4),
        get("a", 5, 6),
    ],
    "read before it was put": [get("a", 0, 1), put("a", 2, 3)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_what_can_be_ordered_is_accepted(history: list[Operation]) -> None:
    for some in itertools.permutations(history):
        assert explain(some) is None


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_what_cannot_be_ordered_is_refused(history: list[Operation]) -> None:
    for some in itertools.permutations(history):
        said = explain(some)
        assert said is not None and "'k' is not linearizable" in said


def test_what_was_there_before_counts() -> None:
    assert explain([get("a", 0, 1)], first="a") is None
    assert explain([get(None, 0, 1)], first="a") is not None


def one_order(chance: random.Random, count: int) -> list[Operation]:
    """A history made from an order: each happens at a moment between its start and its end."""
    history: list[Operation] = []
    value: str | None = None
    for number in range(count):
        moment = number * 10 + 5
        start, end = moment - chance.randrange(1, 60), moment + chance.randrange(1, 60)
        kind = chance.choice(["put", "get", "get", "delete"])
        if kind == "put":
            value = f"v{number}"
            history.append(put(value, start, end))
        elif kind == "delete":
            value = None
            history.append(delete(start, end))
        else:
            history.append(get(value, start, end))
    chance.shuffle(history)
    return history


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_history_made_from_an_order_is_accepted(seed: int) -> None:
    assert explain(one_order(random.Random(seed), 60)) is None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32))
def test_the_answer_is_that_of_trying_every_order(seed: int) -> None:
    """Against the plain definition, on histories small enough for it."""
    chance = random.Random(seed)
    history = one_order(chance, 5)
    spoilt = chance.randrange(5)
    history[spoilt] = get(chance.choice(["v0", "v1", "v2", None]), *_span(history[spoilt]))
    assert (explain(history) is None) == any(map(_fits, itertools.permutations(history)))


def _span(operation: Operation) -> tuple[int, int]:
    return operation.start, operation.end


def _fits(order: tuple[Operation, ...]) -> bool:
    value: str | None = None
    for index, operation in enumerate(order):
        if any(later.end < operation.start for later in order[index + 1 :]):
            return False
        if operation.kind != "get":
            value = operation.value
        elif operation.value != value:
            return False
    return True


async def test_a_recorded_history_says_what_was_done() -> None:
    async with Trove(MemoryDriver()) as store:
        await store.create_bucket("bucket")
        history = await record(store, "bucket", ["a", "b"], 100, "me", 1)
    assert len(history) == 100
    assert {operation.kind for operation in history} == {"put", "get", "delete"}
    assert all(operation.start <= operation.end for operation in history)
    assert explain(history) is None
