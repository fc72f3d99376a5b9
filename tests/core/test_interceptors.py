"""The one seam: every verb passes it, and what stands there can see, change and refuse."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Source
from trove_async import (
    Call,
    GetOptions,
    LifecycleRule,
    ObjectReader,
    ObjectRef,
    PolicyError,
    PresignedRequest,
    PutOptions,
    RetryPolicy,
    StreamDirection,
    Trove,
    UnavailableError,
)
from trove_async.drivers.memory import MemoryDriver

R = TypeVar("R")


class Signing(MemoryDriver):
    async def presign_get(self, *args: Any) -> PresignedRequest:
        return PresignedRequest("GET", "mem://")

    presign_put = presign_get


class Noting:
    """Notes every call on its way in and out."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log
        self.calls: list[Call[Any]] = []

    async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
        self.calls.append(call)
        self.log.append(f"{self.name}>{call.operation}")
        try:
            return await proceed(call)
        finally:
            self.log.append(f"{self.name}<{call.operation}")


@pytest.fixture
def noting() -> Noting:
    return Noting()


@pytest.fixture
async def store(noting: Noting) -> AsyncIterator[Trove]:
    async with trove.open(Signing(), interceptors=[noting], default_bucket="box") as opened:
        await opened.create_bucket("box")
        await opened.put("box", "k", bytes(5000))
        noting.calls.clear()
        yield opened


async def listed(store: Trove) -> None:
    async for _ in store.list("box"):
        pass


async def watched(store: Trove, poll: float | None = None) -> None:
    async with store.watch("box", poll=poll):
        pass


async def restored(store: Trove) -> None:
    (version,) = await store.versions("box", "k")
    await store.restore("box", "k", version.version_id)


async def streamed(store: Trove) -> None:
    async with store.stream("box", "n", StreamDirection.UPLOAD) as stream:
        await stream.write(b"x")


async def downloaded(store: Trove) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await store.download("box", "k", f"{folder}/file")


RULE = LifecycleRule("r", expiration_days=9)
VERBS: dict[str, tuple[set[str], Callable[[Trove], Awaitable[object]]]] = {
    "put": ({"put"}, lambda s: s.put("box", "n", b"x")),
    "get": ({"get"}, lambda s: s.get("box", "k").__aenter__()),
    "get_bytes": ({"get"}, lambda s: s.get_bytes("box", "k")),
    "get_ranges": (
        {"get", "get_ranges"},
        lambda s: s.get_ranges("box", "k", [slice(0, 1), slice(9, 12)]),
    ),
    "head": ({"head"}, lambda s: s.head("box", "k")),
    "exists": ({"head"}, lambda s: s.exists("box", "k")),
    "delete": ({"delete"}, lambda s: s.delete("box", "k")),
    "delete_many": ({"delete_many"}, lambda s: s.delete_many("box", ["k", "l"])),
    "list": ({"list"}, listed),
    "list_page": ({"list"}, lambda s: s.list_page("box")),
    "copy": ({"copy"}, lambda s: s.copy("box", "k", "box", "l")),
    "move": ({"move"}, lambda s: s.move("box", "k", "box", "l")),
    "create_bucket": ({"create_bucket"}, lambda s: s.create_bucket("bin")),
    "delete_bucket": ({"delete_bucket"}, lambda s: s.delete_bucket("box", force=True)),
    "list_buckets": ({"list_buckets"}, lambda s: s.list_buckets()),
    "versions": ({"versions"}, lambda s: s.versions("box", "k")),
    "restore": ({"versions", "restore"}, restored),
    "get_tags": ({"get_tags"}, lambda s: s.get_tags("box", "k")),
    "owned": ({"owned"}, lambda s: s.owned("box", "k")),
    "set_tags": ({"set_tags"}, lambda s: s.set_tags("box", "k", {"a": "b"})),
    "get_lifecycle": ({"get_lifecycle"}, lambda s: s.get_lifecycle("box")),
    "set_lifecycle": ({"set_lifecycle"}, lambda s: s.set_lifecycle("box", [RULE])),
    "presign_get": ({"presign_get"}, lambda s: s.presign_get("box", "k")),
    "presign_put": ({"presign_put"}, lambda s: s.presign_put("box", "k")),
    "watch": ({"watch"}, watched),
    "stream": ({"put"}, streamed),
    "upload": ({"put"}, lambda s: s.upload("box", "n", __file__)),
    "download": ({"get"}, downloaded),
    "ping": ({"ping"}, lambda s: s.ping()),
}
# What touches no backend, or hands out what does.
OUTSIDE = {
    "aopen",
    "aclose",
    "backend",
    "bucket",
    "driver",
    "pool",
    "pools",
    "use",
    "remove",
    "registrations",
    "uploads",
    # their verbs are made of those below
    "cas",
    "vfs",
    # asks no backend anything
    "features",
}


