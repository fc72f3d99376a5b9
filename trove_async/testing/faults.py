"""Broken backends and awkward bodies, on order.

`FaultyDriver` stands before any driver and does what its faults say; everything else goes
through unchanged. `Source` is a body that is slow, breaks, or counts how often it was closed.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from trove_async.driver import (
    BucketOptions,
    Bytes,
    Chunks,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
    RawObject,
)
from trove_async.model import BucketInfo, ObjectInfo, ObjectPage, ObjectRef

__all__ = [
    "BodyFault",
    "Fault",
    "FaultyDriver",
    "Source",
    "broken",
    "cancelling",
    "corrupt",
    "fail",
    "hang",
    "short",
    "slow",
    "stalled",
]

T = TypeVar("T")
Error = BaseException | Callable[[], BaseException]


@dataclass(frozen=True, slots=True)
class BodyFault:
    """What happens to the body of a get at byte ``at``, counted from its first."""

    at: int
    error: Error | None = None
    """Raised there."""
    end: bool = False
    """It ends there, as if that were all."""
    flip: bool = False
    """That byte has its lowest bit turned."""
    stall: bool = False
    """Nothing comes any more."""


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong; used up after ``times`` calls."""

    verb: str | None = None
    """Which method; None: any."""
    error: Error | None = None
    after: bool = False
    """The backend has done it, only the answer is lost."""
    delay: float = 0.0
    """Seconds before the call."""
    hang: bool = False
    cancel: bool = False
    """The call cancels the task it runs in."""
    body: BodyFault | None = None
    times: int | None = 1
    """How many calls; None: for ever."""
    skip: int = 0
    """Calls that go well first."""
    key: str | None = None
    """Only calls for this key."""


def fail(
    verb: str | None,
    error: Error,
    *,
    times: int | None = 1,
    after: bool = False,
    skip: int = 0,
    key: str | None = None,
) -> Fault:
    return Fault(verb, error, after=after, times=times, skip=skip, key=key)


def slow(verb: str | None, seconds: float, *, times: int | None = None) -> Fault:
    return Fault(verb, delay=seconds, times=times)


def hang(verb: str | None, *, times: int | None = None, after: bool = False) -> Fault:
    """The call never ends by itself."""
    return Fault(verb, hang=True, after=after, times=times)


def cancelling(verb: str | None, *, times: int | None = 1, after: bool = False) -> Fault:
    return Fault(verb, cancel=True, after=after, times=times)


def short(at: int, *, times: int | None = 1, verb: str = "get") -> Fault:
    """A body that ends too early, as a connection closed cleanly would."""
    return Fault(verb, body=BodyFault(at, end=True), times=times)


def broken(at: int, error: Error, *, times: int | None = 1, verb: str = "get") -> Fault:
    return Fault(verb, body=BodyFault(at, error=error), times=times)


def corrupt(at: int, *, times: int | None = 1, verb: str = "get") -> Fault:
    return Fault(verb, body=BodyFault(at, flip=True), times=times)


def stalled(at: int, *, times: int | None = None, verb: str = "get") -> Fault:
    return Fault(verb, body=BodyFault(at, stall=True), times=times)


def _made(error: Error) -> BaseException:
    return error if isinstance(error, BaseException) else error()


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


class _FaultyBody:
    """The chunks of a get, up to the byte where it goes wrong."""

    def __init__(self, chunks: Chunks, fault: BodyFault | None, yields: bool) -> None:
        self._chunks = chunks
        self._fault = fault
        self._yields = yields
        self._position = 0

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        fault = self._fault
        if fault is not None and self._position >= fault.at and not fault.flip:
            await self._break(fault)
        if self._yields:
            await asyncio.sleep(0)
        chunk = await self._chunks.__anext__()
        start, self._position = self._position, self._position + len(chunk)
        if fault is None or self._position <= fault.at:
            return chunk
        cut = fault.at - start
        if fault.flip:
            if cut < 0:
                return chunk
            changed = bytearray(chunk)
            changed[cut] ^= 1
            return bytes(changed)
        self._position = fault.at
        if cut:
            return bytes(chunk[:cut])
        await self._break(fault)
        raise AssertionError("unreachable")

    async def _break(self, fault: BodyFault) -> None:
        if fault.stall:
            await _for_ever()
        if fault.error is not None:
            raise _made(fault.error)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._chunks.aclose()


