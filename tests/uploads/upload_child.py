"""Uploads a file resumably in a process of its own, which ends itself by SIGKILL at the step
it is told. A step: a chunk of a part taken by the driver, a part acknowledged by the driver,
a part acknowledged by the catalog.

    upload_child.py root source part_size plain|sealed step log
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
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.middleware import Compress, Encrypt, Keyring

KEYS = {"k": bytes(range(32))}


class Steps:
    def __init__(self, at: int, log: str) -> None:
        self.at = at
        self.count = 0
        self.log = log

    def tick(self, what: str) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, line: str) -> None:
        with open(self.log, "a") as file:
            file.write(line + "\n")


class Killed(LocalDriver):
    def __init__(self, root: str, steps: Steps) -> None:
        super().__init__(LocalConfig(root))
        self.steps = steps

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        async def watched() -> AsyncIterator[bytes]:
            async for chunk in body:
                self.steps.tick("chunk")
                yield bytes(chunk)

        chunks: Any = watched()
        try:
            self.steps.note(f"sent {upload_id} {number}")
            part = await super().upload_part(bucket, key, upload_id, number, chunks, size)
        finally:
            await chunks.aclose()
        self.steps.tick("part")
        return part


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
    root, source, part_size, kind, at, log = sys.argv[1:]
    steps = Steps(int(at), log)
    driver = Killed(root, steps)
    catalog = KilledCatalog.at(driver.catalog_path)
    assert isinstance(catalog, KilledCatalog)
    catalog.steps = steps
    async with trove.open(driver, middleware=layers(kind), catalog=catalog) as store:
        await store.upload("bucket", "key", Path(source), resumable=True, part_size=int(part_size))
    await catalog.close()
    steps.note(f"steps {steps.count}")


if __name__ == "__main__":
    asyncio.run(main())
