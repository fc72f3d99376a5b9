"""Parts that fail side by side: one error is raised, and none is left for the loop to find."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.uploads.ledger import sample
from trove_async import Chunks, PartInfo
from trove_async.drivers.memory import MemoryDriver

KiB = 1024


class Broken(MemoryDriver):
    """Holds ``count`` parts back and fails all of them in one turn of the loop."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.waiting = 0
        self.count = count
        self.all_there = asyncio.Event()

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        self.waiting += 1
        if self.waiting == self.count:
            self.all_there.set()
        await self.all_there.wait()
        raise OSError(f"part {number}")


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
async def test_no_error_of_a_sibling_is_left_to_the_loop(tmp_path: Path, end: str) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    source = tmp_path / "source"
    source.write_bytes(sample(256 * KiB))
    driver = Broken(4 if end == "fails" else 5)
    async with trove.open(driver) as store:
        await store.create_bucket("bucket")
        upload = asyncio.create_task(
            store.upload("bucket", "k", source, resumable=True, part_size=64 * KiB, concurrency=4)
        )
        if end == "fails":
            with pytest.raises(OSError, match="part "):
                await upload
        else:
            while driver.waiting < 4:  # noqa: ASYNC110 -- the driver has no event for it
                await asyncio.sleep(0.001)
            driver.all_there.set()  # they fail in the turn in which the upload is cancelled
            upload.cancel()
            await asyncio.wait([upload])
        del upload
    for _ in range(3):
        await asyncio.sleep(0)
        gc.collect()
    assert told == []
