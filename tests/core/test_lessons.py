"""Defects of an earlier design, each a test under its old number; none may come back."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Source, Tag
from tests.transforms import Flip, Xor
from trove_async import (
    BackendNotFoundError,
    BucketExistsError,
    BucketNotFoundError,
    ChecksumMismatchError,
    Context,
    Features,
    InvalidRangeError,
    ObjectInfo,
    ObjectNotFoundError,
    RetryPolicy,
    Stage,
    Timeouts,
    Trove,
    UnavailableError,
    UnknownEncodingError,
    UnsupportedError,
    VersionNotFoundError,
    content_types,
    keys,
    when,
)
from trove_async.drivers.memory import MemoryDriver

TEXT = b"the same words again and again. " * 200


@pytest.fixture
async def store() -> AsyncIterator[Trove]:
    async with trove.open("mem://") as opened:
        await opened.create_bucket("box")
        yield opened


@pytest.fixture(params=["memory", "local"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> trove.Driver:
    if request.param == "memory":
        return MemoryDriver()
    dsn = trove.parse_dsn(f"file://{tmp_path}?durability=none")
    return trove.lookup(dsn.scheme)(dsn)


# -- M: the pipeline -----------------------------------------------------------------------


@pytest.mark.parametrize("compress_first", [True, False])
async def test_M1_reads_undo_layers_in_the_opposite_order(
    store: Trove, compress_first: bool
) -> None:
    layers: list[trove.Middleware] = [Flip(), Xor()] if compress_first else [Xor(), Flip()]
    for layer in layers:
        store.use(layer)
    info = await store.put("box", "k", TEXT)
    assert info.encodings == ("flip", "xor")
    assert info.stored_size < len(TEXT) / 4  # compressed before it was sealed, in both orders
    assert await store.get_bytes("box", "k") == TEXT


async def test_M1_two_seals_with_different_keys_come_off_again(store: Trove) -> None:
    store.use(Tag("red", Stage.ENCRYPT, encoding="seal"))
    store.use(Tag("blue", Stage.ENCRYPT, encoding="seal"))
    await store.put("box", "k", TEXT)
    assert await store.get_bytes("box", "k") == TEXT


async def test_M3_a_rule_about_the_caller_is_asked_for_every_operation(store: Trove) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="open")

    def is_sealed(context: Context) -> bool:
        return tenant.get() == "sealed"

    store.use(Xor(), scope=when(is_sealed, "sealed tenant"))

    async def put_as(name: str) -> ObjectInfo:
        tenant.set(name)
        return await store.put("box", "same/key", TEXT)

    for name, encodings in (("open", ()), ("sealed", ("xor",)), ("open", ()), ("sealed", ("xor",))):
        info = await asyncio.create_task(put_as(name))  # each with a context of its own
        assert info.encodings == encodings
        assert await store.get_bytes("box", "same/key") == TEXT


async def test_M3_names_with_separators_are_not_confused(store: Trove) -> None:
    store.use(Xor(), scope=keys("b:c"))
    await store.create_bucket("a.b")
    assert (await store.put("box", "b:c", b"x")).encodings == ("xor",)
    assert (await store.put("a.b", "c", b"x")).encodings == ()
    assert (await store.put("box", "c", b"x")).encodings == ()


async def test_M4_a_copy_across_scopes_is_encoded_for_its_new_place(store: Trove) -> None:
    store.use(Xor(), scope=keys("secret/*"))
    await store.put("box", "secret/a", TEXT)
    await store.put("box", "public/a", TEXT)
    outward = await store.copy("box", "secret/a", "box", "public/b")
    inward = await store.copy("box", "public/a", "box", "secret/b")
    assert (outward.encodings, inward.encodings) == ((), ("xor",))
    for key in ("public/b", "secret/b"):
        assert await store.get_bytes("box", key) == TEXT
    async with store.get("box", "public/b", raw=True) as reader:
        assert await reader.read() == TEXT
    moved = await store.move("box", "secret/b", "box", "public/c")
    assert moved.encodings == ()
    assert await store.get_bytes("box", "public/c") == TEXT


async def test_M4_one_encoding_with_two_keys_is_never_copied_as_it_is() -> None:
    """Two tenants: the bytes of one must not come to lie under the other's name."""
    driver = Faulty()
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        store.use(Xor(), scope=keys("a/*"))
        store.use(Xor(), scope=keys("b/*"))
        await store.put("box", "a/k", TEXT)
        await store.copy("box", "a/k", "box", "a/same")
        assert "copy" in driver.verbs()
        driver.forget()
        copied = await store.copy("box", "a/k", "box", "b/k")
        assert "copy" not in driver.verbs() and copied.encodings == ("xor",)
        assert await store.get_bytes("box", "b/k") == TEXT


