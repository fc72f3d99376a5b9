"""Puts: one request for what fits into a part, a resumable upload for the rest, and nothing
published or left open when one fails."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.drivers.gcs.place import Place, opened, pieces, settled
from tests.servers import proxy as faults
from tests.servers.gcs import Server
from trove_async import PreconditionFailedError, TroveError, UnavailableError, UnsupportedError
from trove_async.driver import PutOptions
from trove_async.driver.supply import Part, Supply, rest_of
from trove_async.errors import BackendError, TrailingDataError, TruncatedError, UploadIntegrityError
from trove_async.model import MiB

HALF = MiB // 2
BODY = b"".join(bytes([number]) * HALF for number in range(9))  # four parts and a half


class Deliberate(Exception):
    pass


async def test_a_body_inside_one_part_is_one_request_with_everything(place: Place) -> None:
    place.proxy.requests.clear()
    await place.store.put(place.bucket, "k", pieces(2), metadata={"a": "1"})
    sent = [line for line in place.proxy.requests if "/token" not in line]
    assert len(sent) == 1 and "uploadType=multipart" in sent[0]
    async with await place.beside.get(place.bucket, "k", raw=True) as raw:
        assert raw.info.metadata["trovelen"] == str(MiB)
        assert raw.info.metadata["trovedig"].startswith("blake3:")


async def test_a_longer_body_is_sent_part_by_part(place: Place) -> None:
    place.proxy.requests.clear()
    info = await place.store.put(place.bucket, "k", pieces(9), metadata={"a": "1"})
    assert info.size == len(BODY) and dict(info.metadata) == {"a": "1"}
    assert await place.stored() == BODY
    assert [line.split(" ")[0] for line in place.proxy.requests if "upload" in line] == [
        "POST",
        *["PUT"] * 5,
    ]
    async with await place.beside.get(place.bucket, "k", raw=True) as raw:
        assert "trovelen" not in raw.info.metadata, "metadata is fixed before the body is known"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
async def test_bodies_that_end_at_and_beside_the_border_of_a_part(place: Place, count: int) -> None:
    await place.store.put(place.bucket, "k", pieces(count))
    assert await place.stored() == BODY[: count * HALF]
    assert await place.uploads() == []


@pytest.mark.parametrize("at", [0, 1, 3, 4, 8])
async def test_an_error_of_the_body_never_finalises_an_object(place: Place, at: int) -> None:
    """X1: the Go original closed its writer then, which published what there was."""
    await place.beside.put(place.bucket, "k", b"old")
    error = Deliberate("body")
    with pytest.raises(Deliberate) as raised:
        await place.store.put(place.bucket, "k", pieces(9, error, at))
    assert raised.value is error
    assert await place.uploads() == [] and await place.stored() == b"old"
    with pytest.raises(Deliberate):
        await place.store.put(place.bucket, "fresh", pieces(9, error, at))
    assert not await place.beside.exists(place.bucket, "fresh")
    assert settled() == []


@pytest.mark.parametrize(
    "when", ["uploadType=resumable&name", "bytes 0-", "bytes 1048576-", "bytes 3145728-", "last"]
)
async def test_a_cancel_at_every_request_leaves_nothing(
    place: Place, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    held = faults.hang("up", when="upload_id=" if "uploadType" not in when else when)
    if "uploadType" in when:
        place.proxy.add(held)
    else:
        wanted = 5 if when == "last" else {"0": 1, "1": 2, "3": 4}[when[6]]
        seen = 0

        def counted(line: str, *kinds: object) -> faults.Fault | None:
            nonlocal seen
            seen += "PUT" in line and "hang" in kinds
            return held if seen == wanted and "hang" in kinds and not held.hits else None

        monkeypatch.setattr(place.proxy, "_matching", counted)
    putting = asyncio.create_task(place.store.put(place.bucket, "k", pieces(9)))
    await asyncio.wait_for(held.struck.wait(), 20)
    monkeypatch.undo()
    putting.cancel()
    place.proxy.clear()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await place.uploads() == [] and settled() == []
    assert await place.stored() in ((b"old", BODY) if when == "last" else (b"old",))


async def test_a_second_cancel_does_not_stop_the_clean_up(place: Place) -> None:
    held = faults.hang("up", when="PUT")
    place.proxy.add(held, faults.latency(0.2, when="DELETE"))
    putting = asyncio.create_task(place.store.put(place.bucket, "k", pieces(9)))
    await held.struck.wait()
    putting.cancel()
    await asyncio.sleep(0.05)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await place.uploads() == [] and settled() == []


@pytest.mark.parametrize("at", [0, 0.3, 0.7, 0.95])
async def test_a_broken_part_goes_on_where_the_server_has_it(place: Place, at: float) -> None:
    for kind in (faults.reset, faults.truncate):
        fault = kind("up", at=at, when="PUT")
        place.proxy.add(fault)
        await place.store.put(place.bucket, "k", pieces(9))
        assert fault.hits and await place.stored() == BODY
    assert await place.uploads() == []


async def test_what_the_server_has_is_not_sent_again(place: Place) -> None:
    lost = faults.reset("down", when="PUT")  # the whole part has arrived; the answer is lost
    place.proxy.add(lost)
    place.proxy.requests.clear()
    await place.store.put(place.bucket, "k", pieces(9))
    assert lost.hits == 1 and await place.stored() == BODY
    puts = [line for line in place.proxy.requests if line.startswith("PUT")]
    assert len(puts) == 6, "five parts and one question"


@pytest.mark.parametrize("condition", [None, "*"])
async def test_a_lost_answer_to_the_last_part_is_known_as_success(
    place: Place, condition: str | None
) -> None:
    await asyncio.to_thread(place.server.script, "PUT", 503, times=1, after=True, message="lost")
    info = await place.store.put(place.bucket, "k", pieces(3), if_none_match=condition)
    assert info.size == 3 * HALF and await place.stored() == BODY[: 3 * HALF]


async def test_a_part_that_never_arrives_ends_the_upload(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    place.proxy.add(faults.status(500, when="PUT", times=None))
    with pytest.raises(UnavailableError):
        await place.driver.put(place.bucket, "k", _Chunks(9), PutOptions())
    assert await place.uploads() == [] and await place.stored() == b"old"


async def test_when_the_cancel_fails_too_the_first_error_stays_and_says_so(place: Place) -> None:
    place.proxy.add(faults.status(403, when="DELETE", times=None))
    error = Deliberate("body")
    with pytest.raises(Deliberate) as raised:
        await place.store.put(place.bucket, "k", pieces(9, error, 4))
    notes = "".join(raised.value.__notes__)
    assert "could not be cancelled" in notes and "upload_id=" not in notes
    place.proxy.clear()
    assert await place.uploads() == [f"{place.bucket}/k"]


@pytest.mark.parametrize("count", [1, 9])
async def test_a_body_that_was_changed_on_its_way_is_refused(place: Place, count: int) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    place.proxy.add(faults.corrupt("up", at=300_000, when="upload"))
    if count > 1:
        place.proxy.clear()
        place.proxy.add(faults.corrupt("up", at=300_000, when="PUT"))
    with pytest.raises(UploadIntegrityError):
        await place.store.put(place.bucket, "k", pieces(count))
    assert await place.stored() == b"old", "GCS compares before it publishes"
    assert await place.uploads() == []


async def test_another_checksum_in_the_answer_is_an_error(place: Place) -> None:
    answer = {
        "name": "k",
        "size": "4",
        "generation": "1",
        "crc32c": "AAAAAA==",
        "updated": "2026-01-01T00:00:00.000Z",
    }
    await asyncio.to_thread(place.server.script, "uploadType", 200, body=json.dumps(answer))
    with pytest.raises(UploadIntegrityError):
        await place.store.put(place.bucket, "k", b"body")


@pytest.mark.parametrize("count", [1, 9])
async def test_conditions_hold_for_short_and_long_bodies(place: Place, count: int) -> None:
    first = await place.store.put(place.bucket, "k", pieces(count), if_none_match="*")
    assert first.etag == first.version_id and first.etag.isdigit()
    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", pieces(count), if_none_match="*")
    for wrong in ("12345", "nonsense"):
        with pytest.raises(PreconditionFailedError):
            await place.store.put(place.bucket, "k", pieces(count), if_match=wrong)
    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "fresh", pieces(count), if_match="*")
    second = await place.store.put(place.bucket, "k", pieces(count), if_match=first.etag)
    assert second.etag != first.etag
    await place.store.put(place.bucket, "k", pieces(count), if_match="*")
    assert await place.uploads() == []


async def test_an_object_that_appears_during_a_long_put_makes_it_fail(place: Place) -> None:
    async def body() -> object:
        async for chunk in pieces(4):
            yield chunk
        await place.beside.put(place.bucket, "k", b"theirs")
        yield b"end"

    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", body(), if_none_match="*")
    assert await place.stored() == b"theirs" and await place.uploads() == []


async def test_a_wrong_declared_size_publishes_nothing(place: Place) -> None:
    for count, size, kind in ((9, 100, TrailingDataError), (9, 10 * MiB, TruncatedError)):
        with pytest.raises(kind):
            await place.driver.put(place.bucket, "k", _Chunks(count), PutOptions(size=size))
    with pytest.raises(TruncatedError):
        await place.driver.put(place.bucket, "k", _Chunks(1), PutOptions(size=MiB))
    assert not await place.beside.exists(place.bucket, "k") and await place.uploads() == []


async def test_tags_are_refused_before_a_byte_moves(place: Place) -> None:
    place.proxy.requests.clear()
    with pytest.raises(UnsupportedError):
        await place.store.put(place.bucket, "k", b"body", tags={"a": "b"})
    assert place.proxy.requests == []


async def test_a_session_on_another_host_is_not_followed(place: Place) -> None:
    """Its address would get the token."""
    await asyncio.to_thread(
        place.server.script,
        "uploadType=resumable",
        200,
        body="",
        headers={"Location": "http://127.0.0.1:1/upload?upload_id=x"},
    )
    with pytest.raises(BackendError, match="another host"):
        await place.store.put(place.bucket, "k", pieces(9))


async def test_a_long_put_holds_two_parts_at_most(gcs: Server) -> None:
    """As chunks that are alive at once: a generator that is ahead by more would show."""
    async with opened(gcs) as place:
        ahead = 0

        async def body() -> object:
            nonlocal ahead
            for number in range(40):
                sent = sum("upload_id" in line for line in place.proxy.requests)
                ahead = max(ahead, number * HALF // MiB - sent)
                yield bytes([number]) * HALF

        place.proxy.requests.clear()
        await place.store.put(place.bucket, "k", body())
        assert ahead <= 2


class _Chunks:
    """A body as drivers see it."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._number = 0

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        self._number += 1
        return bytes([self._number - 1]) * HALF

    async def aclose(self) -> None:
        self._left = 0