class FaultyDriver:
    """``inner`` with faults. Capabilities are found behind it and have none, but for those a
    subclass spells out: see `trove_async.testing.faulty`.

    ``yields``: gives control to the loop before and after every call and before every chunk,
    so that a cancel can be felt there."""

    def __init__(self, inner: Driver, *faults: Fault, yields: bool = False) -> None:
        self.inner = inner
        self.faults = [*faults]
        self.yields = yields
        self.calls: builtins.list[tuple[str, str]] = []
        """(verb, key or bucket) of every call, in order."""

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def features(self) -> Features:
        return self.inner.features

    def count(self, verb: str) -> int:
        return sum(1 for name, _ in self.calls if name == verb)

    def add(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def _next(self, verb: str, key: str) -> Fault | None:
        self.calls.append((verb, key))
        for fault in self.faults:
            if fault.verb not in (None, verb) or fault.key not in (None, key):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is None:
                return fault
            if fault.times:
                fault.times -= 1
                return fault
        return None

    async def _call(
        self,
        verb: str,
        key: str,
        call: Callable[[], Coroutine[Any, Any, T]],
        undo: Callable[[T], Awaitable[None]] | None = None,
        fault: Fault | None = None,
    ) -> T:
        fault = fault or self._next(verb, key)
        if self.yields:
            await asyncio.sleep(0)
        if fault is not None and not fault.after:
            await self._suffer(fault)
        result = await call()
        try:
            if self.yields:
                await asyncio.sleep(0)
            if fault is not None and fault.after:
                await self._suffer(fault)
        except BaseException:
            if undo is not None:
                await undo(result)  # nobody will get it
            raise
        return result

    async def _suffer(self, fault: Fault) -> None:
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.cancel:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        if fault.hang:
            await _for_ever()
        if fault.error is not None:
            raise _made(fault.error)

    async def _opened(
        self, verb: str, key: str, call: Callable[[], Coroutine[Any, Any, RawObject]]
    ) -> RawObject:
        """A call that gives a body; what becomes of the body is in the fault as well."""
        fault = self._next(verb, key)

        async def closed(found: RawObject) -> None:
            await found.body.aclose()

        found = await self._call(verb, key, call, closed, fault or Fault())
        body_fault = fault.body if fault is not None else None
        if body_fault is not None or self.yields:
            body = _FaultyBody(found.body, body_fault, self.yields)
            return RawObject(found.info, body, found.start, found.stop)
        return found

    # -- the contract --------------------------------------------------------------------

    async def open(self) -> None:
        await self._call("open", "", self.inner.open)

    async def close(self) -> None:
        await self._call("close", "", self.inner.close)

    async def ping(self) -> None:
        await self._call("ping", "", self.inner.ping)

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        return await self._call("put", key, lambda: self.inner.put(bucket, key, body, options))

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        return await self._opened("get", key, lambda: self.inner.get(bucket, key, options))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        return await self._call("head", key, lambda: self.inner.head(bucket, key, options))

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        await self._call("delete", key, lambda: self.inner.delete(bucket, key, options))

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        return await self._call("list", bucket, lambda: self.inner.list(bucket, options))

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        return await self._call(
            "copy", source.key, lambda: self.inner.copy(source, target, options)
        )

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        await self._call("create_bucket", name, lambda: self.inner.create_bucket(name, options))

    async def delete_bucket(self, name: str) -> None:
        await self._call("delete_bucket", name, lambda: self.inner.delete_bucket(name))

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        return await self._call("list_buckets", "", self.inner.list_buckets)


class Source:
    """A body of ``data`` in chunks of ``size``, as an async iterator that keeps count."""

    def __init__(
        self,
        data: bytes,
        size: int = 64 * 1024,
        *,
        delay: float | None = None,
        error: Error | None = None,
        fail_at: int | None = None,
        gate: asyncio.Event | None = None,
        gate_at: int = 1,
    ) -> None:
        self._data = memoryview(data)
        self._size = size
        self._delay = delay
        self._error = error
        self._fail_at = fail_at
        self._gate = gate
        self._gate_at = gate_at
        self._position = 0
        self.given = 0
        """Chunks so far."""
        self.closed = 0
        """How often `aclose` was called."""
        self.waiting = asyncio.Event()
        """Set when the gate has been reached."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._delay is not None:
            await asyncio.sleep(self._delay)
        if self._gate is not None and self.given == self._gate_at:
            self.waiting.set()
            await self._gate.wait()
        if self._error is not None and self.given == (self._fail_at or 0):
            raise _made(self._error)
        if self._position >= len(self._data):
            if self._error is not None:
                raise _made(self._error)
            raise StopAsyncIteration
        chunk = bytes(self._data[self._position : self._position + self._size])
        self._position += len(chunk)
        self.given += 1
        return chunk

    async def aclose(self) -> None:
        self.closed += 1
