"""What a case holds in its hands, and how one case is run.

Every case has its own event loop, driver, store and bucket. After a case has passed the
invariants are checked on it too: every error that came out of the driver is in the family,
and no task, thread, descriptor or unclosed resource is left.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import secrets
import sys
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypedDict, TypeVar, Unpack

from trove_async import Trove
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver import BucketOptions, Driver, Features, capability
from trove_async.errors import TroveError
from trove_async.middleware.base import Interceptor, Middleware
from trove_async.model import ObjectInfo
from trove_async.testing.case import Absent, Case, Deliberate, DeliberateExit, Result, drop
from trove_async.testing.explaining import short_comparisons
from trove_async.testing.leaks import Baseline
from trove_async.testing.needs import unmet
from trove_async.testing.watched import ErrorLog, unwatch, watch_errors

__all__ = ["BARE", "Harness", "Raised", "Stack", "StoreOptions", "run_case"]

C = TypeVar("C")
DriverFactory = Callable[[], Driver]
_ONE_TRY = RetryPolicy(attempts=1)


@dataclass(frozen=True, slots=True)
class Stack:
    """Transforms that every store of a run is opened with."""

    name: str
    make: Callable[[], Sequence[Middleware]]
    keeps_bodies: bool = True
    """The driver holds the bodies, in whatever form; else something that stands for them."""


BARE = Stack("bare", list)


class StoreOptions(TypedDict, total=False):
    """What cases vary of `trove_async.open`."""

    middleware: Sequence[Middleware]
    interceptors: Sequence[Interceptor]
    default_bucket: str | None
    checksum: Literal["blake3", "sha256", "xxh3"] | None
    chunk_size: int
    retry: RetryPolicy
    timeouts: Timeouts


@dataclass(slots=True)
class Raised:
    """Filled when the block of `Harness.raises` has ended."""

    error: BaseException = field(default_factory=RuntimeError)


class Harness:
    """``store`` goes through the front door with the run's transforms and without retries;
    ``driver`` is the opened driver below it."""

    def __init__(self, factory: DriverFactory, stack: Stack = BARE) -> None:
        self.factory = factory
        self.stack = stack
        self.log = ErrorLog()
        self.expected: list[type[BaseException]] = [Deliberate, DeliberateExit]
        self.permitted_warnings: list[type[Warning]] = []
        self.bucket = ""
        self._driver: Driver | None = None
        self._store: Trove | None = None
        self._stores: list[Trove] = []
        self._drivers: list[Driver] = []
        self._buckets: list[tuple[Trove, str]] = []
        self._ends: list[Callable[[], object]] = []

    # -- what a case works with ----------------------------------------------------------

    @property
    def driver(self) -> Driver:
        assert self._driver is not None, "the harness is not open"
        return self._driver

    @property
    def store(self) -> Trove:
        assert self._store is not None, "the harness is not open"
        return self._store

    @property
    def features(self) -> Features:
        return self.driver.features

    @property
    def dsn(self) -> str | None:
        """A connection string of the same storage, for child processes; None: there is none."""
        dsn = getattr(self.driver, "dsn", None)
        return dsn if isinstance(dsn, str) else None

    @property
    def bare(self) -> bool:
        return self.stack.name == BARE.name

    @property
    def calls(self) -> int:
        """How often a driver of this case has been asked for anything."""
        return self.log.calls.total()

    def capable(self, protocol: type[C]) -> C | None:
        """The driver, if it can do that."""
        found = capability(self.driver, protocol)
        if found is not None and found is not self.driver:
            watch_errors(found, self.log)
        return found

    def meets(self, need: str) -> bool:
        """As in the ``needs`` of a case."""
        return unmet(need, self.driver) is None

    def new_driver(self) -> Driver:
        """An unopened driver on storage of its own."""
        return self.watched(self.factory())

    def watched(self, driver: Driver) -> Driver:
        """Closed at the end of the case; its errors are looked at."""
        self._drivers.append(driver)
        watch_errors(driver, self.log)
        return driver

    def sibling(self) -> Driver:
        """An unopened second client of the same storage; else the case is absent."""
        make = getattr(self.driver, "sibling", None)
        if make is None:
            drop("driver has no sibling")
        driver: Driver = make()
        return self.watched(driver)

    async def make_store(self, **options: Unpack[StoreOptions]) -> Trove:
        """An open store of its own over a fresh driver of the factory."""
        return await self.open_store(self.new_driver(), **options)

    async def sibling_store(self, **options: Unpack[StoreOptions]) -> Trove:
        """An open store over a second client of the same storage; else the case is absent."""
        return await self.open_store(self.sibling(), **options)

    async def open_store(self, driver: Driver, **options: Unpack[StoreOptions]) -> Trove:
        """An open store over ``driver``, with the run's transforms and without retries unless
        told otherwise; closed at the end of the case."""
        wanted: StoreOptions = {
            "middleware": [*self.stack.make()],
            "retry": _ONE_TRY,
            **options,
        }
        store = Trove(driver, **wanted)
        self._stores.append(store)
        await store.aopen()
        return store

    async def new_bucket(self, store: Trove | None = None, driver: Driver | None = None) -> str:
        """Creates one, in ``store`` or in the case's own; by its ``driver``, where the store's
        time limits are not meant for that."""
        name = f"trove-{secrets.token_hex(8)}"
        if driver is None:
            await (store or self.store).create_bucket(name)
        else:
            await driver.create_bucket(name, BucketOptions())
        self._buckets.append((store or self.store, name))
        return name

    # -- short words ---------------------------------------------------------------------

    async def put(
        self, key: str, body: object = b"body", *, metadata: dict[str, str] | None = None
    ) -> ObjectInfo:
        return await self.store.put(self.bucket, key, body, metadata=metadata)

    async def get(self, key: str) -> bytes:
        return await self.store.get_bytes(self.bucket, key)

    async def keys(self, prefix: str = "") -> builtins.list[str]:
        """Of the objects that the listing shows."""
        return [
            entry.key
            async for entry in self.store.list(self.bucket, prefix=prefix)
            if isinstance(entry, ObjectInfo)
        ]

    @contextmanager
    def raises(self, *kinds: type[BaseException]) -> Iterator[Raised]:
        """Fails unless the block raises one of ``kinds``."""
        raised = Raised()
        try:
            yield raised
        except kinds as error:
            raised.error = error
            return
        names = " or ".join(kind.__name__ for kind in kinds)
        raise AssertionError(f"{names} was expected, nothing was raised")

    def expects(self, *kinds: type[BaseException]) -> None:
        """Errors outside the family that this case causes on purpose."""
        self.expected.extend(kinds)

    def permits(self, *kinds: type[Warning]) -> None:
        """Warnings that this case causes on purpose."""
        self.permitted_warnings.extend(kinds)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Called before the case's buckets are thrown away."""
        self._ends.append(callback)

    drop = staticmethod(drop)

    # -- life ----------------------------------------------------------------------------

    async def open(self) -> Self:
        self._driver = self.new_driver()
        self._store = await self.open_store(self._driver)
        self.bucket = await self.new_bucket()
        return self

    async def close(self) -> None:
        """Throws the case's buckets away and closes all that it opened."""
        for end in self._ends:
            end()
        for store, bucket in self._buckets:
            with suppress(TroveError):  # gone already, or the case has closed the store
                await store.delete_bucket(bucket, force=True)
        for store in reversed(self._stores):
            await store.aclose()
        for driver in reversed(self._drivers):
            await driver.close()
            if hasattr(driver, "__dict__"):
                unwatch(driver)

    def check_errors(self) -> None:
        """AssertionError for an error outside the family that came out of a driver."""
        family = (TroveError, TypeError, ValueError, asyncio.CancelledError, *self.expected)
        for call, kind, text in self.log.seen:
            assert issubclass(kind, family), (
                f"{call} raised {kind.__name__}, which is outside the error family: {text}"
            )


