"""Every operation on a bad network: right bytes, or a typed error within the deadline."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.drivers.gcs.place import Place, opened, settled
from tests.servers import proxy as faults
from tests.servers.gcs import Server
from tests.servers.proxy import Fault
from trove_async import (
    BucketNotFoundError,
    NotFoundError,
    ObjectNotFoundError,
    PermissionDeniedError,
    ThrottledError,
    TroveError,
    UnavailableError,
)
from trove_async._chunks import OneChunk
from trove_async.driver import GetOptions, HeadOptions, ListOptions, PutOptions
from trove_async.driver.http import retry_after
from trove_async.drivers.gcs.faults import error_of, refusal_of
from trove_async.errors import (
    BackendError,
    InvalidInputError,
    OperationTimeoutError,
    StorageFullError,
    UploadIntegrityError,
)
from trove_async.model import MiB

OLD, NEW, LONG = b"old" * 30_000, b"new" * 30_000, b"long" * (MiB // 2)
DEADLINE = 30.0
"""Seconds: a few tries, each bounded by the read timeout of half a second."""

OPERATIONS: dict[str, Callable[[Place], Awaitable[object]]] = {
    "put": lambda p: p.store.put(p.bucket, "k", NEW),
    "put if absent": lambda p: p.store.put(p.bucket, "fresh", NEW, if_none_match="*"),
    "put long": lambda p: p.store.put(p.bucket, "k", LONG),
    "get": lambda p: p.store.get_bytes(p.bucket, "k"),
    "range": lambda p: p.store.get_bytes(p.bucket, "k", range=slice(1000, 61_000)),
    "head": lambda p: p.store.head(p.bucket, "k"),
    "list": lambda p: p.store.list_page(p.bucket),
    "copy": lambda p: p.store.copy(p.bucket, "k", p.bucket, "copied"),
    "delete": lambda p: p.store.delete(p.bucket, "k"),
    "delete_many": lambda p: p.store.delete_many(p.bucket, ["k", "other"]),
}
FAULTS: dict[str, Callable[[int | float], Fault]] = {
    "reset down": lambda at: faults.reset("down", at=at, times=2),
    "reset up": lambda at: faults.reset("up", at=at, times=2),
    "truncate down": lambda at: faults.truncate("down", at=at, times=2),
    "truncate up": lambda at: faults.truncate("up", at=at, times=2),
    "corrupt down": lambda at: faults.corrupt("down", at=at),
    "corrupt up": lambda at: faults.corrupt("up", at=at),
    "hang down": lambda at: faults.hang("down", at=at),
    "hang up": lambda at: faults.hang("up", at=at),
    "slow down": lambda at: faults.slow(0.7, "down", at=at),
    "latency": lambda at: faults.latency(0.05, "down", at=at),
    "500": lambda at: faults.status(500, times=2),
    "503": lambda at: faults.status(503, times=2, headers={"Retry-After": "0"}),
    "429": lambda at: faults.status(429, times=2),
    "nonsense": lambda at: faults.status(200, body=b"\xff{" * 10),
}
OFFSETS: tuple[int | float, ...] = (0, 1, 200, 0.5, 0.99)


async def stored(place: Place, key: str, as_it_is: bool) -> bytes:
    """``as_it_is``: after an error the record beside the bytes may be what was changed."""
    async with await place.beside.get(place.bucket, key, raw=as_it_is) as reader:
        return bytes(await reader.read())


async def attempt(place: Place, operation: str, fault: Fault) -> None:
    await place.beside.put(place.bucket, "k", OLD)
    await place.beside.delete_many(place.bucket, ["fresh", "copied"])
    place.proxy.add(fault)
    result: object = None
    error: TroveError | None = None
    try:
        async with asyncio.timeout(DEADLINE):
            result = await OPERATIONS[operation](place)
    except TroveError as exc:
        error = exc
    place.proxy.clear()
    page = await place.beside.list_page(place.bucket)
    bodies = {info.key: await stored(place, info.key, error is not None) for info in page.objects}
    assert bodies.get("k") in ((OLD, NEW, LONG) if "delete" not in operation else (OLD, None))
    assert bodies.get("fresh") in (None, NEW) and bodies.get("copied") in (None, OLD)
    if error is not None:
        return
    if operation == "get":
        assert result == OLD, "wrong bytes from a whole read"
    elif operation == "range" and fault.kind != "corrupt":
        assert result == OLD[1000:61_000]
    elif operation in ("put", "put long"):
        assert bodies["k"] == (NEW if operation == "put" else LONG), "acknowledged, and not there"
    elif operation == "put if absent":
        assert bodies["fresh"] == NEW
    elif operation == "copy":
        assert bodies["copied"] == OLD
    elif "delete" in operation and fault.kind not in ("corrupt", "status"):
        assert "k" not in bodies


MATRIX = [*itertools.product(OPERATIONS, FAULTS, OFFSETS)]


@pytest.mark.parametrize(("operation", "name", "at"), MATRIX[::31], ids=str)
async def test_a_sample_of_all_faults(
    gcs: Server, operation: str, name: str, at: int | float
) -> None:
    async with opened(gcs, read_timeout=0.5) as place:
        await attempt(place, operation, FAULTS[name](at))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_fault_at_every_offset(gcs: Server, operation: str) -> None:
    async with opened(gcs, read_timeout=0.5) as place:
        for name, at in [(name, at) for what, name, at in MATRIX if what == operation]:
            try:
                await attempt(place, operation, FAULTS[name](at))
            except (AssertionError, TroveError, TimeoutError) as exc:
                raise AssertionError(f"{operation}, {name} at {at}: {exc!r}") from exc
        assert settled() == []
        # A session whose name was lost with the reply can be ended by nobody; GCS does in a week.
        assert operation == "put long" or await place.uploads() == []


async def test_a_lost_reply_to_a_conditional_put_is_success(gcs: Server) -> None:
    async with opened(gcs) as place:
        lost = faults.reset("down", when="uploadType=multipart")
        place.proxy.add(lost)
        info = await place.store.put(place.bucket, "k", NEW, if_none_match="*")
        assert lost.hits == 1 and info.size == len(NEW) and await place.stored() == NEW


@pytest.mark.parametrize("body", [NEW, LONG])
async def test_metadata_that_was_changed_on_its_way_is_noticed(gcs: Server, body: bytes) -> None:
    async with opened(gcs) as place:
        sent = {"a": "x" * 500}
        for when in ("uploadType=multipart", "uploadType=resumable&name"):
            place.proxy.add(faults.corrupt("up", at=700, when=when))
        with pytest.raises(UploadIntegrityError):
            await place.store.put(place.bucket, "k", body, metadata=sent)


async def test_a_body_of_an_iterator_is_sent_again(gcs: Server) -> None:
    """The store cannot repeat it; the driver still has it."""
    async with opened(gcs) as place:

        async def body() -> object:
            yield NEW

        place.proxy.add(faults.status(503, when="uploadType=multipart", times=2))
        await place.store.put(place.bucket, "k", body())
        assert await place.stored() == NEW


async def test_a_read_goes_on_where_it_broke(gcs: Server) -> None:
    async with opened(gcs) as place:
        await place.beside.put(place.bucket, "k", LONG)
        broken = faults.reset("down", at=0.5, when="GET", times=2)
        place.proxy.add(broken)
        place.proxy.requests.clear()
        assert await place.store.get_bytes(place.bucket, "k") == LONG
        assert broken.hits == 2
        reads = [line for line in place.proxy.requests if line.startswith("GET /trove-")]
        assert len(reads) == 3


async def test_an_object_replaced_while_it_is_read_never_gives_mixed_bytes(gcs: Server) -> None:
    async with opened(gcs) as place:
        await place.beside.put(place.bucket, "k", LONG)
        place.proxy.add(faults.reset("down", at=0.5, when="GET"))
        async with place.store.get(place.bucket, "k") as reader:
            got = bytes(await reader.read(1000))
            await place.beside.put(place.bucket, "k", b"X" * len(LONG))
            with pytest.raises(TroveError):
                while piece := await reader.read(MiB):
                    got += bytes(piece)
        assert b"X" not in got


async def test_fifty_hangs_do_not_starve_the_connections(gcs: Server) -> None:
    async with opened(gcs, read_timeout=0.5, connections=8) as place:
        await place.beside.put(place.bucket, "k", OLD)
        await place.store.head(place.bucket, "k")
        place.proxy.add(faults.hang("down", when="GET", times=50))
        results = await asyncio.gather(
            *(place.store.get_bytes(place.bucket, "k") for _ in range(20)), return_exceptions=True
        )
        assert all(r == OLD or isinstance(r, OperationTimeoutError) for r in results), results
        place.proxy.clear()
        assert await place.store.get_bytes(place.bucket, "k") == OLD
        assert settled() == []


async def test_an_upload_that_the_network_does_not_take_is_a_timeout(gcs: Server) -> None:
    async with opened(gcs, read_timeout=0.5, part_size=32 * MiB) as place:
        await place.store.exists(place.bucket, "k")
        place.proxy.add(faults.hang("up", at=100_000, when="uploadType=multipart"))
        body = bytes(24 * MiB)
        with pytest.raises(OperationTimeoutError):
            await place.driver.put(place.bucket, "k", OneChunk(body), PutOptions(size=len(body)))
        place.proxy.clear()
        assert not await place.beside.exists(place.bucket, "k") and settled() == []


async def test_refused_connections_name_the_host_and_no_secret(gcs: Server) -> None:
    async with opened(gcs) as place:
        await place.store.exists(place.bucket, "k")
        token = place.driver._now().client.tokens.ready()
        place.proxy.add(faults.refuse(times=None), faults.reset("up", times=None))
        with pytest.raises(UnavailableError) as raised:
            await place.store.head(place.bucket, "k")
        shown = str(raised.value) + repr(raised.value) + repr(raised.value.__cause__)
        assert "127.0.0.1" in shown and str(token) not in shown


async def test_throttling_slows_the_whole_client_and_wears_off(gcs: Server) -> None:
    async with opened(gcs) as place:
        await place.beside.put(place.bucket, "k", OLD)
        limiter = place.driver._now().client.limiter
        place.proxy.add(faults.status(429, when="/k", times=3))
        with pytest.raises(ThrottledError):
            await place.store.get_bytes(place.bucket, "k")
        slowed = limiter.distance
        assert slowed > 0
        for _ in range(40):
            await place.store.head(place.bucket, "k")
        assert limiter.distance < slowed


async def test_a_missing_bucket_is_told_from_a_missing_key(gcs: Server) -> None:
    for is_xml in (True, False):
        async with opened(gcs, xml_reads=is_xml) as place:
            for bucket in (place.bucket, "trove-there-is-none"):
                kind = ObjectNotFoundError if bucket == place.bucket else BucketNotFoundError
                for attempt_ in (
                    place.store.head(bucket, "nothing"),
                    place.store.get_bytes(bucket, "nothing"),
                ):
                    with pytest.raises(NotFoundError) as raised:
                        await attempt_
                    assert type(raised.value) is kind
            with pytest.raises(BucketNotFoundError):
                await place.store.delete("trove-there-is-none", "k")
            await place.store.delete(place.bucket, "k")


async def test_a_404_that_says_nothing_is_asked_about(gcs: Server) -> None:
    async with opened(gcs) as place:
        for code in (404, 403):
            place.proxy.add(faults.status(404, when="/o/k"))
            if code == 403:
                place.proxy.add(faults.status(403, when=f"/b/{place.bucket}?", times=None))
            with pytest.raises(ObjectNotFoundError):
                await place.store.head(place.bucket, "k")
            place.proxy.clear()


async def test_a_denied_read_is_not_a_missing_object(gcs: Server) -> None:
    async with opened(gcs) as place:
        place.proxy.add(faults.status(403, when="/k", times=None))
        for attempt_ in (
            place.store.head(place.bucket, "k"),
            place.store.exists(place.bucket, "k"),
            place.store.get_bytes(place.bucket, "k"),
        ):
            with pytest.raises(PermissionDeniedError):
                await attempt_


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"items": [1]}',
        b'{"items": 5}',
        b'{"items": [{"name": "k"}]}',
        b'{"items": [{"name": "k", "size": "-1", "generation": "1"}]}',
        b'{"items": [{"name": 5, "size": "1", "generation": "1"}]}',
        b'{"items": [{"name": "k", "size": "1", "generation": "1", "metadata": 5}]}',
        b'{"items": [{"name": "k", "size": "1", "generation": "%s"}]}' % (b"9" * 5000),
        b"[" * 100_000,
    ],
)
async def test_malformed_answers_are_typed_errors(gcs: Server, document: bytes) -> None:
    async with opened(gcs) as place:
        await place.store.exists(place.bucket, "k")
        place.proxy.add(faults.status(200, body=document, times=None))
        for attempt_ in (
            place.driver.list(place.bucket, ListOptions()),
            place.driver.head(place.bucket, "k", HeadOptions()),
        ):
            with pytest.raises(BackendError):
                await attempt_


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-goog-generation": "nonsense"},
        {"x-goog-generation": "1", "Content-Range": "bytes 5-9/3"},
        {"x-goog-generation": "1", "Content-Range": "nonsense"},
        {"x-goog-generation": "1", "Content-Range": "bytes 900-909/1000"},
    ],
)
async def test_malformed_heads_of_bodies_are_typed_errors(
    gcs: Server, headers: dict[str, str]
) -> None:
    async with opened(gcs) as place:
        await place.store.exists(place.bucket, "k")
        place.proxy.add(faults.status(200, body=b"0123456789", headers=headers, times=None))
        with pytest.raises(BackendError):
            await place.driver.get(place.bucket, "k", GetOptions())


async def test_redirects_are_not_followed(gcs: Server) -> None:
    async with opened(gcs) as place:
        await place.store.exists(place.bucket, "k")
        place.proxy.add(faults.status(307, headers={"Location": "http://127.0.0.1:1/"}, times=None))
        with pytest.raises(BackendError) as raised:
            await place.store.head(place.bucket, "k")
        assert "307" in str(raised.value)


def test_refusals_of_both_apis_are_read() -> None:
    document = {"error": {"message": "Slow", "errors": [{"reason": "userRateLimitExceeded"}]}}
    cases: list[tuple[int, bytes, type[TroveError]]] = [
        (403, json.dumps(document).encode(), ThrottledError),
        (429, b"", ThrottledError),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", BucketNotFoundError),
        (404, b"<Error><Code>NoSuchKey</Code></Error>", ObjectNotFoundError),
        (
            404,
            b'{"error": {"message": "No such object: bucket does not exist/k"}}',
            ObjectNotFoundError,
        ),
        (400, b'{"error": 5}', InvalidInputError),
        (500, b"[" * 10_000, UnavailableError),
        (507, b"", StorageFullError),
        (418, b"", BackendError),
    ]
    for status, body, kind in cases:
        error = error_of(refusal_of(status, body, "id-7", "3"), "bucket", "k")
        assert type(error) is kind, (status, body)
        assert "id-7" in str(error) and error.__cause__ is not None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("7", 0) == 7.0 and retry_after("-1", 0) == 0.0
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20.0) == 40.0
    for text in ("soon", "inf", "nan", "", None):
        assert retry_after(text, 0) is None
