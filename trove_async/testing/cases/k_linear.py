"""K. Histories of several clients that must fit into one order of events."""

from __future__ import annotations

import asyncio

from trove_async.testing.case import case
from trove_async.testing.harness import Harness
from trove_async.testing.linear import Operation, explain, record
from trove_async.testing.second import in_second_process
from trove_async.testing.setups import place_of

KEYS = ["a", "b", "d/c"]


@case("K165", "two_processes_same_root", needs=["dsn"], stacks=False)
async def two_processes_same_root(h: Harness) -> None:
    """A hundred operations of another process, and ours meanwhile, per key in one order."""
    other = asyncio.create_task(
        in_second_process(
            {
                "do": "record",
                "dsn": h.dsn,
                "bucket": h.bucket,
                "keys": KEYS,
                "count": 100,
                "client": "second",
                "seed": 165,
            }
        )
    )
    history: list[Operation] = []
    rounds = 0
    while not other.done() or len(history) < 100:
        some = await record(h.store, h.bucket, KEYS, 10, f"first{rounds}", rounds)
        history += some
        rounds += 1
        await asyncio.sleep(0.005)
    answer = await other
    assert isinstance(answer, list)
    theirs = [Operation(**fields) for fields in answer]
    assert len(theirs) == 100
    assert min(o.start for o in theirs) < max(o.end for o in history), "they did not overlap"
    wrong = explain([*history, *theirs])
    assert wrong is None, wrong


@case("K166", "op_history_linearizable", params=["plain", "stepped"])
async def op_history_linearizable(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)
    parts = await asyncio.gather(
        *(record(place.store, place.bucket, KEYS, 50, f"task{n}", 166 + n) for n in range(4))
    )
    wrong = explain([operation for part in parts for operation in part])
    assert wrong is None, wrong