async def test_M4_a_change_of_layers_leaves_old_objects_readable(store: Trove) -> None:
    await store.put("box", "plain", TEXT)
    store.use(Xor())
    await store.put("box", "xor", TEXT)
    store.use(Flip())
    await store.put("box", "both", TEXT)
    for key in ("plain", "xor", "both"):
        assert await store.get_bytes("box", key) == TEXT
        assert await store.get_bytes("box", key, range=slice(7, 99)) == TEXT[7:99]
    store.remove("flip")
    assert await store.get_bytes("box", "xor") == TEXT
    with pytest.raises(UnknownEncodingError):
        await store.get_bytes("box", "both")


async def test_M7_two_hundred_failed_puts_leave_nothing(recwarn: pytest.WarningsRecorder) -> None:
    driver = Faulty()
    async with trove.open(
        driver, middleware=[Xor(), Flip()], retry=RetryPolicy(attempts=1)
    ) as store:
        await store.create_bucket("box")
        tasks = asyncio.all_tasks()
        sources = [Source() for _ in range(200)]
        driver.fail("put", UnavailableError("no"), times=200)
        for source in sources:
            with pytest.raises(UnavailableError):
                await store.put("box", "k", source)
        assert [source.closed for source in sources] == [1] * 200
        assert asyncio.all_tasks() == tasks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


async def test_M7_a_layer_that_breaks_breaks_its_operation_only(store: Trove) -> None:
    store.use(Tag("t", fail="decide"), scope=keys("bad/*"))
    with pytest.raises(RuntimeError, match="cannot decide"):
        await store.put("box", "bad/k", TEXT)
    await store.put("box", "good", TEXT)
    assert await store.get_bytes("box", "good") == TEXT


@pytest.mark.parametrize("layers", [[], [Flip()], [Xor()], [Flip(), Xor()]])
async def test_M9_sizes_are_logical_everywhere(layers: list[trove.Middleware]) -> None:
    async with trove.open("mem://", middleware=layers) as store:
        await store.create_bucket("box")
        put = await store.put("box", "k", TEXT)
        (listed,) = [entry async for entry in store.list("box")]
        (paged,) = (await store.list_page("box")).objects
        async with store.get("box", "k") as reader:
            got = reader.info
        head = await store.head("box", "k")
        copied = await store.copy("box", "k", "box", "l")
        for info in (put, listed, paged, got, head, copied):
            assert isinstance(info, ObjectInfo)
            assert info.size == len(TEXT)
        assert (put.stored_size == len(TEXT)) == (not layers)
        assert put == head == got == listed


async def test_M10_a_range_is_never_ignored(driver: trove.Driver) -> None:
    stacks: list[list[trove.Middleware]] = [[], [Flip()], [Xor()], [Flip(), Xor()]]
    for layers in stacks:
        async with trove.open(driver, middleware=layers) as store:
            await store.create_bucket("box")
            await store.put("box", "k", TEXT)
            assert await store.get_bytes("box", "k", range=slice(5, 15)) == TEXT[5:15]
            assert await store.get_bytes("box", "k", range=slice(-15, None)) == TEXT[-15:]
            many = await store.get_ranges("box", "k", [slice(0, 3), slice(-3, None)])
            assert many == [TEXT[:3], TEXT[-3:]]
            with pytest.raises(InvalidRangeError):
                await store.get_bytes("box", "k", range=slice(len(TEXT), None))
            await store.delete_bucket("box", force=True)


