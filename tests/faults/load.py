"""A mixed load by lot, which keeps a ledger of what it was told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from tests.faults.world import BUCKET, Ledger, State, Value, put, value
from trove_async._chunks import OneChunk
from trove_async.driver import BucketOptions, CopyOptions, DeleteOptions, PutOptions
from trove_async.drivers.local import LocalDriver
from trove_async.model import ObjectRef, PartInfo

SIZES = (0, 1, 100, 4096, 9000)


class Load:
    """``lanes`` tasks, each with keys of its own; ``steps`` operations in each."""

    def __init__(self, driver: LocalDriver, ledger: Ledger, seed: int, *, bucket: str = "bucket"):
        self.driver = driver
        self.ledger = ledger
        self.random = random.Random(seed)
        self.bucket = bucket
        self.count = seed * 10_000
        self.done = 0
        self.after_each: Callable[[], None] = lambda: None

    async def start(self) -> None:
        with self.ledger.flight({f"{self.bucket}/": BUCKET}):
            await self.driver.create_bucket(self.bucket, BucketOptions())

    async def run(self, lanes: int, steps: int) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in range(lanes):
                group.create_task(self._lane(lane, steps))

    async def _lane(self, lane: int, steps: int) -> None:
        keys = [f"l{lane}", f"d{lane}/x", f"d{lane}/e/y", f"n{lane}/z"]
        kinds: list[Callable[[list[str]], Coroutine[Any, Any, None]]] = [
            *(self.put, self.put, self.copy, self.move, self.delete),
            *(self.delete_many, self.retag, self.multipart, self.bucket_of_its_own),
        ]
        for _ in range(steps):
            await self.random.choice(kinds)([f"{self.bucket}/{key}" for key in keys])
            self.done += 1
            self.after_each()

    def _new(self) -> Value:
        self.count += 1
        tags = {"t": str(self.count)} if self.count % 3 == 0 else {}
        return value(self.count, self.random.choice(SIZES), **tags)

    def _held(self, keys: list[str]) -> str | None:
        held = [key for key in keys if key in self.ledger.acked]
        return self.random.choice(held) if held else None

    def _ref(self, name: str) -> ObjectRef:
        bucket, _, key = name.partition("/")
        return ObjectRef(bucket, key)

    async def put(self, keys: list[str]) -> None:
        name, new = self.random.choice(keys), self._new()
        with self.ledger.flight({name: new}):
            await put(self.driver, name, new)

    async def copy(self, keys: list[str]) -> None:
        source = self._held(keys)
        if source is None:
            return await self.put(keys)
        target = self.random.choice(keys)  # perhaps itself
        old = self.ledger.acked[source]
        new = replace(old, metadata=(("copied", str(self.count)),))
        self.count += 1
        options = CopyOptions(metadata=dict(new.metadata))
        with self.ledger.flight({target: new}):
            await self.driver.copy(self._ref(source), self._ref(target), options)

    async def move(self, keys: list[str]) -> None:
        source = self._held(keys)
        if source is None:
            return await self.put(keys)
        target = self.random.choice([key for key in keys if key != source])
        there = self.ledger.acked[source]
        both: State = {target: there}  # a move may be a copy first
        with self.ledger.flight({source: None, target: there}, both):
            await self.driver.move(self._ref(source), self._ref(target), CopyOptions())

    async def delete(self, keys: list[str]) -> None:
        name = self.random.choice(keys)
        bucket, _, key = name.partition("/")
        with self.ledger.flight({name: None}):
            await self.driver.delete(bucket, key, DeleteOptions())

    async def delete_many(self, keys: list[str]) -> None:
        first, second = self.random.sample(keys, 2)
        with self.ledger.flight({first: None, second: None}, {first: None}, {second: None}):
            gone = [name.partition("/")[2] for name in (first, second)]
            results = await self.driver.delete_many(self.bucket, gone)
            assert not any(result.error for result in results)

    async def retag(self, keys: list[str]) -> None:
        name = self._held(keys)
        if name is None:
            return await self.put(keys)
        bucket, _, key = name.partition("/")
        self.count += 1
        tags = {"t": str(self.count)}
        with self.ledger.flight({name: replace(self.ledger.acked[name], tags=tuple(tags.items()))}):
            await self.driver.set_tags(bucket, key, tags)

    async def multipart(self, keys: list[str]) -> None:
        name, new = self.random.choice(keys), self._new()
        bucket, _, key = name.partition("/")
        with self.ledger.flight({}):
            upload = await self.driver.initiate_multipart(bucket, key, new.options)
        parts: dict[int, PartInfo] = {}
        self.ledger.uploads[upload] = (key, parts)
        half = len(new.data) // 2
        for number, piece in ((1, b"again"), (1, new.data[:half]), (2, new.data[half:])):
            body = OneChunk(piece)
            parts[number] = await self.driver.upload_part(bucket, key, upload, number, body, None)
            self.after_each()
        if self.random.random() < 0.3:
            self.ledger.uploads.pop(upload)
            await self.driver.abort_multipart(bucket, key, upload)
            return
        with self.ledger.flight({name: new}):
            self.ledger.uploads.pop(upload)
            await self.driver.complete_multipart(
                bucket, key, upload, list(parts.values()), PutOptions()
            )

    async def bucket_of_its_own(self, keys: list[str]) -> None:
        self.count += 1
        name, new = f"own-{self.count}", self._new()
        with self.ledger.flight({f"{name}/": BUCKET}):
            await self.driver.create_bucket(name, BucketOptions())
        self.after_each()
        with self.ledger.flight({f"{name}/k": new}):
            await put(self.driver, f"{name}/k", new)
        with self.ledger.flight({f"{name}/k": None}):
            await self.driver.delete(name, "k", DeleteOptions())
        with self.ledger.flight({f"{name}/": None}):
            await self.driver.delete_bucket(name)
