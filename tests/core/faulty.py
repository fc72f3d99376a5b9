"""A driver around another one that counts its requests and fails where it is told."""

from __future__ import annotations

import asyncio
import builtins
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tests.chunking import rechunk
from trove_async import (
    BucketInfo,
    BucketOptions,
    Chunks,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    ListOptions,
    ObjectInfo,
    ObjectPage,
    ObjectRef,
    PutOptions,
    RawObject,
    UnavailableError,
)
from trove_async.drivers.memory import MemoryDriver

Bytes = bytes | bytearray | memoryview
STOPS = ("break", "short", "hang")


@dataclass(slots=True)
class Fault:
    """``error`` None: the request never ends. ``after``: it was carried out, the answer is lost."""

    error: BaseException | None
    after: bool = False
    meanwhile: Callable[[], object] | None = None
    """Called when the fault strikes; what it returns is awaited."""

    async def strike(self) -> None:
        if self.meanwhile is not None:
            result = self.meanwhile()
            if asyncio.iscoroutine(result):
                await result
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error


@dataclass(slots=True)
class BodyFault:
    """What becomes of one opened body once it has given ``after`` bytes."""

    after: int
    kind: str = "break"
    """break, short, hang, corrupt (the byte there), extra (one byte too many)."""
    meanwhile: Callable[[], object] | None = None


class WatchedBody:
    """A body in small chunks that counts how often it was closed."""

    def __init__(self, chunks: Chunks, size: int, fault: BodyFault | None) -> None:
        self._source = chunks
        self._chunks = rechunk(chunks, size)
        self._fault = fault
        self._given = 0
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        fault = self._fault
        if fault is not None and self._given >= fault.after and fault.kind in STOPS:
            self._fault = None
            if fault.meanwhile is not None:
                result = fault.meanwhile()
                if asyncio.iscoroutine(result):
                    await result
            if fault.kind == "hang":
                await asyncio.Event().wait()
            if fault.kind == "short":
                await self._chunks.aclose()
                raise StopAsyncIteration
            if fault.kind == "break":
                raise UnavailableError("the connection broke")
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if fault is not None and fault.kind == "extra":
                self._fault = None
                return b"!"
            raise
        if fault is not None and fault.kind in STOPS:
            chunk = chunk[: fault.after - self._given]
        elif fault is not None and fault.kind == "corrupt":
            place = fault.after - self._given
            if 0 <= place < len(chunk):
                changed = bytearray(chunk)
                changed[place] ^= 0xFF
                chunk = bytes(changed)
        self._given += len(chunk)
        return chunk

    async def aclose(self) -> None:
        self.closed += 1
        await self._chunks.aclose()
        await self._source.aclose()


class Faulty:
    """Only the contract: capabilities of the driver inside are hidden (no ``inner``)."""

    name = "faulty"

    def __init__(
        self,
        driver: Driver | None = None,
        *,
        chunk: int = 1000,
        features: Features | None = None,
    ) -> None:
        self.driver = driver if driver is not None else MemoryDriver()
        self.features = self.driver.features if features is None else features
        self.chunk = chunk
        self.calls: list[tuple[str, str, object]] = []
        """(verb, key, options) of every request, in order."""
        self.bodies: list[WatchedBody] = []
        self.opened = 0
        self.closed = 0
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._body_faults: deque[BodyFault] = deque()

    # -- what to do wrong ------------------------------------------------------------------

    def fail(self, verb: str, error: BaseException, *, times: int = 1, after: bool = False) -> None:
        for _ in range(times):
            self._faults[verb].append(Fault(error, after))

    def lose(self, verb: str, meanwhile: Callable[[], object] | None = None) -> None:
        """The next such request is carried out, its answer is lost."""
        self._faults[verb].append(Fault(UnavailableError("the answer is lost"), True, meanwhile))

    def hang(self, verb: str) -> None:
        self._faults[verb].append(Fault(None))

    def body(
        self, after: int, kind: str = "break", meanwhile: Callable[[], object] | None = None
    ) -> None:
        """The next opened body fails so."""
        self._body_faults.append(BodyFault(after, kind, meanwhile))

    def asked(self, verb: str) -> list[object]:
        return [options for name, _, options in self.calls if name == verb]

    def verbs(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def forget(self) -> None:
        self.calls.clear()
        self.bodies.clear()

    @property
    def unclosed(self) -> int:
        return sum(not body.closed for body in self.bodies)

    async def _meet(self, verb: str, key: str, options: object) -> Fault | None:
        self.calls.append((verb, key, options))
        fault = self._faults[verb].popleft() if self._faults[verb] else None
        if fault is not None and not fault.after:
            await fault.strike()
        return fault

    async def _leave(self, fault: Fault | None) -> None:
        if fault is not None:
            await fault.strike()

    # -- the contract ----------------------------------------------------------------------

    async def open(self) -> None:
        await self._meet("open", "", None)
        self.opened += 1
        await self.driver.open()

    async def close(self) -> None:
        self.closed += 1
        await self.driver.close()
        await self._meet("close", "", None)

    async def ping(self) -> None:
        await self._meet("ping", "", None)
        await self.driver.ping()

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        fault = await self._meet("put", key, options)
        info = await self.driver.put(bucket, key, body, options)
        await self._leave(fault)
        return info

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        fault = await self._meet("get", key, options)
        raw = await self.driver.get(bucket, key, options)
        await self._leave(fault)
        body = WatchedBody(
            raw.body, self.chunk, self._body_faults.popleft() if self._body_faults else None
        )
        self.bodies.append(body)
        return RawObject(raw.info, body, raw.start, raw.stop)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        fault = await self._meet("head", key, options)
        info = await self.driver.head(bucket, key, options)
        await self._leave(fault)
        return info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        fault = await self._meet("delete", key, options)
        await self.driver.delete(bucket, key, options)
        await self._leave(fault)

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        fault = await self._meet("list", "", options)
        page = await self.driver.list(bucket, options)
        await self._leave(fault)
        return page

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        fault = await self._meet("copy", source.key, options)
        info = await self.driver.copy(source, target, options)
        await self._leave(fault)
        return info

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        fault = await self._meet("create_bucket", name, options)
        await self.driver.create_bucket(name, options)
        await self._leave(fault)

    async def delete_bucket(self, name: str) -> None:
        fault = await self._meet("delete_bucket", name, None)
        await self.driver.delete_bucket(name)
        await self._leave(fault)

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        fault = await self._meet("list_buckets", "", None)
        found = await self.driver.list_buckets()
        await self._leave(fault)
        return found
