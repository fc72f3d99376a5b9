"""A process that stores, reads, releases and collects the same few contents as its siblings.

python -m tests.cas.cas_child TARGET CATALOG NAME SECONDS
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import suppress

import trove_async as trove
from tests.cas.contents import read, streamed
from trove_async import BlobNotFoundError, ConflictError
from trove_async.cas import chunking, writing

CONTENTS = [bytes([number]) * (50 + 300 * number) for number in range(6)]
CONTENTS.append(CONTENTS[4] + CONTENTS[5])  # has a chunk of the last one


async def main(target: str, catalog: str, name: str, duration: float) -> None:
    writing.SMALL = 500  # type: ignore[misc]  # so that some go through a temporary object
    for size, value in (("SMALLEST", 64), ("AVERAGE", 256), ("LARGEST", 1024), ("WINDOW", 1500)):
        setattr(chunking, size, value)
    chance = random.Random(name)
    counts = {"conflicts": 0, "stores": 0, "condemned": 0, "deleted": 0}
    until = time.monotonic() + duration
    async with trove.open(target, catalog=catalog, chunk_size=256) as store:
        cas, cutting = store.cas(), store.cas(chunking="fastcdc")

        async def working(owner: str) -> None:
            while time.monotonic() < until:
                data = chance.choice(CONTENTS)
                into = chance.choice((cas, cutting))
                try:
                    digest = (await into.store(streamed(data, 200), owner=owner)).digest
                except ConflictError:  # collected without a grace before this one's commit
                    counts["conflicts"] += 1
                    continue
                counts["stores"] += 1
                for _ in range(2):
                    assert await read(cas, digest) == data
                await cas.release(digest, owner=owner)
                with suppress(BlobNotFoundError):
                    assert await read(cas, digest) == data

        async def collecting() -> None:
            while time.monotonic() < until:
                result = await cas.gc(grace=0, settle=0, orphan_after=0)
                assert result.errors == [], result.errors
                counts["condemned"] += result.condemned
                counts["deleted"] += result.deleted

        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(working(f"{name}-{number}"))
            group.create_task(collecting())
    print(counts["conflicts"], counts["stores"], counts["condemned"], counts["deleted"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