async def test_M10_a_version_is_given_or_refused() -> None:
    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        first = await store.put("box", "k", b"first")
        await store.put("box", "k", b"second")
        assert first.version_id is not None
        assert await store.get_bytes("box", "k", version_id=first.version_id) == b"first"
        with pytest.raises(VersionNotFoundError):
            await store.get_bytes("box", "k", version_id="nonesuch")
    async with trove.open(Faulty()) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"only")
        with pytest.raises(UnsupportedError):
            await store.get_bytes("box", "k", version_id="any")


@pytest.mark.parametrize(
    ("scope", "key", "content_type", "is_hit"),
    [
        ("image/*", "a.png", None, True),
        ("image/*", "a.bin", "image/x-own", True),
        ("image/*", "a.image", None, False),
        ("application/json", "a.json", None, True),
        ("application/json", "a", "Application/JSON; charset=utf-8", True),
        ("application/json", "a.txt", None, False),
        ("text/*", "a.png", None, False),
    ],
)
async def test_M13_a_content_type_scope_looks_at_the_content_type(
    store: Trove, scope: str, key: str, content_type: str | None, is_hit: bool
) -> None:
    store.use(Tag("t"), scope=content_types(scope))
    info = await store.put("box", key, b"x", content_type=content_type)
    assert info.encodings == (("t",) if is_hit else ())


# -- R: core, routing, settings ------------------------------------------------------------


@pytest.fixture
async def routed() -> AsyncIterator[Trove]:
    async with trove.open(
        "mem://", backends={"logs": "mem://"}, routes=[("*.log", "logs")]
    ) as opened:
        await opened.create_bucket("box")
        yield opened


async def test_R1_routed_objects_are_listed_and_stars_match_slashes(routed: Trove) -> None:
    for key in ("logs/app.log", "a.txt", "z.log"):
        await routed.put("box", key, b"")
    assert await routed.backend("logs").exists("box", "logs/app.log")
    assert [e.key async for e in routed.list("box")] == ["a.txt", "logs/app.log", "z.log"]  # type: ignore[union-attr]  # no delimiter
    page = await routed.list_page("box", delimiter="/")
    assert ([e.key for e in page.objects], page.prefixes) == (["a.txt", "z.log"], ["logs/"])


async def test_R2_a_copy_lands_where_its_new_name_belongs(routed: Trove) -> None:
    await routed.put("box", "data.txt", TEXT)
    await routed.copy("box", "data.txt", "box", "copy.log")
    assert await routed.get_bytes("box", "copy.log") == TEXT
    assert await routed.backend("logs").exists("box", "copy.log")
    assert not await routed.backend("default").exists("box", "copy.log")


async def test_R3_buckets_and_health_concern_every_backend(routed: Trove) -> None:
    await routed.create_bucket("more")
    for name in ("default", "logs"):
        handle = routed.backend(name)
        assert [b.name for b in await handle.list_buckets()] == ["box", "more"]
    assert set(await routed.ping()) == {"default", "logs"}
    await routed.delete_bucket("more")
    for name in ("default", "logs"):
        assert [b.name for b in await routed.backend(name).list_buckets()] == ["box"]


async def test_R4_closing_a_pinned_handle_leaves_its_parent_open(routed: Trove) -> None:
    pinned = routed.backend("logs")
    bucket = pinned.bucket("box")
    await pinned.aclose()
    await routed.put("box", "k", TEXT)
    await bucket.put("l", TEXT)
    assert await pinned.exists("box", "l")
    async with trove.open("mem://", backends={"b": "mem://"}, default_bucket="box") as store:
        await store.create_bucket("box")
        await store.backend("b").bucket().put("k", b"")  # the default bucket comes along
        assert await store.backend("b").exists(None, "k")


async def test_R5_errors_are_those_of_the_tree(driver: trove.Driver) -> None:
    async with trove.open(driver) as store:
        with pytest.raises(BucketNotFoundError):
            await store.put("nowhere", "k", b"")
        await store.create_bucket("box")
        with pytest.raises(BucketExistsError):
            await store.create_bucket("box")
        for call in (
            store.get_bytes("box", "k"),
            store.head("box", "k"),
            store.copy("box", "k", "box", "l"),
            store.move("box", "k", "box", "l"),
        ):
            with pytest.raises(ObjectNotFoundError) as caught:
                await call
            assert isinstance(caught.value, FileNotFoundError)
            assert caught.value.http_status == 404
        with pytest.raises(BackendNotFoundError):
            store.backend("nowhere")
        await store.put("box", "k", b"")
        with pytest.raises(trove.BucketNotEmptyError):
            await store.delete_bucket("box")