@asynccontextmanager
async def _opened(harness: Harness) -> AsyncIterator[Harness]:
    try:
        yield await harness.open()
    finally:
        await harness.close()


async def _run(case: Case, args: tuple[object, ...], harness: Harness) -> None:
    complaints: list[str] = []

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(complain)
    me = asyncio.current_task()
    before = asyncio.all_tasks()
    async with _opened(harness):
        reasons: Mapping[str, str] = getattr(harness.driver, "absent", {})
        for name in (case.id, f"{case.id}_{case.name}"):
            if name in reasons:
                drop(reasons[name])
        for need in case.needs:
            if reason := unmet(need, harness.driver):
                drop(reason)
        async with asyncio.timeout(case.timeout):
            await case.function(harness, *args)
    harness.check_errors()
    for _ in range(100):
        left = [task for task in asyncio.all_tasks() - before if task is not me]
        if not left:
            break
        await asyncio.sleep(0.001)
    assert not left, f"tasks are left: {left}"
    _HEAP.collect()
    await asyncio.sleep(0)
    assert not complaints, f"the event loop heard: {complaints}"


@contextmanager
def _strict(harness: Harness) -> Iterator[None]:
    """AssertionError for a ResourceWarning or a coroutine never awaited inside the block."""
    unraisable: list[str] = []

    def heard(problem: sys.UnraisableHookArgs) -> None:
        unraisable.append(f"{problem.err_msg or 'in'} {problem.object!r}: {problem.exc_value!r}")

    hook, sys.unraisablehook = sys.unraisablehook, heard
    with ExitStack() as stack:
        stack.callback(setattr, sys, "unraisablehook", hook)
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        yield
        _HEAP.collect()
    told = tuple(harness.permitted_warnings)
    for warning in caught:
        serious = issubclass(warning.category, ResourceWarning) or (
            issubclass(warning.category, RuntimeWarning) and "never awaited" in str(warning.message)
        )
        if serious and not issubclass(warning.category, told):
            raise AssertionError(f"{warning.category.__name__}: {warning.message}")
    assert not unraisable, f"raised where nobody could catch it: {unraisable}"


