"""Which layers an operation has, in what order, and what is recorded of them."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.core.layers import Observer, Tag
from trove_async import (
    Context,
    Direction,
    InvalidConfigError,
    InvalidMetadataError,
    Registration,
    Stage,
    Trove,
    UnknownEncodingError,
    buckets,
    content_types,
    everything,
    keys,
    when,
)


@pytest.fixture
async def store() -> AsyncIterator[Trove]:
    async with trove.open("mem://", default_bucket="box") as opened:
        await opened.create_bucket("box")
        yield opened


async def stored(store: Trove, key: str) -> bytes:
    async with store.get("box", key, raw=True) as reader:
        return await reader.read()


async def test_writes_go_from_the_user_to_the_driver_and_reads_come_back(store: Trove) -> None:
    log: list[str] = []
    for name in ("first", "second", "third"):
        store.use(Tag(name, log=log))
    info = await store.put("box", "k", b"body")
    assert log[:3] == ["write first", "write second", "write third"]
    assert await stored(store, "k") == b"<third><second><first>body"
    assert info.encodings == ("first", "second", "third")
    log.clear()
    assert await store.get_bytes("box", "k") == b"body"
    assert log[:3] == ["read third", "read second", "read first"]


async def test_a_stage_beats_the_order_of_registration(store: Trove) -> None:
    store.use(Tag("seal", Stage.ENCRYPT))
    store.use(Tag("turn", Stage.TRANSFORM))
    store.use(Tag("pack", Stage.COMPRESS))
    store.use(Tag("once", Stage.DEDUP))
    seen = Observer()
    store.use(seen)
    info = await store.put("box", "k", b"plain")
    assert info.encodings == ("once", "pack", "turn", "seal")
    assert seen.seen == b"plain"
    assert await store.get_bytes("box", "k") == b"plain"
    assert seen.seen == b"plain"


async def test_priority_orders_within_a_stage_only(store: Trove) -> None:
    store.use(Tag("late"), priority=5)
    store.use(Tag("early"), priority=-5)
    store.use(Tag("middle"))
    store.use(Tag("pack", Stage.COMPRESS), priority=99)
    info = await store.put("box", "k", b"x")
    assert info.encodings == ("pack", "early", "middle", "late")
    names = [r.middleware.name for r in store.registrations()]
    assert names == ["pack", "early", "middle", "late"]


async def test_a_read_only_transform_is_not_applied_but_undone(store: Trove) -> None:
    store.use(Tag("t"), direction=Direction.WRITE)
    await store.put("box", "k", b"body")
    assert await store.get_bytes("box", "k") == b"body"  # undone, whatever its direction
    store.remove("t")
    store.use(Tag("t"), direction=Direction.READ)
    assert (await store.put("box", "other", b"body")).encodings == ()
    assert await store.get_bytes("box", "k") == b"body"


async def test_a_direction_narrows_an_observer(store: Trove) -> None:
    seen = Observer()
    store.use(seen, direction=Direction.READ)
    await store.put("box", "k", b"body")
    assert seen.log == []
    await store.get_bytes("box", "k")
    assert seen.log == ["read observer"]
    with pytest.raises(InvalidConfigError):
        store.use(Observer(direction=Direction.READ), direction=Direction.WRITE)


@pytest.mark.parametrize(
    ("scope", "hits"),
    [
        (everything(), {"box/a.jpg", "box/logs/b.txt", "bin/a.jpg"}),
        (buckets("bin"), {"bin/a.jpg"}),
        (keys("*.jpg"), {"box/a.jpg", "bin/a.jpg"}),
        (keys("logs/*", "zzz"), {"box/logs/b.txt"}),
        (~keys("*.jpg"), {"box/logs/b.txt"}),
        (keys("*.jpg") & buckets("box"), {"box/a.jpg"}),
        (keys("logs/*") | buckets("bin"), {"box/logs/b.txt", "bin/a.jpg"}),
        (content_types("image/*"), {"box/a.jpg", "bin/a.jpg"}),
        (content_types("text/plain"), {"box/logs/b.txt"}),
        (when(lambda context: context.key.startswith("a")), {"box/a.jpg", "bin/a.jpg"}),
        (keys("*.JPG"), set()),
    ],
)
async def test_a_scope_says_where_a_layer_applies(
    store: Trove, scope: trove.Scope, hits: set[str]
) -> None:
    await store.create_bucket("bin")
    store.use(Tag("t"), scope=scope)
    applied = set()
    for bucket, key in (("box", "a.jpg"), ("box", "logs/b.txt"), ("bin", "a.jpg")):
        if (await store.put(bucket, key, b"x")).encodings == ("t",):
            applied.add(f"{bucket}/{key}")
    assert applied == hits


def test_a_scope_says_what_it_is() -> None:
    scope = (buckets("a", "b") & ~keys("*.tmp")) | when(lambda context: True, "tenant")
    text = "((buckets('a', 'b') & ~keys('*.tmp')) | when(tenant))"
    assert str(scope) == text
    assert repr(scope) == f"<Scope {text}>"
    assert str(everything()) == "everything()"
    assert keys("a") == keys("a") != keys("b")
    assert when(lambda c: True, "x") != when(lambda c: False, "x")


async def test_a_rule_is_asked_anew_for_every_operation(store: Trove) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="")
    asked: list[tuple[str, str]] = []

    def rule(context: Context) -> bool:
        asked.append((context.operation, context.key))
        return tenant.get() == "sealed"

    store.use(Tag("t"), scope=when(rule, "tenant"))
    assert (await store.put("box", "k", b"x")).encodings == ()
    tenant.set("sealed")
    assert (await store.put("box", "k", b"x")).encodings == ("t",)
    tenant.set("")
    assert (await store.put("box", "k", b"x")).encodings == ()
    assert asked == [("put", "k")] * 3


async def test_use_and_remove_take_effect_with_the_next_operation(store: Trove) -> None:
    registration = store.use(Tag("t"), scope=keys("a*"))
    store.use(Tag("t"), scope=keys("b*"))
    assert isinstance(registration, Registration)
    assert store.remove("t", scope=keys("a*")) == 1
    assert [str(r.scope) for r in store.registrations()] == ["keys('b*')"]
    assert store.remove("t") == 1
    assert store.remove("t") == 0
    assert (await store.put("box", "b", b"x")).encodings == ()


async def test_a_read_under_way_keeps_its_layers(store: Trove) -> None:
    store.use(Tag("t"))
    await store.put("box", "k", b"body")
    async with store.get("box", "k") as reader:
        assert store.remove("t") == 1
        assert await reader.read() == b"body"


async def test_a_write_under_way_keeps_its_layers(store: Trove) -> None:
    class Changing(Observer):
        async def write(self, chunks: trove.Chunks, context: Context) -> trove.Chunks:
            store.remove("t")
            store.use(Tag("u"))
            return chunks

    store.use(Changing())
    store.use(Tag("t"))
    assert (await store.put("box", "k", b"body")).encodings == ("t",)
    assert store.remove("observer") == 1
    assert (await store.put("box", "k2", b"body")).encodings == ("u",)


async def test_returning_the_chunks_themselves_means_not_applied(store: Trove) -> None:
    store.use(Tag("pack", Stage.COMPRESS, skip=True))
    store.use(Tag("seal", Stage.ENCRYPT))
    info = await store.put("box", "k", b"body")
    assert info.encodings == ("seal",)
    assert await stored(store, "k") == b"<seal>body"
    assert await store.get_bytes("box", "k") == b"body"


async def test_one_encoding_may_have_several_registrations(store: Trove) -> None:
    one = Tag("one", encoding="tag")
    two = Tag("two", encoding="tag")
    store.use(one, scope=keys("a*"))
    store.use(two, scope=keys("b*"))
    await store.put("box", "a", b"1")
    await store.put("box", "b", b"2")
    assert await stored(store, "a") == b"<one>1"
    assert await stored(store, "b") == b"<two>2"
    assert await store.get_bytes("box", "a") == b"1"
    assert await store.get_bytes("box", "b") == b"2"


async def test_an_encoding_applied_twice_is_undone_twice(store: Trove) -> None:
    store.use(Tag("one", encoding="tag"))
    store.use(Tag("two", encoding="tag"))
    info = await store.put("box", "k", b"x")
    assert info.encodings == ("tag", "tag")
    assert await stored(store, "k") == b"<two><one>x"
    assert await store.get_bytes("box", "k") == b"x"


async def test_the_record_decides_not_todays_configuration(store: Trove) -> None:
    store.use(Tag("t"), scope=keys("new/*"))
    await store.put("box", "new/k", b"body")
    await store.put("box", "old", b"plain")
    store.remove("t")
    store.use(Tag("t"), scope=keys("old"))
    assert await store.get_bytes("box", "new/k") == b"body"
    assert await store.get_bytes("box", "old") == b"plain"


async def test_an_encoding_nobody_knows_is_said_at_get(store: Trove) -> None:
    store.use(Tag("t"))
    await store.put("box", "k", b"body")
    store.remove("t")
    for wanted in (None, slice(0, 2), slice(-2, None)):
        with pytest.raises(UnknownEncodingError, match="'t'"):
            async with store.get("box", "k", range=wanted):
                pass
    assert await stored(store, "k") == b"<t>body"
    assert (await store.head("box", "k")).encodings == ("t",)


async def test_observers_see_logical_bytes_both_ways(store: Trove) -> None:
    seen = Observer()
    store.use(Tag("t"))
    store.use(seen, scope=keys("k"))
    await store.put("box", "k", b"body")
    assert (seen.seen, seen.log) == (b"body", ["write observer"])
    assert await store.get_bytes("box", "k") == b"body"
    assert (seen.seen, seen.log[-1]) == (b"body", "read observer")
    assert await store.get_bytes("box", "k", range=slice(1, 3)) == b"od"
    assert seen.seen == b"od"
    await store.put("box", "other", b"body")
    assert len(seen.log) == 3


async def test_an_observer_that_refuses_at_the_end_publishes_nothing(store: Trove) -> None:
    await store.put("box", "k", b"old")
    store.use(Observer(refuse=trove.ContentBlockedError("blocked")), direction=Direction.WRITE)
    with pytest.raises(trove.ContentBlockedError):
        await store.put("box", "k", b"new")
    store.remove("observer")
    assert await store.get_bytes("box", "k") == b"old"


async def test_a_context_knows_the_operation_and_its_sizes(store: Trove) -> None:
    seen = Observer()
    store.use(seen)
    store.use(Tag("t"))
    await store.put("box", "a.txt", b"body", metadata={"who": "ana"})
    first, *_ = seen.contexts
    assert (first.operation, first.bucket, first.key) == ("put", "box", "a.txt")
    assert (first.content_type, first.size) == ("text/plain", 4)
    assert first.metadata["who"] == "ana"
    await store.get_bytes("box", "a.txt")
    last = seen.contexts[-1]
    assert (last.operation, last.size, last.stored_size) == ("get", 4, 7)
    assert last.applied == ["t"]


async def test_hints_and_late_metadata_are_recorded(store: Trove) -> None:
    class Hinting(Tag):
        async def write(self, chunks: trove.Chunks, context: Context) -> trove.Chunks:
            context.hints["frame"] = "17"
            context.late.append(lambda: {"trovelate": str(context.digest and context.digest.count)})
            return await super().write(chunks, context)

        async def read(self, chunks: trove.Chunks, context: Context) -> trove.Chunks:
            assert context.hints == {"frame": "17"}
            return await super().read(chunks, context)

    store.use(Hinting("t"))
    info = await store.put("box", "k", b"body")
    assert info.metadata == {}
    async with store.get("box", "k", raw=True) as reader:
        assert reader.info.metadata["trovefmt"] == "1;t;frame=17"
        assert reader.info.metadata["trovelen"] == "4"
        assert reader.info.metadata["trovelate"] == "4"
        assert reader.info.metadata["trovedig"] == info.checksum
    assert await store.get_bytes("box", "k") == b"body"
    assert (await store.head("box", "k")).metadata == {}


async def test_raw_moves_stored_bytes_both_ways(store: Trove) -> None:
    store.use(Tag("t"))
    await store.put("box", "k", b"body", metadata={"who": "ana"}, content_type="text/x-one")
    async with store.get("box", "k", raw=True) as reader:
        info, data = reader.info, await reader.read()
    assert data == b"<t>body"
    assert (info.size, info.stored_size, info.encodings) == (7, 7, None)
    copy = await store.put(
        "box", "copy", data, raw=True, metadata=dict(info.metadata), content_type=info.content_type
    )
    assert copy.metadata == info.metadata
    assert await store.get_bytes("box", "copy") == b"body"
    seen = await store.head("box", "copy")
    assert (seen.size, seen.metadata, seen.encodings) == (4, {"who": "ana"}, ("t",))
    bare = await store.put("box", "bare", b"bytes", raw=True)
    assert bare.metadata == {}  # no record is written
    assert await store.get_bytes("box", "bare") == b"bytes"


async def test_reserved_names_are_refused_but_for_raw(store: Trove) -> None:
    for name in ("trovefmt", "TroveAnything", "trove"):
        with pytest.raises(InvalidMetadataError):
            await store.put("box", "k", b"", metadata={name: "1"})
        with pytest.raises(InvalidMetadataError):
            await store.copy("box", "k", "box", "l", metadata={name: "1"})
    assert not await store.exists("box", "k")


def test_what_is_no_layer_is_refused_at_once() -> None:
    from trove_async.middleware.pipeline import Pipeline

    class NoWrite:
        name = "broken"
        direction = Direction.WRITE
        stage = Stage.OBSERVE

    pipeline = Pipeline()
    with pytest.raises(TypeError, match="no write"):
        pipeline.use(NoWrite())
    with pytest.raises(TypeError, match="no middleware"):
        pipeline.use(object())  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidConfigError):
        pipeline.use(Tag("Not An Encoding"))
    with pytest.raises(InvalidConfigError):
        pipeline.use(Tag("early", Stage.OBSERVE))
    assert pipeline.registrations() == []


def test_a_wrong_route_or_layer_fails_before_anything_opens() -> None:
    from trove_async.drivers.memory import MemoryDriver

    with pytest.raises(TypeError):
        Trove(object())  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="chunk_size"):
        Trove(MemoryDriver(), chunk_size=0)
    with pytest.raises(trove.InvalidInputError):
        Trove(MemoryDriver(), checksum="md5")  # type: ignore[arg-type]  # that is the point
