"""Any verbs in any order, against a dict."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.middleware.dedup.worlds import BUCKET, LAYERS, World, world
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import ObjectNotFoundError

KEYS = st.sampled_from(["a", "b", "c/d"])
BODIES = st.sampled_from([b"", b"x", b"one" * 100, b"two" * 400])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, BODIES),
        st.tuples(st.sampled_from(["copy", "move"]), KEYS, KEYS),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("delete_many"), KEYS, KEYS),
        st.tuples(st.just("gc"), st.none(), st.none()),
    ),
    max_size=25,
)


async def _apply(w: World, model: dict[str, bytes], verb: str, first: str, second: object) -> None:
    if verb == "put":
        assert isinstance(second, bytes)
        await w.store.put(BUCKET, first, second)
        model[first] = second
    elif verb == "delete":
        await w.store.delete(BUCKET, first)
        model.pop(first, None)
    elif verb == "delete_many":
        assert isinstance(second, str)
        await w.store.delete_many(BUCKET, [first, second])
        model.pop(first, None)
        model.pop(second, None)
    elif verb == "gc":
        await w.cas.gc(grace=0, settle=0)
    else:
        assert isinstance(second, str)
        transfer = w.store.copy if verb == "copy" else w.store.move
        if first not in model:
            with pytest.raises(ObjectNotFoundError):
                await transfer(BUCKET, first, BUCKET, second)
            return
        await transfer(BUCKET, first, BUCKET, second)
        model[second] = model[first]
        if verb == "move" and first != second:
            del model[first]


async def _run(layers: str, steps: list[tuple[str, str, object]]) -> None:
    async with world(MemoryDriver(history=0), layers=layers) as w:
        model: dict[str, bytes] = {}
        for verb, first, second in steps:
            await _apply(w, model, verb, first, second)
        assert await w.check({key: [body] for key, body in model.items()}) == 0
        counts: dict[bytes, int] = {}
        for body in model.values():
            counts[body] = counts.get(body, 0) + 1
        assert sorted((await w.blobs()).values()) == sorted(counts.values())


@pytest.mark.parametrize("layers", LAYERS)
@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_a_store_is_a_dict_and_counts_are_exact(
    layers: str, steps: list[tuple[str, str, object]]
) -> None:
    asyncio.run(_run(layers, steps))
