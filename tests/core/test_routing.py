"""Which backend holds a key, and what that means for buckets, copies and handles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Tag
from tests.transforms import Xor
from trove_async import (
    BackendNotFoundError,
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    DriverClosedError,
    ObjectChangedError,
    ObjectNotFoundError,
    PermissionDeniedError,
    RetryPolicy,
    Trove,
    UnavailableError,
    UnsupportedError,
    keys,
)
from trove_async._router import Router
from trove_async.driver import DeleteOptions
from trove_async.drivers.memory import MemoryDriver


class Backends:
    def __init__(self) -> None:
        self.main, self.logs, self.cold = MemoryDriver(), MemoryDriver(), MemoryDriver()

    def keys_of(self, driver: MemoryDriver, bucket: str = "box") -> list[str]:
        return driver._state.buckets[bucket].ordered()


@pytest.fixture
def backends() -> Backends:
    return Backends()


@pytest.fixture
async def store(backends: Backends) -> AsyncIterator[Trove]:
    async with trove.open(
        backends.main,
        backends={"logs": backends.logs, "cold": backends.cold},
        routes=[("*.log", "logs"), ("cold/*", "cold")],
    ) as opened:
        await opened.create_bucket("box")
        yield opened


def test_functions_come_before_patterns_and_the_first_match_wins() -> None:
    def function(bucket: str, key: str) -> str | None:
        return {"f": "one", "none": None, "empty": ""}.get(key)

    router = Router(
        [("f", "two"), ("a*", "two"), function, ("ab*", "one"), ("none", "one")], ["one", "two"]
    )
    found = {key: router.resolve("box", key) for key in ("f", "abc", "none", "empty", "zzz")}
    assert found == {
        "f": "one",
        "abc": "two",
        "none": "one",
        "empty": "default",
        "zzz": "default",
    }
    assert not Router([], [])


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("*.log", ["app.log", "logs/app.log", ".log"], ["app.LOG", "app.log.gz"]),
        ("logs/*", ["logs/", "logs/a/b"], ["logs", "xlogs/a"]),
        ("a?c", ["abc", "a/c"], ["ac", "abbc"]),
        ("[ab]*", ["a", "b/c"], ["c"]),
        ("[!ab]*", ["c"], ["a", ""]),
        ("a\nb*", ["a\nb", "a\nbc\nd"], ["a"]),
    ],
)
def test_patterns_are_those_of_fnmatch(pattern: str, hits: list[str], misses: list[str]) -> None:
    router = Router([(pattern, "one")], ["one"])
    assert all(router.resolve("box", key) == "one" for key in hits)
    assert all(router.resolve("box", key) == "default" for key in misses)


async def test_an_unknown_backend_is_an_error() -> None:
    with pytest.raises(BackendNotFoundError):
        Trove(MemoryDriver(), routes=[("*", "nowhere")])
    async with trove.open("mem://", routes=[lambda bucket, key: "nowhere"]) as store:
        await store.create_bucket("box")
        with pytest.raises(BackendNotFoundError):
            await store.put("box", "k", b"")
        with pytest.raises(BackendNotFoundError):
            store.backend("nowhere")
    with pytest.raises(ValueError, match="default"):
        Trove(MemoryDriver(), backends={"default": MemoryDriver()})
    with pytest.raises(TypeError):
        Trove(MemoryDriver(), routes=["*.log"])  # type: ignore[list-item]  # that is the point
    with pytest.raises(TypeError):
        Trove(MemoryDriver(), backends={"x": object()})  # type: ignore[dict-item]  # as above


async def test_every_verb_goes_where_the_key_belongs(store: Trove, backends: Backends) -> None:
    await store.put("box", "a.txt", b"1")
    await store.put("box", "app/a.log", b"2")
    await store.put("box", "cold/x", b"3")
    assert backends.keys_of(backends.main) == ["a.txt"]
    assert backends.keys_of(backends.logs) == ["app/a.log"]
    assert backends.keys_of(backends.cold) == ["cold/x"]
    assert await store.get_bytes("box", "app/a.log") == b"2"
    assert (await store.head("box", "cold/x")).size == 1
    await store.set_tags("box", "cold/x", {"a": "b"})
    assert await backends.cold.get_tags("box", "cold/x") == {"a": "b"}
    assert len(await store.versions("box", "app/a.log")) == 1
    await store.delete("box", "cold/x")
    results = await store.delete_many("box", ["app/a.log", "a.txt", "missing.log", ""])
    assert [r.key for r in results] == ["app/a.log", "a.txt", "missing.log", ""]
    assert [r.error is None for r in results] == [True, True, True, False]
    for driver in (backends.main, backends.logs, backends.cold):
        assert backends.keys_of(driver) == []


# -- copies --------------------------------------------------------------------------------


@pytest.mark.parametrize("layered", [False, True])
@pytest.mark.parametrize("verb", ["copy", "move"])
async def test_a_transfer_across_backends_carries_all_of_it(
    store: Trove, backends: Backends, verb: str, layered: bool
) -> None:
    if layered:
        store.use(Xor(), scope=keys("*.txt"))
    made = await store.put(
        "box", "a.txt", b"body" * 999, metadata={"who": "ana"}, tags={"t": "1"}, content_type="x/y"
    )
    info = await getattr(store, verb)("box", "a.txt", "box", "b.log")
    assert await store.get_bytes("box", "b.log") == b"body" * 999
    assert (info.metadata, info.content_type, info.checksum) == (
        {"who": "ana"},
        "x/y",
        made.checksum,
    )
    assert info == await store.head("box", "b.log")
    assert info.encodings == ()
    assert await store.get_tags("box", "b.log") == {"t": "1"}
    assert backends.keys_of(backends.logs) == ["b.log"]
    assert await store.exists("box", "a.txt") == (verb == "copy")
    back = await getattr(store, verb)("box", "b.log", "box", "c.txt", metadata={"by": "bob"})
    assert (back.metadata, back.encodings) == ({"by": "bob"}, ("xor",) if layered else ())
    assert await store.get_bytes("box", "c.txt") == b"body" * 999


async def test_a_conditional_transfer_across_backends(store: Trove) -> None:
    await store.put("box", "a", b"1")
    await store.put("box", "b.log", b"2")
    for verb in (store.copy, store.move):
        with pytest.raises(trove.PreconditionFailedError):
            await verb("box", "a", "box", "b.log", if_none_match="*")
    assert await store.get_bytes("box", "a") == b"1"
    assert await store.get_bytes("box", "b.log") == b"2"
    with pytest.raises(ObjectNotFoundError):
        await store.copy("box", "missing", "box", "b.log")
    with pytest.raises(BucketNotFoundError):
        await store.copy("box", "a", "nowhere", "b.log")
    assert await store.get_bytes("box", "b.log") == b"2"


async def test_a_move_of_an_object_replaced_meanwhile_keeps_both() -> None:
    class Slow(Faulty):
        async def put(
            self, bucket: str, key: str, body: trove.Chunks, options: trove.PutOptions
        ) -> trove.ObjectInfo:
            info = await super().put(bucket, key, body, options)
            if key == "b.log":
                await main.put(bucket, "a", b"newer")
            return info

    driver = MemoryDriver()
    async with (
        trove.open(driver.sibling()) as main,
        trove.open(driver, backends={"logs": Slow()}, routes=[("*.log", "logs")]) as store,
    ):
        await store.create_bucket("box")
        await store.put("box", "a", b"old")
        with pytest.raises(ObjectChangedError):
            await store.move("box", "a", "box", "b.log")
        assert await store.get_bytes("box", "a") == b"newer"
        assert await store.get_bytes("box", "b.log") == b"old"


async def test_a_native_copy_is_used_where_layers_permit() -> None:
    driver = Faulty()
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        await store.put("box", "plain", b"x")
        driver.forget()
        await store.copy("box", "plain", "box", "plain2")
        assert driver.verbs() == ["copy"]
        store.use(Tag("t"), scope=keys("secret/*"))
        await store.copy("box", "plain", "box", "secret/k")
        async with store.get("box", "secret/k", raw=True) as reader:
            assert await reader.read() == b"<t>x"
        driver.forget()
        await store.copy("box", "secret/k", "box", "secret/l")
        assert driver.verbs() == ["head", "copy"]
        info = await store.copy("box", "secret/l", "box", "public")
        assert info.encodings == ()
        async with store.get("box", "public", raw=True) as reader:
            assert await reader.read() == b"x"
        changed = await store.copy("box", "secret/l", "box", "secret/m", metadata={"n": "1"})
        assert (changed.metadata, changed.encodings, changed.size) == ({"n": "1"}, ("t",), 1)
        assert await store.get_bytes("box", "secret/m") == b"x"


async def test_a_native_copy_is_of_the_version_that_was_looked_at() -> None:
    class Replacing(Faulty):
        async def head(self, bucket: str, key: str, options: trove.HeadOptions) -> trove.ObjectInfo:
            info = await super().head(bucket, key, options)
            if key == "secret/a" and not self.asked("copy"):
                async with trove.open(memory.sibling()) as plain:
                    await plain.put(bucket, key, b"not sealed")
            return info

    memory = MemoryDriver()
    driver = Replacing(memory)
    async with trove.open(driver, retry=RetryPolicy(attempts=1)) as store:
        store.use(Tag("seal"), scope=keys("secret/*"))
        await store.create_bucket("box")
        await store.put("box", "secret/a", b"sealed")
        info = await store.copy("box", "secret/a", "box", "secret/b")
        assert info.encodings == ("seal",)  # though what it copied in the end was plain
        assert await store.get_bytes("box", "secret/b") == b"not sealed"


async def test_a_source_that_never_rests_is_said_to_change() -> None:
    class Restless(Faulty):
        async def head(self, bucket: str, key: str, options: trove.HeadOptions) -> trove.ObjectInfo:
            info = await super().head(bucket, key, options)
            async with trove.open(memory.sibling()) as other:
                await other.put(bucket, key, b"again")
            return info

    memory = MemoryDriver()
    driver = Restless(memory)
    async with trove.open(driver, retry=RetryPolicy(attempts=1)) as store:
        await store.create_bucket("box")
        await store.put("box", "a", b"1")
        for verb in (store.copy, store.move):
            with pytest.raises(ObjectChangedError):
                await verb("box", "a", "box", "b", metadata={"n": "1"})
        assert not await memory_has(memory, "b")


async def memory_has(memory: MemoryDriver, key: str) -> bool:
    return key in memory._state.buckets["box"].objects


async def test_a_transfer_onto_itself_keeps_the_object(store: Trove) -> None:
    await store.put("box", "a", b"body", metadata={"n": "1"})
    for verb in (store.copy, store.move):
        info = await verb("box", "a", "box", "a", metadata={"n": "2"})
        assert info.metadata == {"n": "2"}
        assert await store.get_bytes("box", "a") == b"body"
        await verb("box", "a", "box", "a")
        assert (await store.head("box", "a")).metadata == {"n": "2"}


# -- buckets -------------------------------------------------------------------------------


async def test_buckets_live_on_every_backend(store: Trove, backends: Backends) -> None:
    await store.create_bucket("more")
    for driver in (backends.main, backends.logs, backends.cold):
        assert {b.name for b in await driver.list_buckets()} == {"box", "more"}
    await backends.cold.create_bucket("only-cold", trove.BucketOptions())
    assert [b.name for b in await store.list_buckets()] == ["box", "more", "only-cold"]
    with pytest.raises(BucketExistsError):
        await store.create_bucket("more")
    await store.create_bucket("only-cold")  # the others did not have it
    await store.delete_bucket("more")
    with pytest.raises(BucketNotFoundError):
        await store.delete_bucket("more")


async def test_a_bucket_with_objects_anywhere_is_kept_everywhere(
    store: Trove, backends: Backends
) -> None:
    await store.put("box", "x.log", b"1")
    with pytest.raises(BucketNotEmptyError):
        await store.delete_bucket("box")
    assert len(await backends.main.list_buckets()) == len(await backends.cold.list_buckets()) == 1
    await store.put("box", "a", b"1")
    await store.delete_bucket("box", force=True)
    for driver in (backends.main, backends.logs, backends.cold):
        assert await driver.list_buckets() == []


@pytest.mark.parametrize("verb", ["create_bucket", "delete_bucket"])
async def test_what_one_backend_refuses_is_rolled_back_on_the_others(verb: str) -> None:
    first, second = MemoryDriver(), Faulty()
    async with trove.open(
        first, backends={"second": second}, retry=RetryPolicy(attempts=1)
    ) as store:
        if verb == "delete_bucket":
            await store.create_bucket("box")
        before = [b.name for b in await first.list_buckets()]
        second.fail(verb, UnavailableError("no"))
        with pytest.raises(UnavailableError):
            await getattr(store, verb)("box")
        assert [b.name for b in await first.list_buckets()] == before


# -- handles -------------------------------------------------------------------------------


async def test_a_pinned_handle_passes_routes_by(store: Trove, backends: Backends) -> None:
    cold = store.backend("cold")
    await cold.put("box", "a.log", b"cold")
    assert backends.keys_of(backends.cold) == ["a.log"]
    assert not await store.exists("box", "a.log")
    assert await cold.get_bytes("box", "a.log") == b"cold"
    assert [e.key async for e in cold.list("box")] == ["a.log"]  # type: ignore[union-attr]  # no delimiter
    await cold.create_bucket("only")
    assert [b.name for b in await cold.list_buckets()] == ["box", "only"]
    assert [b.name for b in await backends.main.list_buckets()] == ["box"]
    assert set(await cold.ping()) == {"cold"}
    assert set(await store.ping()) == {"default", "logs", "cold"}
    assert cold.driver is backends.cold and store.driver is backends.main
    store.use(Tag("t"))
    assert (await cold.put("box", "k", b"")).encodings == ("t",)
    assert [r.middleware.name for r in cold.registrations()] == ["t"]


async def test_closing_a_pinned_handle_does_nothing_to_its_parent(store: Trove) -> None:
    async with store.backend("cold") as cold:
        await cold.put("box", "k", b"1")
    await cold.aclose()
    await store.put("box", "k", b"2")
    assert await cold.get_bytes("box", "k") == b"1"


async def test_every_driver_is_opened_once_and_closed_once() -> None:
    shared, other = Faulty(), Faulty()
    store = Trove(shared, backends={"again": shared, "other": other})
    async with store:
        await store.create_bucket("box")
        await store.backend("again").put("box", "k", b"")
        assert await store.exists("box", "k")
    assert (shared.opened, shared.closed, other.opened, other.closed) == (1, 1, 1, 1)
    with pytest.raises(DriverClosedError):
        await store.head("box", "k")


async def test_one_driver_under_two_names_has_its_buckets_once() -> None:
    shared = MemoryDriver()
    async with trove.open(shared, backends={"again": shared}) as store:
        await store.create_bucket("box")
        assert [b.name for b in await store.list_buckets()] == ["box"]
        await store.put("box", "k", b"")
        assert [e.key async for e in store.list("box")] == ["k"]  # type: ignore[union-attr]  # no delimiter
        await store.delete_bucket("box", force=True)
        assert await store.list_buckets() == []


async def test_versions_need_a_backend_that_has_them(store: Trove) -> None:
    async with trove.open(Faulty()) as plain:
        await plain.create_bucket("box")
        await plain.put("box", "k", b"")
        for call in (
            plain.versions("box", "k"),
            plain.restore("box", "k", "v"),
            plain.get_bytes("box", "k", version_id="v"),
            plain.head("box", "k", version_id="v"),
            plain.delete("box", "k", version_id="v"),
            plain.get_tags("box", "k"),
            plain.set_tags("box", "k", {}),
            plain.get_lifecycle("box"),
            plain.set_lifecycle("box", []),
            plain.presign_get("box", "k"),
            plain.presign_put("box", "k"),
        ):
            with pytest.raises(UnsupportedError):
                await call
        with pytest.raises(UnsupportedError):
            plain.watch("box")


class OneByOne(MemoryDriver):
    """Takes one key a call, as Azure does."""

    delete_many = None  # type: ignore[assignment]
    under_way = most = 0
    broken: str | None = None

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.001)
            if key == self.broken:
                raise PermissionDeniedError("not this one", bucket=bucket, key=key)
            await super().delete(bucket, key, options)
        finally:
            self.under_way -= 1


async def test_a_bucket_is_emptied_some_keys_at_once_where_no_call_takes_many() -> None:
    driver = OneByOne()
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        for number in range(40):
            await store.put("box", f"k{number}", b"")
        driver.broken = "k7"
        with pytest.raises(PermissionDeniedError) as raised:
            await store.delete_bucket("box", force=True)
        assert (raised.value.key, driver.under_way) == ("k7", 0), "none is on its way any more"
        driver.broken = None
        await store.delete_bucket("box", force=True)
        assert await store.list_buckets() == [] and 2 <= driver.most <= 16