class _Listed:
    def __init__(self, chunks: list[bytes | bytearray]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> _Listed:
        return self

    async def __anext__(self) -> bytes | bytearray:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        return


async def test_parts_are_cut_exactly_and_copied_from_buffers_that_are_used_again() -> None:
    shared = bytearray(b"a" * 20_000)

    class Again(_Listed):
        async def __anext__(self) -> bytes | bytearray:
            chunk = await super().__anext__()
            if chunk is shared:
                shared[:] = bytes([shared[0] + 1]) * len(shared)
            return chunk

    parts = Supply(Again([shared, shared, b"x", shared, b"y" * 50_000]))
    found = b""
    taken: list[Part] = []
    while not taken or not taken[-1].is_last:
        taken.append(await parts.take(30_000))
        found += b"".join(taken[-1].pieces)
    assert [part.size for part in taken] == [30_000, 30_000, 30_000, 20_001]
    assert found == b"b" * 20_000 + b"c" * 20_000 + b"x" + b"d" * 20_000 + b"y" * 50_000


def test_what_is_left_of_pieces() -> None:
    held: list[bytes | memoryview] = [b"abc", memoryview(b"defg"), b"h"]
    for done in range(9):
        assert b"".join(rest_of(held, done)) == b"abcdefgh"[done:]


async def test_errors_of_a_put_are_typed(place: Place) -> None:
    with pytest.raises(TroveError):
        await place.store.put(place.bucket, "k", b"", storage_class="nonsense")
    info = await place.store.put(place.bucket, "k", b"", storage_class="NEARLINE")
    assert info.storage_class == "NEARLINE"