async def test_R5_only_a_missing_key_does_not_exist() -> None:
    driver = Faulty()
    async with trove.open(driver, retry=RetryPolicy(attempts=1)) as store:
        await store.create_bucket("box")
        assert not await store.exists("box", "k")
        driver.fail("head", UnavailableError("no"))
        with pytest.raises(UnavailableError):
            await store.exists("box", "k")
        driver.fail("head", trove.PermissionDeniedError("no"))
        with pytest.raises(trove.PermissionDeniedError):
            await store.exists("box", "k")
        with pytest.raises(BucketNotFoundError):
            await store.exists("nowhere", "k")


async def test_R6_every_setting_has_an_effect() -> None:
    driver = Faulty(chunk=100)
    async with trove.open(
        driver,
        checksum="sha256",
        chunk_size=300,
        retry=RetryPolicy(attempts=2, base=0.001),
        timeouts=Timeouts(read=0.05),
        default_bucket="box",
    ) as store:
        await store.create_bucket("box")
        seen: list[int] = []

        class Seen(Tag):
            async def write(self, chunks: trove.Chunks, context: Context) -> trove.Chunks:
                return self._level(self._counted(chunks))

            async def _counted(self, chunks: trove.Chunks) -> AsyncGenerator[bytes, None]:
                async for chunk in chunks:
                    seen.append(len(chunk))
                    yield bytes(chunk)

        store.use(Seen("t"), scope=keys("seen"))
        info = await store.put(None, "seen", bytes(1000))
        assert max(seen) == 300  # chunk_size
        assert info.checksum is not None and info.checksum.startswith("sha256:")
        await store.put(None, "k", bytes(1000))
        driver.forget()
        driver.fail("head", UnavailableError("busy"), times=2)
        with pytest.raises(UnavailableError):
            await store.head(None, "k")
        assert driver.verbs() == ["head", "head"]
        driver.hang("head")
        await store.head(None, "k")  # timed out once, then answered
        driver.body(500, "corrupt")
        with pytest.raises(ChecksumMismatchError):
            await store.get_bytes(None, "k")


# -- L8: etags and times -------------------------------------------------------------------


async def test_L8_put_head_list_and_get_agree(driver: trove.Driver) -> None:
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        put = await store.put("box", "k", TEXT, metadata={"a": "b"}, content_type="x/y")
        head = await store.head("box", "k")
        (listed,) = [entry async for entry in store.list("box")]
        async with store.get("box", "k") as reader:
            got = reader.info
        assert put == head == got == listed


async def test_L8_equal_lengths_have_different_etags(driver: trove.Driver) -> None:
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        etags = set()
        for number in range(50):
            etags.add((await store.put("box", "k", b"%02d" % number)).etag)
        assert len(etags) == 50


async def test_L8_metadata_is_not_shared_with_the_caller(driver: trove.Driver) -> None:
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        mine = {"a": "1"}
        tags = {"t": "1"}
        with_tags = tags if driver.name == "memory" else None
        info = await store.put("box", "k", b"", metadata=mine, tags=with_tags)
        mine["a"] = tags["t"] = "changed"
        assert (await store.head("box", "k")).metadata == {"a": "1"}
        if with_tags is not None:
            assert await store.get_tags("box", "k") == {"t": "1"}
        held = info.metadata
        assert isinstance(held, dict)
        held["a"] = "changed"
        assert (await store.head("box", "k")).metadata == {"a": "1"}


async def test_L8_a_feature_not_declared_is_refused_not_ignored() -> None:
    driver = Faulty(features=Features())
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        with pytest.raises(UnsupportedError):
            await store.put("box", "k", b"", tags={"a": "b"})
        assert not await store.exists("box", "k")
