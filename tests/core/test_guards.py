"""Layers that demand to be there, and layers whose objects are bound to their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

import pytest

import trove_async as trove
from tests.transforms import Flip, Xor
from trove_async import Context, RangeSource
from trove_async._chunks import collect
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import DowngradeError, ObjectChangedError, PolicyError

BODY = b"some plain words " * 300


class Demanding(Xor):
    """Refuses objects without itself."""

    def admit(self, context: Context, encodings: Sequence[str]) -> None:
        if self.encoding not in encodings:
            raise DowngradeError("not masked")

    def admit_raw(self, context: Context) -> None:
        raise PolicyError("only masked objects go here")


class Bound(Xor):
    """Records the key it was made for; `relocated` writes the new one."""

    def __init__(self) -> None:
        self.relocations: list[tuple[str, str]] = []

    async def relocated(
        self, stored: RangeSource, source: Context, target: Context
    ) -> Mapping[str, str] | None:
        async with aclosing(stored.read(0, 4)) as chunks:
            assert await collect(chunks) == b"XOR1"
        assert source.applied == ["xor"]
        self.relocations.append((source.key, target.key))
        return {"troveat": target.key}


async def test_a_guard_refuses_reads_of_objects_without_it_in_its_scope_alone() -> None:
    driver = MemoryDriver()
    async with trove.open(driver, default_bucket="box") as plain:
        await plain.create_bucket("box")
        await plain.put(None, "secret/a", BODY)
        await plain.put(None, "public/a", BODY)
        await plain.put(None, "secret/foreign", BODY, raw=True)
    async with trove.open(driver, default_bucket="box") as store:
        store.use(Demanding(), scope=trove.keys("secret/*"))
        for key in ("secret/a", "secret/foreign"):
            for wanted in (None, slice(0, 5), slice(-5, None)):
                with pytest.raises(DowngradeError):
                    await store.get_bytes(None, key, range=wanted)
            with pytest.raises(DowngradeError):
                await store.get_ranges(None, key, [slice(0, 1), slice(2, 3)])
            with pytest.raises(DowngradeError):
                await store.copy(None, key, None, "public/b")
            assert (await store.head(None, key)).size == len(BODY)
            async with store.get(None, key, raw=True) as reader:
                assert await reader.read() == BODY
        assert await store.get_bytes(None, "public/a") == BODY
        assert await store.get_bytes(None, "public/a", range=slice(0, 5)) == BODY[:5]
        await store.put(None, "secret/b", BODY)
        assert await store.get_bytes(None, "secret/b") == BODY
        for _ in range(2):  # cold, then with a known layout
            assert await store.get_bytes(None, "secret/b", range=slice(3, 9)) == BODY[3:9]


async def test_a_guard_refuses_raw_puts_and_raw_copies_in_its_scope() -> None:
    async with trove.open("mem://", default_bucket="box") as store:
        await store.create_bucket("box")
        store.use(Demanding(), scope=trove.keys("secret/*"))
        with pytest.raises(PolicyError):
            await store.put(None, "secret/a", BODY, raw=True)
        await store.put(None, "public/a", BODY, raw=True)
        with pytest.raises(PolicyError):
            await store.copy(None, "public/a", None, "secret/a", raw=True)
        assert not await store.exists(None, "secret/a")
        await store.copy(None, "public/a", None, "secret/a")  # streamed through the layer
        assert (await store.head(None, "secret/a")).encodings == ("xor",)


async def test_an_object_replaced_by_a_plain_one_is_refused_also_when_its_layout_is_known() -> None:
    driver = MemoryDriver()
    async with trove.open(driver, default_bucket="box", middleware=[Demanding()]) as store:
        await store.create_bucket("box")
        await store.put(None, "a", BODY)
        assert await store.get_bytes(None, "a", range=slice(3, 9)) == BODY[3:9]
        async with trove.open(driver, default_bucket="box") as attacker:
            await attacker.put(None, "a", b"forged" * 1000)
            with pytest.raises(DowngradeError):
                await store.get_bytes(None, "a", range=slice(3, 9))


@pytest.mark.parametrize("verb", ["copy", "move"])
@pytest.mark.parametrize("metadata", [None, {"new": "1"}])
async def test_a_copy_by_the_backend_records_the_new_place(
    verb: str, metadata: Mapping[str, str] | None
) -> None:
    layer = Bound()
    async with trove.open("mem://", default_bucket="box", middleware=[layer]) as store:
        await store.create_bucket("box")
        await store.put(None, "a", BODY, metadata={"old": "1"})
        await getattr(store, verb)(None, "a", None, "b", metadata=metadata)
        assert layer.relocations == [("a", "b")]
        async with store.get(None, "b", raw=True) as reader:
            stored = reader.info.metadata
        assert stored["troveat"] == "b"
        assert stored["trovefmt"].startswith("1;xor")
        info = await store.head(None, "b")
        assert info.metadata == ({"old": "1"} if metadata is None else metadata)
        assert await store.get_bytes(None, "b") == BODY
        layer.relocations.clear()
        await store.copy(None, "b", None, "b", metadata={"again": "1"})
        assert not layer.relocations  # the same place


async def test_a_raw_copy_writes_the_stored_map_as_given_and_looks_at_no_layer() -> None:
    async with trove.open("mem://", default_bucket="box", middleware=[Xor()]) as store:
        await store.create_bucket("box")
        info = await store.put(None, "a", BODY, metadata={"user": "1"})
        async with store.get(None, "a", raw=True) as reader:
            stored = dict(reader.info.metadata)
            body = await reader.read()
        changed = {**stored, "troveword": "x"}
        await store.copy(None, "a", None, "a", metadata=changed, raw=True, if_match=info.etag)
        async with store.get(None, "a", raw=True) as reader:
            assert dict(reader.info.metadata) == changed
            assert await reader.read() == body
        assert await store.get_bytes(None, "a") == BODY
        with pytest.raises(ObjectChangedError):
            await store.copy(None, "a", None, "a", metadata=stored, raw=True, if_match="other")
        store.use(Flip())
        await store.copy(None, "a", None, "c", raw=True)
        assert (await store.head(None, "c")).encodings == ("xor",)


async def test_a_raw_copy_across_backends_keeps_the_record() -> None:
    async with trove.open(
        "mem://",
        default_bucket="box",
        backends={"other": "mem://"},
        routes=[("far/*", "other")],
        middleware=[Xor()],
    ) as store:
        await store.create_bucket("box")
        await store.put(None, "a", BODY, metadata={"user": "1"}, content_type="text/x-words")
        await store.copy(None, "a", None, "far/a", raw=True)
        async with (
            store.get(None, "a", raw=True) as near,
            store.get(None, "far/a", raw=True) as far,
        ):
            assert near.info.metadata == far.info.metadata
            assert far.info.content_type == "text/x-words"
            assert await near.read() == await far.read()
        assert await store.get_bytes(None, "far/a") == BODY
