"""Uploads a file resumably in a process of its own, which ends itself by SIGKILL at the step
it is told. A step: a chunk of a part taken by the driver, a part acknowledged by the driver,
a part acknowledged by the catalog.

    upload_child.py target source part_size plain|sealed step log [bucket catalog]

``target``: a connection string. Step 0 is never.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trove_async as trove
from trove_async import Chunks, PartInfo
from trove_async.catalog import SQLCatalog
from trove_async.driver.registry import driver_for
from trove_async.middleware import Compress, Encrypt, Keyring

KEYS = {"k": bytes(range(32))}


class Steps:
    def __init__(self, at: int, log: str) -> None:
        self.at = at
        self.count = 0
        self.log = log

    def tick(self, what: str) -> None:
        self.count += 1
        if not self.at:
            self.note(f"step {self.count} {what}")
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, line: str) -> None:
        with open(self.log, "a") as file:
            file.write(line + "\n")


def watched(driver: Any, steps: Steps) -> None:
    real = driver.upload_part

    async def upload_part(
        bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        async def ticking() -> AsyncIterator[bytes]:
            async for chunk in body:
                steps.tick("chunk")
                yield bytes(chunk)

        chunks: Any = ticking()
        try:
            steps.note(f"sent {upload_id} {number}")
            part: PartInfo = await real(bucket, key, upload_id, number, chunks, size)
        finally:
            await chunks.aclose()
        steps.tick("part")
        return part

    driver.upload_part = upload_part


class KilledCatalog(SQLCatalog):
    steps: Steps

    async def keep_part(self, *args: Any) -> None:
        await super().keep_part(*args)
        self.steps.tick("kept")


def layers(kind: str) -> list[Any]:
    if kind == "plain":
        return []
    return [Compress(), Encrypt(Keyring(KEYS, active="k"))]


async def main() -> None:
    target, source, part_size, kind, at, log, *more = sys.argv[1:]
    bucket, path = more or ["bucket", ""]
    steps = Steps(int(at), log)
    driver: Any = driver_for(target)[0]
    watched(driver, steps)
    catalog = KilledCatalog.at(path or driver.catalog_path)
    assert isinstance(catalog, KilledCatalog)
    catalog.steps = steps
    async with trove.open(driver, middleware=layers(kind), catalog=catalog) as store:
        await store.upload(
            *(bucket, "key", Path(source)),
            resumable=True,
            part_size=int(part_size),
            concurrency=1,
        )
    await catalog.close()
    steps.note(f"steps {steps.count}")


if __name__ == "__main__":
    asyncio.run(main())
