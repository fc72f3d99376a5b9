"""Uploads in parts, and puts whose parts go side by side: composed at once, and nothing of them
shown, kept or lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.drivers.gcs.place import Place, opened, pieces, settled
from tests.servers import proxy as faults
from tests.servers.gcs import Server
from trove_async import InvalidKeyError, PreconditionFailedError, ThrottledError
from trove_async.driver import PutOptions
from trove_async.drivers.gcs.info import STAGED
from trove_async.drivers.gcs.staging import name_of_part
from trove_async.errors import InvalidPartError, UploadNotFoundError
from trove_async.model import CommonPrefix, MiB, PartInfo
from trove_async.testing.faults import Source

HALF = MiB // 2
BODY = b"".join(bytes([number]) * HALF for number in range(11))  # five parts and a half


class Deliberate(Exception):
    pass


async def _staged(place: Place) -> list[str]:
    """Names of all that is staged, also of what is past."""
    driver = place.beside.driver
    found, _ = await driver._staged(driver._now(), place.bucket, STAGED, past=True)  # type: ignore[attr-defined]
    return [one.name for one in found]


async def _sent(place: Place, upload: str, number: int, body: bytes = b"part") -> PartInfo:
    source = Source(body)
    return await place.driver.upload_part(place.bucket, "k", upload, number, source, len(body))


async def test_a_put_that_asks_for_it_sends_its_parts_side_by_side(place: Place) -> None:
    place.proxy.requests.clear()
    info = await place.store.put(
        place.bucket, "k", pieces(11), metadata={"a": "é"}, content_type="text/x", concurrency=3
    )
    assert (info.size, info.content_type, dict(info.metadata)) == (len(BODY), "text/x", {"a": "é"})
    assert await place.stored() == BODY
    assert sum("uploadType=multipart" in line for line in place.proxy.requests) == 1 + 6
    assert sum("/compose?" in line for line in place.proxy.requests) == 1
    async with await place.beside.get(place.bucket, "k", raw=True) as raw:
        assert raw.info.metadata["trovelen"] == str(len(BODY)), "asked once the body has ended"
    assert await _staged(place) == [] and settled() == []


async def test_parts_are_on_their_way_at_once_and_memory_is_bounded(place: Place) -> None:
    ahead = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal ahead
        async for chunk in pieces(40):
            ahead += 1
            yield chunk

    await place.beside.put(place.bucket, "k", b"old")
    upload = await place.driver.initiate_multipart(place.bucket, "other", PutOptions())
    place.proxy.add(faults.latency(0.3, when="uploadType=multipart", times=None))
    putting = asyncio.create_task(place.store.put(place.bucket, "k", body(), concurrency=3))
    await asyncio.sleep(0.5)
    assert 6 <= ahead <= 10, "three parts, the one that is filled, and a look at what follows"
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    place.proxy.clear()
    assert await place.stored() == b"old" and settled() == []
    assert await _staged(place) == [STAGED + upload], "that of somebody else stays"


@pytest.mark.parametrize(("count", "composes"), [(32, 1), (33, 3), (70, 4)])
async def test_more_parts_than_one_call_composes(place: Place, count: int, composes: int) -> None:
    upload = await place.driver.initiate_multipart(place.bucket, "k", PutOptions())
    numbers = range(1, count + 1)
    parts = await asyncio.gather(*(_sent(place, upload, n, b"%03d" % n * n) for n in numbers))
    place.proxy.requests.clear()
    await place.driver.complete_multipart(place.bucket, "k", upload, parts, PutOptions())
    assert await place.stored() == b"".join(b"%03d" % n * n for n in numbers)
    assert sum("/compose?" in line for line in place.proxy.requests) == composes
    assert await _staged(place) == []


async def test_a_part_may_be_longer_than_what_is_held_in_memory(place: Place) -> None:
    upload = await place.driver.initiate_multipart(place.bucket, "k", PutOptions())
    part = await _sent(place, upload, 1, BODY)
    assert (part.size, await place.uploads()) == (len(BODY), [])
    await place.driver.complete_multipart(place.bucket, "k", upload, [part], PutOptions())
    assert await place.stored() == BODY


@pytest.mark.parametrize("at", [0, 1, 4, 9])
async def test_an_error_of_the_body_leaves_nothing(place: Place, at: int) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    error = Deliberate("body")
    with pytest.raises(Deliberate) as raised:
        await place.store.put(place.bucket, "k", pieces(11, error, at), concurrency=2)
    assert raised.value is error
    assert await place.stored() == b"old" and await _staged(place) == [] and settled() == []


@pytest.mark.parametrize(
    "when", ["POST /upload", "uploadType=multipart", "/compose?", "POST /batch", "DELETE"]
)
async def test_a_cancel_at_every_kind_of_request_leaves_nothing(place: Place, when: str) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    held = faults.hang("down", when=when)
    place.proxy.add(held)
    putting = asyncio.create_task(place.store.put(place.bucket, "k", pieces(11), concurrency=2))
    await asyncio.wait_for(held.struck.wait(), 20)
    putting.cancel()
    place.proxy.clear()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await place.stored() in (b"old", BODY) and settled() == []
    assert await _staged(place) == []


@pytest.mark.parametrize("condition", [None, "*"])
@pytest.mark.parametrize("storage_class", [None, "NEARLINE"])
async def test_a_lost_answer_to_the_last_call_is_known_as_success(
    place: Place, condition: str | None, storage_class: str | None
) -> None:
    when = "/compose?" if storage_class is None else "/rewriteTo/"
    await asyncio.to_thread(place.server.script, when, 503, times=1, after=True, message="lost")
    info = await place.store.put(
        place.bucket,
        "k",
        pieces(11),
        concurrency=2,
        if_none_match=condition,
        storage_class=storage_class,
        metadata={"a": "b"},
    )
    assert info.size == len(BODY) and dict(info.metadata) == {"a": "b"}
    assert info.storage_class == (storage_class or "STANDARD")
    assert await place.stored() == BODY and await _staged(place) == []


async def test_conditions_hold_at_the_end_and_before_a_byte_moves(place: Place) -> None:
    async def body() -> AsyncIterator[bytes]:
        async for chunk in pieces(9):
            yield chunk
        await place.beside.put(place.bucket, "k", b"theirs")
        yield b"end"

    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", body(), concurrency=2, if_none_match="*")
    assert await place.stored() == b"theirs" and await _staged(place) == []
    place.proxy.requests.clear()
    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", pieces(11), concurrency=2, if_match="1")
    assert not any("upload" in line for line in place.proxy.requests)


async def test_a_part_that_was_replaced_meanwhile_is_not_put_in(place: Place) -> None:
    upload = await place.driver.initiate_multipart(place.bucket, "k", PutOptions())
    part = await _sent(place, upload, 1)
    held = faults.latency(0.5, "up", when="/compose?")
    place.proxy.add(held)
    completing = asyncio.create_task(
        place.driver.complete_multipart(place.bucket, "k", upload, [part], PutOptions())
    )
    await held.struck.wait()
    again = await _sent(place, upload, 1, b"other")
    with pytest.raises(InvalidPartError):
        await completing
    assert not await place.beside.exists(place.bucket, "k")
    await place.driver.complete_multipart(place.bucket, "k", upload, [again], PutOptions())
    assert await place.stored() == b"other"


async def test_what_a_crash_has_left_is_listed_and_taken_away(place: Place) -> None:
    """Parts without a record: their upload was ended, and whoever did it died."""
    driver, bucket = place.driver, place.bucket
    upload = await driver.initiate_multipart(bucket, "k", PutOptions())
    await _sent(place, upload, 1)
    client = driver._now().client
    await client.json("DELETE", f"/storage/v1/b/{bucket}/o/{STAGED}{upload}", bucket)
    assert await _staged(place) == [name_of_part(upload, 1)]
    (found,) = await driver.list_uploads(bucket, "")
    assert (found.upload_id, found.key) == (upload, "k")
    with pytest.raises(UploadNotFoundError):
        await driver.list_parts(bucket, "k", upload)
    with pytest.raises(UploadNotFoundError):
        await _sent(place, upload, 2)
    with pytest.raises(UploadNotFoundError):
        await driver.abort_multipart(bucket, "other", upload)
    await driver.abort_multipart(bucket, "k", upload)
    assert await driver.list_uploads(bucket, "") == [] and await _staged(place) == []


@pytest.mark.parametrize("delimiter", ["/", "-", "~", "t", None])
async def test_listings_show_no_upload_whatever_groups_them(
    place: Place, delimiter: str | None
) -> None:
    upload = await place.driver.initiate_multipart(place.bucket, "k", PutOptions())
    await _sent(place, upload, 1)
    await place.store.put(place.bucket, "a", b"")
    foreign = f"{STAGED}mine-t/x"
    await place.store.put(place.bucket, foreign, b"")
    found = [entry async for entry in place.store.list(place.bucket, delimiter=delimiter)]
    shown = [e.prefix if isinstance(e, CommonPrefix) else e.key for e in found]
    cut = -1 if delimiter is None else foreign.find(delimiter)
    assert shown == [foreign if delimiter is None else foreign[: cut + 1], "a"]
    await place.store.delete(place.bucket, foreign)
    found = [entry async for entry in place.store.list(place.bucket, delimiter=delimiter)]
    assert len(found) == 1
    for name in (STAGED + upload, name_of_part(upload, 1)):
        with pytest.raises(InvalidKeyError):
            await place.store.get_bytes(place.bucket, name)
        (result,) = await place.store.delete_many(place.bucket, [name])
        assert isinstance(result.error, InvalidKeyError)
    await place.store.delete(place.bucket, "a")
    await place.store.delete_bucket(place.bucket)
    await place.beside.create_bucket(place.bucket)
    assert await _staged(place) == []


async def test_a_bucket_with_versions_keeps_nothing_of_an_upload(gcs: Server) -> None:
    async with opened(gcs, versioning=True) as place:
        upload = await place.driver.initiate_multipart(place.bucket, "k", PutOptions())
        for body in (b"one", b"two"):
            part = await _sent(place, upload, 1, body)
        await place.driver.complete_multipart(place.bucket, "k", upload, [part], PutOptions())
        await place.store.put(place.bucket, "long", pieces(11), concurrency=2)
        assert await _staged(place) == []
        assert await place.stored("k") == b"two" and await place.stored("long") == BODY


async def test_when_the_parts_cannot_be_taken_away_the_error_says_so(place: Place) -> None:
    place.proxy.add(faults.status(403, when="/batch", times=None))
    place.proxy.add(faults.status(403, when="DELETE", times=None))
    error = Deliberate("body")
    with pytest.raises(Deliberate) as raised:
        await place.store.put(place.bucket, "k", pieces(11, error, 9), concurrency=2)
    assert "could not be aborted" in "".join(raised.value.__notes__)
    place.proxy.clear()
    assert [upload.key for upload in await place.driver.list_uploads(place.bucket, "")] == ["k"]


async def test_a_put_stands_though_its_parts_stay(place: Place) -> None:
    place.proxy.add(faults.status(403, when="DELETE", times=None))
    await place.store.put(place.bucket, "k", pieces(11), concurrency=2)
    place.proxy.clear()
    assert await place.stored() == BODY
    (left,) = await place.driver.list_uploads(place.bucket, "")
    await place.driver.abort_multipart(place.bucket, "k", left.upload_id)
    assert await _staged(place) == [] and await place.stored() == BODY


async def test_a_body_of_few_parts_and_one_at_once_are_not_composed(place: Place) -> None:
    whole = BODY[: 3 * MiB]
    for body, concurrency in ((whole, 4), (BODY, 1)):
        place.proxy.requests.clear()
        await place.store.put(place.bucket, "k", body, concurrency=concurrency)
        assert not any("compose" in line for line in place.proxy.requests)
        assert await place.stored() == body


async def test_the_setting_makes_every_long_put_one_of_many_parts(gcs: Server) -> None:
    async with opened(gcs, parts_at_once=2) as place:
        place.proxy.requests.clear()
        await place.store.put(place.bucket, "k", BODY)
        assert any("compose" in line for line in place.proxy.requests)
        assert await place.stored() == BODY


async def test_a_class_that_there_is_not_is_refused_before_the_parts(place: Place) -> None:
    place.proxy.requests.clear()
    with pytest.raises(ValueError, match="storage class"):
        await place.store.put(
            place.bucket, "k", pieces(11), concurrency=2, storage_class="nonsense"
        )
    assert sum("uploadType=multipart" in line for line in place.proxy.requests) == 1
    assert await _staged(place) == []


async def test_errors_name_the_key_and_not_the_part(place: Place) -> None:
    upload = await place.driver.initiate_multipart(place.bucket, "k", PutOptions())
    place.proxy.add(faults.status(429, when=f"{STAGED}{upload}", times=None))
    place.proxy.add(faults.status(429, when="uploadType", times=None))
    with pytest.raises(ThrottledError) as raised:
        await _sent(place, upload, 1)
    assert (raised.value.bucket, raised.value.key) == (place.bucket, "k")
    place.proxy.clear()
