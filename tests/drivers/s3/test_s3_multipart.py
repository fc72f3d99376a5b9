"""Long puts: bounded, whole or not at all, and nothing left open on the server."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.drivers.s3.place import Place, pieces
from tests.servers import proxy as faults
from trove_async import PreconditionFailedError, TroveError, UnavailableError
from trove_async._chunks import OneChunk
from trove_async.driver import PutOptions
from trove_async.drivers.s3 import S3Config
from trove_async.drivers.s3.listed import size_of_part
from trove_async.errors import UploadIntegrityError
from trove_async.model import MiB

BODY = b"".join(bytes([number]) * MiB for number in range(12))


class Deliberate(Exception):
    pass


async def test_a_body_of_unknown_length_is_put_in_parts(place: Place) -> None:
    info = await place.store.put(place.bucket, "k", pieces(12), metadata={"a": "1"})
    assert info.size == len(BODY) and dict(info.metadata) == {"a": "1"}
    assert await place.stored() == BODY
    raw = await place.beside.get(place.bucket, "k", raw=True)
    async with raw:
        assert raw.info.checksum is not None and raw.info.checksum.startswith("crc32:")
        assert "trovelen" not in raw.info.metadata, "S3 fixes metadata before the body is known"
    assert len([line for line in place.proxy.requests if "partNumber" in line]) == 3


async def test_a_body_inside_one_part_is_one_request_with_everything(place: Place) -> None:
    place.proxy.requests.clear()
    await place.store.put(place.bucket, "k", pieces(5))
    assert len(place.proxy.requests) == 1
    async with await place.beside.get(place.bucket, "k", raw=True) as raw:
        assert raw.info.metadata["trovelen"] == str(5 * MiB)
        assert raw.info.metadata["trovedig"].startswith("blake3:")


@pytest.mark.parametrize("at", [0, 3, 5, 6, 11])
async def test_an_error_of_the_body_leaves_nothing(place: Place, at: int) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    error = Deliberate("body")
    with pytest.raises(Deliberate) as raised:
        await place.store.put(place.bucket, "k", pieces(12, error, at))
    assert raised.value is error
    assert await place.uploads() == [] and await place.stored() == b"old"


@pytest.mark.parametrize(
    "when", ["?uploads", "partNumber=1", "partNumber=2", "partNumber=3", "POST /"]
)
async def test_a_cancel_at_every_part_leaves_nothing(place: Place, when: str) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    held = faults.hang("up", when=when)
    if when == "POST /":
        held = faults.hang("up", when="POST /" + place.bucket + "/k?uploadId")
    place.proxy.add(held)
    putting = asyncio.create_task(place.store.put(place.bucket, "k", pieces(12)))
    await held.struck.wait()
    putting.cancel()
    place.proxy.clear()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await place.uploads() == []
    last = when == "POST /"  # then the server may be done before it hears of the cancel
    assert await place.stored() in ((b"old", BODY) if last else (b"old",))


async def test_a_second_cancel_does_not_stop_the_clean_up(place: Place) -> None:
    held = faults.hang("up", when="partNumber=2")
    place.proxy.add(held, faults.latency(0.2, when="DELETE"))
    putting = asyncio.create_task(place.store.put(place.bucket, "k", pieces(12)))
    await held.struck.wait()
    putting.cancel()
    await asyncio.sleep(0.05)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await place.uploads() == []


async def test_a_part_is_sent_again_and_the_put_goes_on(place: Place) -> None:
    place.proxy.add(
        faults.status(500, when="partNumber=1"), faults.reset("up", at=0.5, when="partNumber=2")
    )
    await place.store.put(place.bucket, "k", pieces(12))
    assert await place.stored() == BODY


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_part_that_never_arrives_ends_the_upload(place: Place, number: int) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    place.proxy.add(faults.status(500, when=f"partNumber={number}", times=None))
    with pytest.raises(UnavailableError):
        await place.store.put(place.bucket, "k", pieces(12))
    assert await place.uploads() == [] and await place.stored() == b"old"


async def test_when_the_abort_fails_too_the_first_error_stays_and_says_so(place: Place) -> None:
    place.proxy.add(
        faults.status(500, when="partNumber=1", times=None),
        faults.status(403, when="DELETE", times=None),
    )
    with pytest.raises(UnavailableError) as raised:
        await place.store.put(place.bucket, "k", pieces(12))
    assert "could not be aborted" in "".join(raised.value.__notes__)
    place.proxy.clear()
    assert await place.uploads() == ["k"]


@pytest.mark.parametrize("condition", [None, "*"])
async def test_a_lost_answer_to_the_completion_is_known_as_success(
    place: Place, condition: str | None
) -> None:
    lost = faults.reset("down", when=f"POST /{place.bucket}/k?uploadId")
    place.proxy.add(lost)
    info = await place.store.put(place.bucket, "k", pieces(12), if_none_match=condition)
    assert lost.hits == 1 and info.size == len(BODY)
    assert await place.stored() == BODY and await place.uploads() == []


async def test_an_error_inside_a_success_is_an_error(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    body = b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"
    place.proxy.add(faults.status(200, when="?uploadId", body=body, times=None))
    with pytest.raises(UnavailableError):
        await place.store.put(place.bucket, "k", pieces(12))
    place.proxy.clear()
    assert await place.stored() == b"old"


async def test_conditions_hold_on_the_long_path(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", pieces(12), if_none_match="*")
    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", pieces(12), if_match="0" * 32)
    assert await place.stored() == b"old" and await place.uploads() == []
    etag = (await place.beside.head(place.bucket, "k")).etag
    await place.store.put(place.bucket, "k", pieces(12), if_match=etag)
    assert await place.stored() == BODY


@pytest.mark.parametrize("at", [0.3, 0.9])
async def test_a_part_that_arrives_changed_is_noticed(place: Place, at: float) -> None:
    place.proxy.add(faults.corrupt("up", at=at, when="partNumber=2", times=None))
    with pytest.raises(TroveError):
        await place.store.put(place.bucket, "k", pieces(12))
    assert await place.uploads() == []


async def test_a_changed_body_is_noticed_where_the_server_keeps_no_checksum(place: Place) -> None:
    """moto compares nothing itself; the MD5 of its etag tells."""
    driver = type(place.driver)(_without_checksums(place))
    await driver.open()
    try:
        place.proxy.add(faults.corrupt("up", at=0.9, when="PUT"))
        with pytest.raises(UploadIntegrityError):
            await driver.put(place.bucket, "k", OneChunk(b"x" * 50_000), PutOptions(size=50_000))
    finally:
        await driver.close()


def _without_checksums(place: Place) -> S3Config:
    return replace(place.driver.config, checksum="when_required")


async def test_parts_grow_so_that_any_length_fits() -> None:
    sizes = [size_of_part(number, 8 * MiB) for number in range(1, 10_001)]
    assert sizes[0] == sizes[999] == 8 * MiB and sizes[1000] == 16 * MiB
    assert sum(sizes) >= 5 * 1024**4 and max(sizes) <= 5 * 1024**3
