"""A second process on the same storage: ``python -m trove_async.testing.second`` reads one
JSON order from its input and writes one JSON answer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import trove_async
from trove_async.config import RetryPolicy
from trove_async.testing.linear import record

__all__ = ["in_second_process"]

_PATIENCE = 50.0


async def _obeyed(order: dict[str, Any]) -> object:
    async with trove_async.open(order["dsn"], retry=RetryPolicy(attempts=1)) as store:
        bucket = order["bucket"]
        if order["do"] == "record":
            history = await record(
                store, bucket, order["keys"], order["count"], order["client"], order["seed"]
            )
            return [asdict(operation) for operation in history]
        found = await store.get_bytes(bucket, order["read"])
        await store.put(bucket, order["write"], found[::-1])
        return {"read": found.decode("latin-1")}


def _start(order: Mapping[str, object]) -> object:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", "trove_async.testing.second"],
        input=json.dumps(order).encode(),
        capture_output=True,
        timeout=_PATIENCE,
        env=environment,
        check=False,
    )
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise AssertionError(f"the second process failed: {told[-1] if told else 'silently'}")
    answer: object = json.loads(done.stdout)
    return answer


async def in_second_process(order: Mapping[str, object]) -> object:
    """The answer; AssertionError with the last line it said when it failed."""
    return await asyncio.to_thread(_start, order)


if __name__ == "__main__":
    answer = asyncio.run(_obeyed(json.load(sys.stdin)))
    sys.stdout.write(json.dumps(answer))
