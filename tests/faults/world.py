"""What was acknowledged, what is under way, and what a fresh driver finds of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trove_async._chunks import OneChunk, collect
from trove_async.driver import GetOptions, HeadOptions, ListOptions, PutOptions
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.model import ObjectInfo, PartInfo

Place = Literal["auto", "xattr", "sidecar"]


@dataclass(frozen=True, slots=True)
class Value:
    """Body and everything recorded with it; two of different puts are never equal."""

    data: bytes
    metadata: tuple[tuple[str, str], ...] = ()
    content_type: str = "text/plain"
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def options(self) -> PutOptions:
        return PutOptions(
            content_type=self.content_type, metadata=dict(self.metadata), tags=dict(self.tags)
        )

    def __repr__(self) -> str:
        return f"<{len(self.data)} bytes {self.data[:12]!r}, {dict(self.metadata)}>"


BUCKET = Value(b"", (("is", "a bucket"),))
State = Mapping[str, Value | None]
"""``bucket/key`` -> what is there, ``bucket/`` -> `BUCKET`; None: nothing."""


def value(number: int, size: int = 100, **tags: str) -> Value:
    head = f"<{number}>".encode()
    return Value(
        (head + bytes(range(1, 200)) * (size // 199 + 1))[: max(size, len(head))],
        (("number", str(number)), ("text", "ü" * (number % 40))),
        f"text/x-{number}",
        tuple(tags.items()),
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be there, and of each operation under way the states it may leave."""

    acked: Mapping[str, Value]
    flights: tuple[tuple[State, ...], ...] = ()
    parts: tuple[tuple[str, str, frozenset[int]], ...] = ()
    """Key, upload and the numbers of its acknowledged parts."""

    async def check_parts(self, driver: LocalDriver, bucket: str) -> None:
        for key, upload, numbers in self.parts:
            listed = {part.number for part in await driver.list_parts(bucket, key, upload)}
            assert numbers <= listed, f"acknowledged parts are lost: {numbers - listed}"

    def check(self, found: Mapping[str, Value]) -> None:
        moving = {key for flight in self.flights for state in flight for key in state}
        for key in self.acked.keys() | found.keys():
            if key not in moving:
                assert found.get(key) == self.acked.get(key), f"{key}: lost or changed"
        for flight in self.flights:
            seen = {key: found.get(key) for state in flight for key in state}
            assert any(
                all(seen[key] == wanted for key, wanted in state.items()) for state in flight
            ), f"neither old nor new: {seen}"


@dataclass
class Ledger:
    """Kept by whoever runs the operations, read from any thread."""

    acked: dict[str, Value] = field(default_factory=dict)
    flights: list[tuple[State, ...]] = field(default_factory=list)
    uploads: dict[str, tuple[str, dict[int, PartInfo]]] = field(default_factory=dict)
    """Upload -> its key and its parts, all acknowledged."""
    guard: threading.Lock = field(default_factory=threading.Lock)
    version: int = 0

    def now(self) -> Expected:
        with self.guard:
            parts = [(key, u, frozenset(held)) for u, (key, held) in self.uploads.items()]
            return Expected(dict(self.acked), tuple(self.flights), tuple(parts))

    @contextmanager
    def flight(self, after: State, *others: State) -> Generator[None, None, None]:
        """While it lasts, the old state, ``after`` or one of ``others`` may be there; after it
        only ``after``."""
        keys = {key for state in (after, *others) for key in state}
        with self.guard:
            before: State = {key: self.acked.get(key) for key in keys}
            states = (before, {**before, **after}, *({**before, **other} for other in others))
            self.flights.append(states)
            self.version += 1
        yield
        with self.guard:
            self.flights.remove(states)
            self.version += 1
            for key, there in after.items():
                if there is None:
                    self.acked.pop(key, None)
                else:
                    self.acked[key] = there


def opener(root: Path, place: Place = "auto") -> LocalDriver:
    return LocalDriver(LocalConfig(root, durability="none", metadata=place))


async def all_keys(driver: LocalDriver, bucket: str) -> list[ObjectInfo]:
    found: list[ObjectInfo] = []
    cursor: str | None = None
    while True:
        page = await driver.list(bucket, ListOptions(cursor=cursor))
        found += page.objects
        cursor = page.cursor
        if cursor is None:
            return found


async def value_of(driver: LocalDriver, bucket: str, listed: ObjectInfo) -> Value:
    """What a reader sees; list, head and get must agree."""
    raw = await driver.get(bucket, listed.key, GetOptions())
    try:
        data = await collect(raw.body)
    finally:
        await raw.body.aclose()
    known = await driver.head(bucket, listed.key, HeadOptions())
    assert known == raw.info == listed, f"{listed.key}: list, head and get differ"
    assert len(data) == known.size
    tags = await driver.get_tags(bucket, listed.key)
    return Value(
        data, tuple(known.metadata.items()), known.content_type, tuple(sorted(tags.items()))
    )


async def observe(driver: LocalDriver) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for bucket in await driver.list_buckets():
        found[f"{bucket.name}/"] = BUCKET
        for info in await all_keys(driver, bucket.name):
            found[f"{bucket.name}/{info.key}"] = await value_of(driver, bucket.name, info)
    return found


async def found_at(
    root: Path, place: Place = "auto", expected: Expected | None = None
) -> dict[str, Value]:
    """What a fresh driver finds, after its recovery, which must leave nothing behind."""
    driver = opener(root, place)
    await driver.open()
    try:
        found = await observe(driver)
        if expected is not None:
            expected.check(found)
            await expected.check_parts(driver, "bucket")
        own = os.listdir(root / ".trove" / "tmp")
        assert len(own) == 1, f"rooms of the dead are left: {own}"
    finally:
        await driver.close()
    assert os.listdir(root / ".trove" / "tmp") == [], "staging is left"
    return found


async def put(driver: LocalDriver, name: str, there: Value) -> ObjectInfo:
    bucket, _, key = name.partition("/")
    return await driver.put(bucket, key, OneChunk(there.data), there.options)


async def put_all(driver: LocalDriver, values: Mapping[str, Value]) -> None:
    for name, there in values.items():
        await put(driver, name, there)


def sidecars(root: Path) -> list[str]:
    home = root / ".trove" / "meta"
    return [str(path) for path in home.rglob("*") if path.is_file()] if home.exists() else []


def temporary(root: Path) -> list[str]:
    """Staged files, whoever they belong to."""
    rooms = root / ".trove" / "tmp"
    return [str(p) for room in rooms.iterdir() for p in room.iterdir() if p.name != "lock"]


def scratch_base() -> str | None:
    """Memory where there is some: the trees are many and small."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