def test_the_table_knows_every_verb_of_the_store() -> None:
    public = {
        name
        for name, member in inspect.getmembers(Trove)
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }
    assert public - OUTSIDE == VERBS.keys(), "a new verb needs a line in VERBS, and the seam"


@pytest.mark.filterwarnings("ignore:the reader of:ResourceWarning")
@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_passes_the_seam(store: Trove, noting: Noting, verb: str) -> None:
    operations, call = VERBS[verb]
    result = await call(store)
    if isinstance(result, ObjectReader):
        await result.aclose()
    assert {call.operation for call in noting.calls} == operations
    for seen in noting.calls:
        expected = {"create_bucket": "bin", "list_buckets": "", "ping": ""}
        assert seen.bucket == expected.get(seen.operation, "box")


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_can_be_refused_before_any_request(verb: str) -> None:
    class Refusing:
        is_on = False

        async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
            if self.is_on:
                raise PolicyError("not today")
            return await proceed(call)

    refusing = Refusing()
    driver = Signing()
    async with trove.open(driver, interceptors=[refusing]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", bytes(5000))
        before = dict(driver._state.buckets["box"].objects)
        refusing.is_on = True
        with pytest.raises(PolicyError):
            await VERBS[verb][1](store)
        assert driver._state.buckets["box"].objects == before
        assert driver._queues == []


async def test_the_verbs_of_a_polling_watch_pass_too(store: Trove, noting: Noting) -> None:
    await watched(store, poll=0.01)
    assert {call.operation for call in noting.calls} == {"watch", "list"}


async def test_the_first_interceptor_is_outermost() -> None:
    log: list[str] = []
    chain = [Noting("a", log), Noting("b", log), Noting("c", log)]
    async with trove.open("mem://", interceptors=chain) as store:
        await store.create_bucket("box")
    assert log == [
        *(f"{name}>create_bucket" for name in "abc"),
        *(f"{name}<create_bucket" for name in "cba"),
    ]


async def test_a_call_is_changed_by_replacing_it() -> None:
    class Tenant:
        """Puts every key below a prefix."""

        async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
            changed = replace(call, key="ana/" + call.key) if call.key else call
            if isinstance(call.options, PutOptions):
                options = replace(call.options, metadata={**call.options.metadata, "by": "ana"})
                changed = replace(changed, options=options)
            return await proceed(changed)

    driver = MemoryDriver()
    async with trove.open(driver, interceptors=[Tenant()]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"0123456789" * 500)
        stored = driver._state.buckets["box"].objects
        assert list(stored) == ["ana/k"]
        assert stored["ana/k"].info.metadata["by"] == "ana"
        assert (await store.head("box", "k")).metadata == {"by": "ana"}
        assert await store.get_bytes("box", "k", range=slice(0, 4)) == b"0123"
        many = await store.get_ranges("box", "k", [slice(0, 2), slice(8, 10)], coalesce=0)
        assert many == [b"01", b"89"]
        await store.set_tags("box", "k", {"a": "b"})
        assert await store.get_tags("box", "k") == {"a": "b"}
        await store.delete("box", "k")
        assert not stored


async def test_a_changed_range_is_the_one_that_is_read(store: Trove) -> None:
    class First:
        async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
            if isinstance(call.options, GetOptions):
                call = replace(call, options=replace(call.options, range=trove.ByteRange(0, 2)))
            return await proceed(call)

    async with trove.open(store.driver, interceptors=[First()]) as other:
        assert await other.get_bytes("box", "k") == bytes(2)


async def test_an_interceptor_may_answer_by_itself(store: Trove) -> None:
    class Answering:
        async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
            result = await proceed(call)
            return [] if call.operation == "list_buckets" else result  # type: ignore[return-value]  # R is the list

    async with trove.open(store.driver, interceptors=[Answering()]) as other:
        assert await other.list_buckets() == []


async def test_copy_and_move_tell_their_target(store: Trove, noting: Noting) -> None:
    await store.copy("box", "k", "box", "l")
    await store.move("box", "l", "box", "m")
    assert [call.target for call in noting.calls] == [ObjectRef("box", "l"), ObjectRef("box", "m")]


async def test_a_get_lasts_until_the_reader_is_closed() -> None:
    open_now: list[str] = []

    class Limiting:
        async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
            result = await proceed(call)
            if isinstance(result, ObjectReader):
                open_now.append(call.key)

                async def gone() -> None:
                    open_now.remove(call.key)

                result.on_close(gone)
            return result

    driver = Faulty()
    async with trove.open(
        driver, interceptors=[Limiting()], retry=RetryPolicy(attempts=1)
    ) as store:
        await store.create_bucket("box")
        await store.put("box", "k", bytes(5000))
        async with store.get("box", "k"):
            assert open_now == ["k"]
        assert open_now == []
        async with store.get("box", "k") as reader:
            await reader.read(10)
            assert open_now == ["k"]
        assert open_now == []
        assert len(await store.get_bytes("box", "k")) == 5000
        assert open_now == []
        driver.body(100)
        with pytest.raises(UnavailableError):
            await store.get_bytes("box", "k")
        assert open_now == []
        reader = await store.get("box", "k")
        await reader.read()  # to the end: nothing is held any more
        assert open_now == []
        await reader.aclose()
    assert driver.unclosed == 0


async def test_a_listing_is_one_call_per_page(store: Trove, noting: Noting) -> None:
    for number in range(5):
        await store.put("box", f"n{number}", b"")
    noting.calls.clear()
    entries = [entry async for entry in store.list("box", page_size=2)]
    assert len(entries) == 6
    assert [call.operation for call in noting.calls] == ["list"] * 3
    noting.calls.clear()
    async for _ in store.list("box", page_size=2):
        break
    assert len(noting.calls) == 1


async def test_retries_happen_inside_an_interceptor() -> None:
    noting = Noting()
    driver = Faulty()
    async with trove.open(driver, interceptors=[noting], retry=RetryPolicy(base=0.001)) as store:
        driver.fail("list_buckets", UnavailableError("busy"), times=2)
        await store.list_buckets()
        assert driver.verbs().count("list_buckets") == 3
        assert len(noting.calls) == 1


async def test_an_interceptor_that_refuses_closes_the_body_and_moves_no_byte() -> None:
    class Refusing:
        async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
            if call.operation == "put":
                raise PolicyError("no writes")
            return await proceed(call)

    driver = Faulty()
    async with trove.open(driver, interceptors=[Refusing()]) as store:
        await store.create_bucket("box")
        source = Source()
        with pytest.raises(PolicyError):
            await store.put("box", "k", source)
        assert (source.given, source.closed) == (0, 1)
        assert "put" not in driver.verbs()


async def test_a_presigned_request_lasts_seconds_or_a_timedelta() -> None:
    asked: list[object] = []

    class Asked(Signing):
        async def presign_get(self, *args: Any) -> PresignedRequest:
            asked.append(args[2])
            return await super().presign_get(*args)

        presign_put = presign_get

    async with trove.open(Asked(), default_bucket="box") as store:
        for expires in (300.0, timedelta(minutes=5)):
            await store.presign_get("box", "k", expires=expires)
            await store.bucket().presign_put("k", expires=expires)
        assert asked == [300.0] * 4
        for wrong in (0.0, timedelta(days=8), float("nan")):
            with pytest.raises(ValueError):
                await store.presign_get("box", "k", expires=wrong)


async def test_pinned_handles_share_the_interceptors(store: Trove, noting: Noting) -> None:
    await store.backend("default").head("box", "k")
    await store.bucket().head("k")
    assert [call.operation for call in noting.calls] == ["head", "head"]
