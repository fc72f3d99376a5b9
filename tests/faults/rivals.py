"""Other processes on the same root: writers, and one that plays tricks with the files.

python -m tests.faults.rivals (write|create|swap|churn) ROOT NUMBER SECONDS
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.world import opener, put, value
from trove_async._chunks import OneChunk
from trove_async.driver import CopyOptions, DeleteOptions, PutOptions
from trove_async.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.model import ObjectRef

SIZES = (1, 800, 70_000)


async def write(root: Path, number: int, seconds: float) -> int:
    """Puts, copies, moves and deletes of one key and a second; every put is one of a kind."""
    chance = random.Random(number)
    done = 0
    driver = opener(root)
    await driver.open()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            done += 1
            there = value(number * 1_000_000 + done, chance.choice(SIZES))
            await put(driver, "bucket/shared/key", there)
            with suppress(ObjectNotFoundError, ObjectChangedError):
                match chance.randrange(8):
                    case 0:
                        await driver.delete("bucket", "shared/key", DeleteOptions())
                    case 1:
                        source = ObjectRef("bucket", "shared/key")
                        await driver.copy(source, ObjectRef("bucket", "second"), CopyOptions())
                    case 2:
                        source = ObjectRef("bucket", "second")
                        await driver.move(source, ObjectRef("bucket", "shared/key"), CopyOptions())
    finally:
        await driver.close()
    return done


async def create(root: Path, number: int, seconds: float) -> int:
    """Tries to be the first at each of a row of keys; prints those it won."""
    driver = opener(root)
    await driver.open()
    won = 0
    try:
        for at in range(150):
            with suppress(PreconditionFailedError):
                body = OneChunk(b"%d" % number)
                await driver.put("bucket", f"c/{at}", body, PutOptions(if_none_match="*"))
                print("won", at)
                won += 1
    finally:
        await driver.close()
    return won


def swap(root: Path, seconds: float) -> int:
    """Puts a link to a folder outside in the place of a folder, and back, as fast as it can."""
    swaps = 0
    until = time.monotonic() + seconds
    pairs = [(root / "bucket" / "dir", root.parent / "aside"), (root / "second", root.parent / "b")]
    outside = root.parent / "outside"
    while time.monotonic() < until:
        for place, aside in pairs:
            with suppress(OSError):  # the driver makes and prunes folders meanwhile
                os.rename(place, aside)
                os.symlink(outside, place)
                swaps += 1
            with suppress(OSError):
                os.unlink(place)
            with suppress(OSError):
                os.rename(aside, place)
    return swaps


def churn(root: Path, seconds: float) -> int:
    """Replaces, cuts short, removes and makes files as another program would."""
    turns = 0
    until = time.monotonic() + seconds
    bucket = root / "bucket"
    while time.monotonic() < until:
        turns += 1
        letter = b"abcdefgh"[turns % 8 : turns % 8 + 1]
        draft = root.parent / "draft"
        draft.write_bytes(letter * 700_000)
        os.rename(draft, bucket / "replaced")
        (bucket / "cut").write_bytes(letter * 500_000)
        os.truncate(bucket / "cut", 1000)
        folder = bucket / f"f{turns % 5}"
        folder.mkdir(exist_ok=True)
        (folder / "x").write_bytes(letter)
        if turns % 2:
            (folder / "x").unlink()
            folder.rmdir()
        with suppress(FileNotFoundError):
            (bucket / "gone").unlink()
        (bucket / "gone").write_bytes(letter * 10)
    return turns


def main() -> None:
    kind, where, number, seconds = sys.argv[1:]
    root = Path(where)
    match kind:
        case "write":
            done = asyncio.run(write(root, int(number), float(seconds)))
        case "create":
            done = asyncio.run(create(root, int(number), float(seconds)))
        case "swap":
            done = swap(root, float(seconds))
        case "churn":
            done = churn(root, float(seconds))
        case _:
            raise SystemExit(f"no such rival: {kind}")
    print("done", done)


if __name__ == "__main__":
    main()
