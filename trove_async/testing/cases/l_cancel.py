"""L. Cancellation at every point where it can be felt: old or new, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from trove_async import Trove
from trove_async.driver import MultipartDriver, PutOptions, capability
from trove_async.errors import TroveError, UploadNotFoundError
from trove_async.model import CommonPrefix
from trove_async.testing.case import Deliberate, case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.faults import Source, stalled
from trove_async.testing.harness import Harness
from trove_async.testing.setups import Place, faulty_place, files_of, place_of
from trove_async.testing.stepper import Step, cancel_everywhere

OLD = b"old" * 10
META = {"n": "new"}
BOTH = ["plain", "stepped"]


def bodies(streamed: bool) -> tuple[bytes, Callable[[], bytes | Source]]:
    """(the bytes, a fresh body of them)."""
    if not streamed:
        return b"new" * 20, lambda: b"new" * 20
    body = noise(1_500_000)
    return body, lambda: Source(body, 400_000, delay=0)


async def put_old(place: Place) -> None:
    await place.store.put(place.bucket, "k", OLD, metadata={"n": "old"})


async def check_old_or_new(place: Place, new: bytes) -> None:
    async with place.store.get(place.bucket, "k") as reader:
        body, metadata = await reader.read(), dict(reader.info.metadata)
    assert (body, metadata) in ((OLD, {"n": "old"}), (new, META)), (
        f"neither old nor new: {len(body)} bytes, {metadata}"
    )
    assert await place.uploads() == [], "an unfinished upload is left"


@case("K169", "cancel_put_every_await", params=BOTH)
async def cancel_put_every_await(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)
    for streamed in (False, True):
        await _swept_puts(place, streamed, twice=False)


async def _swept_puts(place: Place, streamed: bool, *, twice: bool) -> None:
    new, fresh = bodies(streamed)
    made: list[Source] = []

    def put() -> Coroutine[object, object, object]:
        body = fresh()
        if isinstance(body, Source):
            made.append(body)
        return place.store.put(place.bucket, "k", body, metadata=META)

    async def before() -> None:
        made.clear()
        await put_old(place)

    async def check(step: Step) -> None:
        for body in made:
            assert body.closed == 1 or (body.given == 0 and not body.closed), (
                f"the body was closed {body.closed} times"
            )
        await check_old_or_new(place, new)

    await put_old(place)
    files = files_of(place.driver)
    points = await cancel_everywhere(put, before=before, check=check, twice=twice)
    if streamed:
        assert points >= 4, f"only {points} places to cancel a streamed put"
    await put_old(place)
    assert files_of(place.driver) <= files, "a temporary file is left"


@case("K170", "cancel_get_every_await", params=BOTH)
async def cancel_get_every_await(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)
    body = noise(2_500_000 if h.bare else 50_000)
    await place.store.put(place.bucket, "k", body)

    async def get() -> None:
        pauses = 4  # transforms may give the body in thousands of chunks
        async with place.store.get(place.bucket, "k") as reader:
            async for _ in reader:
                if pauses:
                    pauses -= 1
                    await asyncio.sleep(0)

    async def check(step: Step) -> None:
        assert await place.get("k") == body

    assert await cancel_everywhere(get, check=check) >= 1

    async def rest() -> None:
        await place.store.get_bytes(place.bucket, "k", range=slice(20_000, None))

    await cancel_everywhere(rest, check=check)


@case("K171", "cancel_list_every_await", params=BOTH)
async def cancel_list_every_await(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)
    keys = ["a/1", "a/2", "b", "c", "d/e/f"]
    for key in keys:
        await place.store.put(place.bucket, key, b"")

    async def listing(delimiter: str | None = None) -> list[str]:
        found: list[str] = []
        entries = place.store.list(place.bucket, page_size=2, delimiter=delimiter)
        async for entry in entries:
            found.append(entry.prefix if isinstance(entry, CommonPrefix) else entry.key)
            await asyncio.sleep(0)
        return found

    async def check(step: Step) -> None:
        assert sorted(await listing()) == keys

    assert await cancel_everywhere(listing, check=check) >= len(keys)
    await cancel_everywhere(lambda: listing("/"), check=check)


@case("K172", "cancel_copy_every_await", params=BOTH)
async def cancel_copy_every_await(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)
    await _swept_copies(place, "copy", twice=False)
    await _swept_copies(place, "move", twice=False)


async def _swept_copies(place: Place, verb: str, *, twice: bool) -> None:
    new = noise(1_200_000, 172)
    store = place.store

    async def before() -> None:
        await put_old(place)
        await store.put(place.bucket, "source", new, metadata=META)

    async def check(step: Step) -> None:
        await check_old_or_new(place, new)
        if verb == "copy" or await place.get("k") == OLD:
            assert await place.get("source") == new, "the source is gone"

    transfer = store.copy if verb == "copy" else store.move
    await before()
    files = files_of(place.driver)
    await cancel_everywhere(
        lambda: transfer(place.bucket, "source", place.bucket, "k"),
        before=before,
        check=check,
        twice=twice,
    )
    assert files_of(place.driver) <= files, "a temporary file is left"


def _multipart(place: Place) -> MultipartDriver:
    able = capability(place.driver, MultipartDriver)
    assert able is not None
    return able


@case("K173", "cancel_multipart_every_await", needs=["multipart"], params=BOTH, stacks=False)
async def cancel_multipart_every_await(h: Harness, kind: str) -> None:
    await _swept_uploads(await place_of(h, kind), h, twice=False)


async def _swept_uploads(place: Place, h: Harness, *, twice: bool) -> None:
    part = noise(max(h.features.min_part_size or 0, 600_000))
    able, bucket = _multipart(place), place.bucket
    options = PutOptions(metadata=META)
    upload = ""

    async def checked(step: Step) -> None:
        assert await place.get("k") == OLD, "an unfinished upload shows"

    async def clear() -> None:
        for left in await place.uploads():
            await able.abort_multipart(bucket, "k", left)
        assert await place.uploads() == [], "an upload that is listed cannot be aborted"

    async def fresh() -> None:
        nonlocal upload
        await clear()
        await put_old(place)
        upload = await able.initiate_multipart(bucket, "k", options)

    def send() -> Coroutine[object, object, object]:
        body = Source(part, 200_000, delay=0)
        return able.upload_part(bucket, "k", upload, 1, body, len(part))

    async def finish() -> None:
        sent = await able.upload_part(bucket, "k", upload, 1, Source(part), len(part))
        await able.complete_multipart(bucket, "k", upload, [sent], options)
        assert await place.get("k") == part

    async def part_cancelled(step: Step) -> None:
        await checked(step)
        await finish()

    async def complete() -> None:
        sent = (await able.list_parts(bucket, "k", upload))[0]
        await able.complete_multipart(bucket, "k", upload, [sent], options)

    async def with_part() -> None:
        await fresh()
        await send()

    async def complete_cancelled(step: Step) -> None:
        found = await place.get("k")
        assert found in (OLD, part), "torn"
        if found == OLD:
            await finish()
        else:
            assert upload not in await place.uploads(), "completed, and still open"

    async def abort_cancelled(step: Step) -> None:
        await checked(step)
        with suppress(UploadNotFoundError):
            await able.abort_multipart(bucket, "k", upload)
        assert upload not in await place.uploads()

    await put_old(place)
    files = files_of(place.driver)
    await cancel_everywhere(
        lambda: able.initiate_multipart(bucket, "k", options),
        before=clear,
        check=checked,
        twice=twice,
    )
    await cancel_everywhere(send, before=fresh, check=part_cancelled, twice=twice)
    await cancel_everywhere(complete, before=with_part, check=complete_cancelled, twice=twice)
    await cancel_everywhere(
        lambda: able.abort_multipart(bucket, "k", upload),
        before=with_part,
        check=abort_cancelled,
        twice=twice,
    )
    await clear()
    assert files_of(place.driver) <= files, "a temporary file is left"


@case("K174", "cancel_open_close_every_await", stacks=False)
async def cancel_open_close_every_await(h: Harness) -> None:
    """Cancelled, a driver and a store can be opened and closed again, and nothing stays."""
    driver = h.new_driver()

    async def cycle() -> None:
        await driver.open()
        await driver.ping()
        await driver.close()

    async def check(step: Step) -> None:
        await driver.close()
        await cycle()

    await cancel_everywhere(cycle, check=check, twice=True)
    store = Trove(h.new_driver())

    async def life() -> None:
        async with store:
            await store.ping()

    async def check_store(step: Step) -> None:
        await store.aclose()
        await life()

    await cancel_everywhere(life, check=check_store, twice=True)


@case("K175", "cancel_twice", params=BOTH, timeout=180)
async def cancel_twice(h: Harness, kind: str) -> None:
    """The second cancel comes while the first is cleaned up."""
    place = await place_of(h, kind)
    for streamed in (False, True):
        await _swept_puts(place, streamed, twice=True)
    await _swept_copies(place, "copy", twice=True)
    await _swept_copies(place, "move", twice=True)
    await place.store.delete(place.bucket, "source")
    if h.bare and capability(place.driver, MultipartDriver) is not None:
        await _swept_uploads(place, h, twice=True)


@case("K176", "cancel_does_not_swallow")
async def cancel_does_not_swallow(h: Harness) -> None:
    """A cancelled task ends cancelled, and a time limit becomes a TimeoutError."""
    place, _ = await faulty_place(h, stalled(50_000))
    await put_old(place)
    await place.store.put(place.bucket, "large", noise(100_000))

    async def hanging_get() -> None:
        async with place.store.get(place.bucket, "large") as reader:
            await reader.read()

    async def hanging_put() -> None:
        source = Source(b"x" * 100, 10, gate=asyncio.Event())
        try:
            await place.store.put(place.bucket, "k", source)
        finally:
            assert source.closed == 1

    # A get hangs only where this driver has the body.
    for work in (hanging_put, hanging_get) if h.stack.keeps_bodies else (hanging_put,):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.02)
        assert not task.done(), "it should wait for its body"
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled(), f"the cancel came to {task!r}"
        limited = False
        try:
            async with asyncio.timeout(0.02):
                await work()
        except TimeoutError as error:
            limited = not isinstance(error, TroveError)
        assert limited, "asyncio.timeout did not become its TimeoutError"
    assert (await place.store.head(place.bucket, "k")).metadata["n"] == "old"


@case("K178", "cancel_in_taskgroup")
async def cancel_in_taskgroup(h: Harness) -> None:
    """A sibling fails during a put: only its error comes out, and the old object stays."""
    place = Place(h.store, h.driver, h.bucket)
    await put_old(place)
    source = Source(noise(300_000), 50_000, gate=asyncio.Event(), gate_at=3)

    async def sibling() -> None:
        await source.waiting.wait()
        raise Deliberate("the sibling")

    errors: tuple[BaseException, ...] = ()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(h.put("k", source))
            group.create_task(sibling())
    except BaseExceptionGroup as raised:
        errors = raised.exceptions
    assert [type(error) for error in errors] == [Deliberate], f"the group raised {errors}"
    assert source.closed == 1
    await check_old_or_new(place, OLD)


@case("K179", "cancel_during_aexit")
async def cancel_during_aexit(h: Harness) -> None:
    """The store is closed all the same, with its driver; also with a reader still open."""
    driver = h.new_driver()

    async def life() -> None:
        async with Trove(driver) as store:
            await store.ping()

    async def check(step: Step) -> None:
        await driver.close()
        await driver.open()
        await driver.ping()
        await driver.close()

    await cancel_everywhere(life, check=check, twice=True)
    await h.put("k", noise(3_000_000))

    async def read() -> None:
        async with h.store.get(h.bucket, "k") as reader:
            async for _ in reader:
                return

    async def check_read(step: Step) -> None:
        assert len(await h.get("k")) == 3_000_000

    await cancel_everywhere(read, check=check_read, twice=True)