def run_case(
    case: Case,
    args: tuple[object, ...],
    factory: DriverFactory,
    stack: Stack = BARE,
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Result:
    """Runs one node of the suite in an event loop of its own; never raises but for a
    KeyboardInterrupt. Not callable from a running loop."""
    if not case.stacks and stack.name != BARE.name:
        return Result("absent", "says nothing more when transforms are in use")
    _HEAP.settle()
    harness = Harness(factory, stack)
    baseline = Baseline.now()
    try:
        with short_comparisons(), _strict(harness):
            with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
                runner.run(_run(case, args, harness))
            baseline.check()
    except Absent as absent:
        return Result("absent", str(absent))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the outcome of the case
        _let_go(error)
        return Result("failed", _said(error, case), error)
    return Result("passed")


_SLOW_COLLECTION: Final = 0.01  # seconds


class _Heap:
    """What was there before a case need not be searched after it: a collection then takes a
    millisecond instead of fifty, and of a process that has run thousands of other tests
    instead of several hundred."""

    def __init__(self) -> None:
        self._is_slow = True

    def collect(self) -> None:
        started = time.perf_counter()
        gc.collect()
        if time.perf_counter() - started > _SLOW_COLLECTION:
            self._is_slow = True

    def settle(self) -> None:
        """Between two cases: leaves what is there out of later collections."""
        if self._is_slow:
            gc.collect()
            gc.freeze()
            self._is_slow = False


_HEAP: Final = _Heap()


def _let_go(error: BaseException) -> None:
    """Frees what a failed case held, so that no later case is blamed for it."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen: BaseException | None = error
            while seen is not None:
                traceback.clear_frames(seen.__traceback__)
                seen = seen.__cause__ or seen.__context__
            gc.collect()
    finally:
        sys.unraisablehook = hook


def _said(error: BaseException, case: Case) -> str:
    if type(error) is TimeoutError:
        return f"not done after {case.timeout:g} s"
    text = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {text[0]}" if text else name
