"""Jobs side by side: order, the first error with its cause, nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from trove_async import BackendError
from trove_async._together import both, side_by_side


async def fails(_: object = None) -> int:
    await asyncio.sleep(0)
    raise BackendError("failed") from OSError("why")


async def test_results_are_in_order() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.001 * (5 - number))
        return number * 2

    assert await side_by_side(range(5), work, 3) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("count", [1, 2, 20])
async def test_the_first_error_keeps_its_cause(count: int) -> None:
    with pytest.raises(BackendError) as caught:
        await side_by_side(range(count), fails, 4)
    assert isinstance(caught.value.__cause__, OSError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_one_of_two_keeps_its_cause_and_ends_the_other() -> None:
    async def waits() -> int:
        await asyncio.Event().wait()
        return 0

    with pytest.raises(BackendError) as caught:
        await both(waits, fails)
    assert isinstance(caught.value.__cause__, OSError)
    assert asyncio.all_tasks() == {asyncio.current_task()}
