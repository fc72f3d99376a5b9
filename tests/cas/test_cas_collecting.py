"""The collector's rules, over a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.cas.contents import DAY, HOUR, LARGE, blob_keys, key_of, name_of, read, streamed
from tests.catalog.conftest import Clock
from trove_async import BlobNotFoundError, DeleteResult, PermissionDeniedError, Trove
from trove_async.cas import CAS, GCResult


async def freed(cas: CAS) -> GCResult:
    return await cas.gc(grace=0, settle=0)


async def test_one_call_frees_it_without_grace(store: Trove, cas: CAS) -> None:
    kept = await cas.store(b"kept")
    for data in (b"dead", LARGE):
        await cas.release((await cas.store(data)).digest)
    result = await freed(cas)
    assert (result.scanned, result.condemned, result.deleted) == (3, 2, 2)
    assert (result.freed_bytes, result.errors) == (4 + len(LARGE), [])
    assert await blob_keys(store) == [key_of(b"kept")]
    assert not await cas.exists(name_of(b"dead"))
    assert await read(cas, kept.digest) == b"kept"
    assert (await freed(cas)).deleted == 0


async def test_grace_and_then_settling_pass_before_it_goes(
    store: Trove, cas: CAS, clock: Clock
) -> None:
    stored = await cas.store(b"content")
    await cas.release(stored.digest)
    clock.pass_(DAY - 1)
    assert (await cas.gc()).condemned == 0
    clock.pass_(2)
    assert await gone(cas) == (1, 0)
    assert (await cas.stat(stored.digest)).state == "condemned"
    assert await read(cas, stored.digest) == b"content"  # still readable
    clock.pass_(HOUR - 1)
    assert await gone(cas) == (0, 0)
    clock.pass_(2)
    assert await gone(cas) == (0, 1)
    with pytest.raises(BlobNotFoundError):
        await cas.retrieve(stored.digest)
    assert await blob_keys(store) == []


async def gone(cas: CAS) -> tuple[int, int]:
    result = await cas.gc()
    assert result.errors == []
    return result.condemned, result.deleted


async def test_the_grace_begins_with_the_last_release(cas: CAS, clock: Clock) -> None:
    stored = await cas.store(b"content", owner="a")
    clock.pass_(10 * DAY)
    await cas.store(b"content", owner="b")
    await cas.release(stored.digest, owner="a")
    clock.pass_(10 * DAY)
    await cas.release(stored.digest, owner="b")
    assert await gone(cas) == (0, 0)
    clock.pass_(DAY + 1)
    assert await gone(cas) == (1, 0)


async def test_a_store_brings_back_what_is_condemned(store: Trove, cas: CAS, clock: Clock) -> None:
    stored = await cas.store(b"content", owner="a")
    await cas.release(stored.digest, owner="a")
    clock.pass_(DAY + 1)
    await cas.gc()
    again = await cas.store(b"content", owner="b")
    assert again.deduplicated
    clock.pass_(10 * DAY)
    assert await gone(cas) == (0, 0)
    assert await blob_keys(store) == [key_of(b"content", 0)]


async def test_deleted_content_comes_back_with_another_generation(store: Trove, cas: CAS) -> None:
    """So a delete of the first one that arrives late cannot hit the second."""
    for gen in range(3):
        stored = await cas.store(b"content")
        assert not stored.deduplicated
        assert await blob_keys(store) == [key_of(b"content", gen)]
        await cas.release(stored.digest)
        await freed(cas)
    await cas.store(b"content")
    for gen in range(3):
        await store.delete("cas", key_of(b"content", gen))  # late
    assert await read(cas, name_of(b"content")) == b"content"


async def test_tombstones_are_forgotten_after_thirty_days(
    store: Trove, cas: CAS, clock: Clock
) -> None:
    await cas.release((await cas.store(b"content")).digest)
    await freed(cas)
    clock.pass_(29 * DAY)
    await cas.gc()
    await cas.release((await cas.store(b"content")).digest)
    assert await blob_keys(store) == [key_of(b"content", 1)]
    await freed(cas)
    clock.pass_(31 * DAY)
    await cas.gc()
    await cas.store(b"content")
    assert await blob_keys(store) == [key_of(b"content", 0)]


async def test_pins_keep_it_until_they_end(cas: CAS, clock: Clock) -> None:
    stored = await cas.store(b"content")
    forever = await cas.pin(stored.digest, reason="legal")
    await cas.pin(stored.digest, ttl=10 * DAY)
    await cas.release(stored.digest)
    assert (await cas.stat(stored.digest)).pinned
    clock.pass_(5 * DAY)
    assert await gone(cas) == (0, 0)
    assert await cas.unpin(forever) == 1
    assert await cas.unpin(forever) == 0
    assert await gone(cas) == (0, 0)
    clock.pass_(5 * DAY + 1)
    assert not (await cas.stat(stored.digest)).pinned
    assert await gone(cas) == (1, 0)
    await cas.pin(stored.digest)  # brings it back
    assert (await cas.stat(stored.digest)).state == "live"
    clock.pass_(DAY)
    assert await gone(cas) == (0, 0)
    assert await cas.unpin(stored.digest) == 1  # the others have ended
    assert await gone(cas) == (1, 0)


async def test_a_pin_between_the_steps_is_seen(cas: CAS, clock: Clock) -> None:
    stored = await cas.store(b"content")
    await cas.release(stored.digest)
    clock.pass_(DAY + 1)
    assert await gone(cas) == (1, 0)
    await cas.pin(stored.digest)
    clock.pass_(DAY)
    assert await gone(cas) == (0, 0)
    assert await read(cas, stored.digest) == b"content"


async def test_a_dry_run_tells_and_does_nothing(store: Trove, cas: CAS, clock: Clock) -> None:
    await cas.release((await cas.store(b"dead")).digest)
    await store.put("cas", f"cas/sha256/00/{'0' * 64}~0", b"stray")
    for _ in range(2):
        result = await cas.gc(grace=0, settle=0, orphan_after=0, dry_run=True)
        assert (result.condemned, result.deleted, result.freed_bytes) == (1, 1, 4)
        clock.pass_(DAY)
    assert (await cas.stat(name_of(b"dead"))).state == "live"
    assert len(await blob_keys(store)) == 2
    await cas.gc()
    clock.pass_(2 * DAY)
    result = await cas.gc(dry_run=True)  # the condemned one, and the stray one seen before
    assert (result.condemned, result.deleted, result.freed_bytes) == (0, 2, 9)
    assert len(await blob_keys(store)) == 2


async def test_c2_a_store_beside_the_collector_is_kept(store: Trove, cas: CAS) -> None:
    """The Go original listed, then deleted: a store between the two was lost."""
    stored = await cas.store(b"content", owner="first")
    await cas.release(stored.digest, owner="first")

    async def storing(number: int) -> None:
        await cas.store(b"content", owner=f"o{number}")

    async def collecting() -> None:
        await freed(cas)

    for number in range(8):
        await asyncio.gather(storing(number), collecting(), storing(number + 100), collecting())
        assert await read(cas, stored.digest) == b"content"
        await cas.release(stored.digest, owner=f"o{number}")
        await cas.release(stored.digest, owner=f"o{number + 100}")
    assert (await cas.stat(stored.digest)).references == 0


async def test_f58_two_collectors_free_nothing_twice(cas: CAS) -> None:
    for number in range(30):
        await cas.release((await cas.store(bytes([number]) * 10)).digest)
    results = await asyncio.gather(*(freed(cas) for _ in range(3)))
    assert sum(result.condemned for result in results) == 30
    assert sum(result.deleted for result in results) == 30
    assert sum(result.freed_bytes for result in results) == 300


# -- what is refused, and what is left behind ---------------------------------------------------


class Refusing:
    """A store that deletes nothing of what is locked."""

    def __init__(self, store: Trove) -> None:
        self._store = store
        self.is_locked = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def delete_many(self, bucket: str | None, keys: Sequence[str]) -> list[DeleteResult]:
        if not self.is_locked:
            return await self._store.delete_many(bucket, keys)
        return [DeleteResult(key, PermissionDeniedError("locked", key=key)) for key in keys]


async def test_what_cannot_be_deleted_is_told_and_tried_again(timed: Trove) -> None:
    cas = timed.cas()
    refusing = Refusing(timed)
    cas._place.store = refusing  # type: ignore[assignment]  # the rest by __getattr__
    await cas.release((await cas.store(b"content")).digest)
    result = await freed(cas)
    assert (result.condemned, result.deleted, result.freed_bytes) == (1, 0, 0)
    assert [error.key for error in result.errors] == [key_of(b"content")]
    assert not await cas.exists(name_of(b"content"))
    assert not (await cas.store(b"content")).deduplicated  # under the next generation
    refusing.is_locked = False
    assert (await cas.gc(orphan_after=0)).deleted == 0
    assert (await cas.gc(orphan_after=0)).deleted == 1
    assert await blob_keys(timed) == [key_of(b"content", 1)]


async def test_an_unfinished_upload_is_collected_after_its_lease(
    store: Trove, cas: CAS, clock: Clock
) -> None:
    await cas.store(b"other")
    index = await cas._open_index()
    await index.begin("upload", "cas/tmp/upload", int(HOUR * 1_000_000))
    await store.put("cas", "cas/tmp/upload", b"half")
    await cas.gc()
    assert "cas/tmp/upload" in await blob_keys(store)
    clock.pass_(HOUR + 1)
    await cas.gc()
    assert await blob_keys(store) == [key_of(b"other")]
    assert await index.expired(10) == []


async def test_a_reservation_whose_writer_died_is_taken_over_or_collected(
    store: Trove, cas: CAS, clock: Clock
) -> None:
    await cas.store(b"other")
    index = await cas._open_index()
    for data in (b"one", b"two"):
        await index.claim(name_of(data), "dead", 1_000_000)
        await store.put("cas", key_of(data), data)
        assert not await cas.exists(name_of(data))
    stored = await cas.store(b"one")  # does not wait
    assert not stored.deduplicated and await read(cas, stored.digest) == b"one"
    clock.pass_(10)
    assert (await freed(cas)).deleted == 1
    assert await blob_keys(store) == sorted([key_of(b"one"), key_of(b"other")])
    await cas.store(b"two")
    assert key_of(b"two", 1) in await blob_keys(store)


async def test_a_writer_that_lost_its_reservation_ends_all_the_same(
    store: Trove, cas: CAS, clock: Clock
) -> None:
    """Its lease ended and the collector came while it wrote."""
    await cas.store(b"other")
    index = await cas._open_index()
    data = LARGE + b"x"

    class Slow:
        def __init__(self, inner: object) -> None:
            self._inner = inner
            self.is_first = True

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        async def commit(self, *args: object) -> bool:
            if self.is_first:
                self.is_first = False
                clock.pass_(2 * DAY)
                await index.doom(0, "", 100, dry=False)
            done: bool = await index.commit(*args)  # type: ignore[arg-type]
            return done

    slow = Slow(index)

    async def opened() -> object:
        return slow

    other = CAS(store, opened, None, None, bucket="cas")  # type: ignore[arg-type]  # reads nothing
    for body in (b"small", streamed(data)):
        slow.is_first = True
        stored = await other.store(body)
        assert (await cas.stat(stored.digest)).references == 1
        assert await read(cas, stored.digest)
    assert key_of(data, 1) in await blob_keys(store)


async def test_a_failed_body_leaves_nothing(store: Trove, cas: CAS) -> None:
    async def failing() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(1 << 20)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        await cas.store(failing())
    assert await blob_keys(store) == []
    clocked = await (await cas._open_index()).expired(10)
    assert clocked == []
