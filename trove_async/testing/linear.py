"""Whether what several clients saw of one key could have happened in one order.

Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with the memo of Lowe,
"Testing for linearizability" (2017): a search for an order of the operations that keeps to
real time (what ended before another began comes first) and in which every get gives what
the last put left.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from trove_async import Trove
from trove_async.errors import ObjectNotFoundError

__all__ = ["FOREVER", "Operation", "explain", "record"]

FOREVER: Final = sys.maxsize
"""The end of an operation of which nobody knows whether it has happened, or ever will."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call as its client saw it. Times are of one monotonic clock, in nanoseconds."""

    key: str
    kind: Literal["put", "get", "delete"]
    value: str | None
    """What was put, or what was got; None: there was nothing, or it was deleted."""
    start: int
    end: int = FOREVER
    client: str = ""

    @property
    def is_certain(self) -> bool:
        return self.end != FOREVER

    def __str__(self) -> str:
        return f"{self.client} {self.kind} {self.value!r} [{self.start}, {self.end}]"


def explain(history: Iterable[Operation], first: str | None = None) -> str | None:
    """None when every key's part of ``history`` is linearizable, else what is wrong. Before it
    each key held ``first``."""
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key, operations in sorted(by_key.items()):
        operations.sort(key=lambda operation: operation.start)
        stuck = _search(operations, first)
        if stuck is not None:
            listed = "; ".join(str(operation) for operation in stuck[:6])
            return f"{key!r} is not linearizable; nothing can come next of: {listed}"
    return None


def _search(operations: Sequence[Operation], first: str | None) -> list[Operation] | None:
    """None when there is an order, else the operations left where the longest try ended."""
    certain = sum(1 << i for i, o in enumerate(operations) if o.is_certain)
    seen: set[tuple[int, str | None]] = set()
    todo: list[tuple[int, str | None]] = [(0, first)]  # (bits of what is placed, value then)
    deepest = 0
    while todo:
        placed, value = todo.pop()
        if placed & certain == certain:
            return None
        if (placed, value) in seen:
            continue
        seen.add((placed, value))
        if placed.bit_count() > deepest.bit_count():
            deepest = placed
        left = [i for i in range(len(operations)) if not placed >> i & 1]
        horizon = min(operations[i].end for i in left)
        for i in reversed(left):
            operation = operations[i]
            if operation.start > horizon:
                continue  # something that ended before it began is not placed yet
            if operation.kind != "get":
                todo.append((placed | 1 << i, operation.value))
            elif operation.value == value:
                todo.append((placed | 1 << i, value))
    return [o for i, o in enumerate(operations) if not deepest >> i & 1]


async def record(
    store: Trove, bucket: str, keys: Sequence[str], count: int, client: str, seed: int
) -> list[Operation]:
    """Does ``count`` random puts, gets and deletes and tells what was seen. AssertionError
    when a body and its metadata are not of one put."""
    chance = random.Random(seed)
    seen: list[Operation] = []
    for number in range(count):
        key = chance.choice(keys)
        kind = chance.choices(("put", "get", "delete"), (4, 5, 1))[0]
        start = time.monotonic_ns()
        if kind == "put":
            value: str | None = f"{client}.{number}"
            text = f"{value}".encode() * chance.choice((1, 1, 1000))
            await store.put(bucket, key, text, metadata={"value": f"{value}"})
            done = Operation(key, "put", value, start, time.monotonic_ns(), client)
        elif kind == "get":
            value = await _read(store, bucket, key)
            done = Operation(key, "get", value, start, time.monotonic_ns(), client)
        else:
            await store.delete(bucket, key)
            done = Operation(key, "delete", None, start, time.monotonic_ns(), client)
        seen.append(done)
        if chance.random() < 0.2:
            await asyncio.sleep(0)
    return seen


async def _read(store: Trove, bucket: str, key: str) -> str | None:
    try:
        async with store.get(bucket, key) as reader:
            body = await reader.read()
            value = reader.info.metadata["value"]
    except ObjectNotFoundError:
        return None
    wanted = value.encode()
    assert body == wanted * (len(body) // len(wanted)) and body, (
        f"{key!r}: the body {body[:40]!r} is not of the put that the metadata names: {value!r}"
    )
    return value
