"""The layer itself, with a scanner in this process."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

import trove_async as trove
from tests.core.layers import Source
from tests.middleware.scan.toys import Step, Toy, ToySession
from tests.middleware.scan.unchanged import assert_unchanged
from tests.transforms import Flip, Xor
from trove_async import (
    BackendError,
    ContentBlockedError,
    Context,
    Middleware,
    PolicyError,
    RetryPolicy,
    Trove,
    UnavailableError,
    UnsupportedError,
    keys,
)
from trove_async._chunks import OneChunk, collect
from trove_async.driver.base import Bytes, Chunks
from trove_async.driver.options import PutOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware.scan import Scan, Scanner
from trove_async.model import ObjectInfo, PresignedRequest
from trove_async.testing.stepper import Step as Cancelled
from trove_async.testing.stepper import cancel_everywhere

CLEAN_BODY = (b"one", b"two", b"three")
BAD_BODY = (b"one", b"a virus", b"three")


# -- four ways -----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"x", b"onetwothree", CLEAN_BODY])
async def test_a_clean_body_is_stored_as_it_is(store: Trove, body: object) -> None:
    toy = Toy()
    store.use(Scan(toy))
    source = Source(body) if isinstance(body, tuple) else body
    whole = b"".join(body) if isinstance(body, tuple) else body
    info = await store.put(None, "k", source)
    assert toy.seen == whole
    assert (toy.sessions[0].finished, toy.closings) == (1, [1])
    assert await store.get_bytes(None, "k") == whole
    assert info.encodings == ()


@pytest.mark.parametrize("early", [False, True])
async def test_a_blocked_body_is_never_published(store: Trove, tmp_path: Path, early: bool) -> None:
    toy = Toy(early=early)
    store.use(Scan(toy))
    source = Source(BAD_BODY)
    with pytest.raises(ContentBlockedError) as caught:
        await store.put(None, "k", source)
    assert caught.value.threat == ("Early" if early else "Toy.Virus")
    assert (caught.value.bucket, caught.value.key) == ("box", "k")
    assert (source.closed, toy.closings) == (1, [1])
    await assert_unchanged(store, tmp_path)


async def test_a_source_that_fails_closes_the_session(store: Trove, tmp_path: Path) -> None:
    toy = Toy()
    store.use(Scan(toy))
    source = Source(at=2, error=OSError("the disk is gone"))
    with pytest.raises(OSError, match="the disk is gone"):
        await store.put(None, "k", source)
    assert (source.closed, toy.closings, toy.sessions[0].finished) == (1, [1], 0)
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize("body", [CLEAN_BODY, BAD_BODY])
async def test_a_put_cancelled_anywhere_closes_the_session(
    store: Trove, tmp_path: Path, body: tuple[bytes, ...]
) -> None:
    toy = Toy()
    store.use(Scan(toy))

    async def put() -> None:
        try:
            await store.put(None, "k", Source(body))
        except ContentBlockedError:
            await asyncio.sleep(0)

    async def again() -> None:
        toy.sessions.clear()
        await store.put(None, "k", b"old", metadata={"is": "old"})
        toy.sessions.clear()

    async def check(step: Cancelled) -> None:
        assert toy.closings in ([], [1])
        found = await store.get_bytes(None, "k")
        assert found in ((b"old", b"onetwothree") if body is CLEAN_BODY else (b"old",))

    points = await cancel_everywhere(put, check=check, before=again, twice=True)
    assert points >= 6  # session, three chunks, finish, close


async def test_a_consumer_that_stops_early_closes_the_session_when_nothing_was_pulled() -> None:
    for pulls in (0, 1, 2):
        toy = Toy()
        source = Source(CLEAN_BODY)
        chunks = await Scan(toy).write(source, Context("put", "box", "k"))
        for _ in range(pulls):
            await anext(chunks)
        await chunks.aclose()
        await chunks.aclose()
        assert toy.closings == [1]
        assert source.closed == 0  # the level below belongs to the chain


async def test_a_driver_that_refuses_before_pulling_leaves_no_session(
    store: Trove, tmp_path: Path
) -> None:
    toy = Toy()
    store.use(Scan(toy))
    with pytest.raises(trove.BucketNotFoundError):
        await store.put("nowhere", "k", Source())
    assert toy.closings == [1]
    await assert_unchanged(store, tmp_path)


# -- no verdict is no pass -------------------------------------------------------------------


@pytest.mark.parametrize("step", ["session", "feed", "finish", "close"])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a fault of the scanner"),
        UnavailableError("down"),
        OSError("pipe"),
        asyncio.CancelledError(),
        StopAsyncIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("body", [b"", b"x", CLEAN_BODY])
async def test_F50_whatever_a_scanner_raises_publishes_nothing(
    store: Trove, tmp_path: Path, step: Step, error: BaseException, body: object
) -> None:
    if step == "feed" and body == b"":
        body = b"y"
    toy = Toy(step, error)
    store.use(Scan(toy))
    with pytest.raises((type(error), RuntimeError)):
        await store.put(None, "k", Source(body) if isinstance(body, tuple) else body)
    assert toy.closings == ([] if step == "session" else [1])
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize("verdict", [True, "", "clean", 0, ()])
async def test_what_is_no_verdict_passes_nothing(
    store: Trove, tmp_path: Path, verdict: object
) -> None:
    store.use(Scan(Toy(verdict=verdict)))
    with pytest.raises(TypeError, match="not a Verdict"):
        await store.put(None, "k", b"new")
    await assert_unchanged(store, tmp_path)


async def test_a_scanner_that_forgets_its_verdict_passes_nothing(
    store: Trove, tmp_path: Path
) -> None:
    class Forgetful(ToySession):
        async def finish(self) -> None:  # type: ignore[override]
            pass

    class Forgetfully(Toy):
        async def session(self, context: Context) -> ToySession:
            return Forgetful(self)

    store.use(Scan(Forgetfully()))
    with pytest.raises(TypeError, match="gave NoneType"):
        await store.put(None, "k", b"new")
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize("body", [(b"virus",), BAD_BODY])
async def test_what_has_failed_never_looks_like_an_ended_body(body: tuple[bytes, ...]) -> None:
    chunks = await Scan(Toy()).write(Source(body), Context("put", "box", "k"))
    given = []
    with pytest.raises(ContentBlockedError):
        while True:
            given.append(await anext(chunks))
    assert tuple(given) == body[:-1]
    for _ in range(2):
        with pytest.raises(BackendError):
            await anext(chunks)
    await chunks.aclose()
    with pytest.raises(BackendError):
        await anext(chunks)


async def test_an_ended_body_stays_ended() -> None:
    chunks = await Scan(Toy()).write(Source(CLEAN_BODY), Context("put", "box", "k"))
    assert await collect(chunks) == b"onetwothree"
    assert await collect(chunks) == b""


class Hasty(MemoryDriver):
    """Breaks the contract: publishes when it has as many bytes as were promised."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        data = b""
        while len(data) < (options.size or 0):
            data += bytes(await anext(body))
        return await super().put(bucket, key, OneChunk(data), options)


async def test_a_driver_that_does_not_wait_for_the_end_never_has_a_blocked_body() -> None:
    async with trove.open(Hasty(), default_bucket="box") as store:
        await store.create_bucket("box")
        store.use(Scan(Toy()))
        for body in ([b"virus"], [b"virus", b"more"], [b"more", b"virus"]):
            with pytest.raises(ContentBlockedError):
                await store.put(None, "k", body, size=sum(map(len, body)))
            assert not await store.exists(None, "k")
        await store.put(None, "k", b"fine")
        assert await store.get_bytes(None, "k") == b"fine"


async def test_a_chunk_that_its_producer_reuses_is_scanned_and_stored_as_it_was() -> None:
    class Reusing:
        buffer = bytearray(4)
        left = 3

        def __aiter__(self) -> AsyncIterator[Bytes]:
            return self

        async def __anext__(self) -> Bytes:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            self.buffer[:] = b"%4d" % self.left
            return memoryview(self.buffer) if self.left % 2 else self.buffer

        async def aclose(self) -> None: ...

    toy = Toy()
    chunks = await Scan(toy).write(Reusing(), Context("put", "box", "k"))
    assert await collect(chunks) == b"   2   1   0" == toy.seen


async def test_views_of_immutable_bytes_are_not_copied() -> None:
    data = bytes(1000)
    view = memoryview(data)[10:]
    toy = Toy()
    chunks = await Scan(toy).write(OneChunk(view), Context("put", "box", "k"))
    assert (await anext(chunks)) is view is toy.sessions[0].chunks[0]
    await chunks.aclose()


# -- the limit ------------------------------------------------------------------------------


async def test_a_body_of_known_size_over_the_limit_is_refused_before_its_first_byte(
    store: Trove, tmp_path: Path
) -> None:
    toy = Toy()
    store.use(Scan(toy, max_size=10))
    source = Source()
    with pytest.raises(PolicyError, match="10 bytes"):
        await store.put(None, "k", source, size=11)
    assert (source.given, source.closed, toy.sessions) == (0, 1, [])
    with pytest.raises(PolicyError):
        await store.put(None, "k", b"x" * 11)
    assert toy.contexts == []
    await assert_unchanged(store, tmp_path)


async def test_a_body_of_unknown_size_is_refused_once_it_is_over_the_limit(
    store: Trove, tmp_path: Path
) -> None:
    toy = Toy()
    store.use(Scan(toy, max_size=10))
    source = Source([b"12345", b"12345", b"1", b"never asked for"])
    with pytest.raises(PolicyError):
        await store.put(None, "k", source)
    assert (source.given, source.closed, toy.closings) == (3, 1, [1])
    assert toy.seen == b"1234512345"
    await assert_unchanged(store, tmp_path)


@pytest.mark.parametrize("known", [True, False])
async def test_the_limit_itself_passes(store: Trove, known: bool) -> None:
    store.use(Scan(Toy(), max_size=10))
    await store.put(None, "k", b"1234567890" if known else Source([b"12345", b"67890"]))
    assert await store.get_bytes(None, "k") == b"1234567890"


async def test_without_a_limit_any_size_passes_and_the_default_is_25_MiB(store: Trove) -> None:
    store.use(Scan(Toy(), max_size=None))
    await store.put(None, "k", bytes((25 << 20) + 1))
    store.remove("scan")
    store.use(Scan(Toy()))
    await store.put(None, "k", bytes(25 << 20))
    with pytest.raises(PolicyError):
        await store.put(None, "k", bytes((25 << 20) + 1))


def test_wrong_settings_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="max_size"):
        Scan(Toy(), max_size=-1)
    with pytest.raises(TypeError, match="no scanner"):
        Scan(cast(Scanner, object()))


# -- the hook ---------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [False, True])
async def test_on_detect_is_called_once_sync_or_async(store: Trove, early: bool) -> None:
    calls: list[tuple[str, str, str]] = []

    def plainly(context: Context, threat: str) -> None:
        calls.append(("plain", context.key, threat))

    async def later(context: Context, threat: str) -> None:
        await asyncio.sleep(0)
        calls.append(("async", context.key, threat))

    for hook in (plainly, later):
        store.use(Scan(Toy(early=early), on_detect=hook))
        with pytest.raises(ContentBlockedError):
            await store.put(None, "bad", b"virus")
        store.remove("scan")
    threat = "Early" if early else "Toy.Virus"
    assert calls == [("plain", "bad", threat), ("async", "bad", threat)]


async def test_on_detect_is_not_called_for_clean_bodies_nor_for_errors(store: Trove) -> None:
    calls: list[str] = []

    def note(context: Context, threat: str) -> None:
        calls.append(threat)

    store.use(Scan(Toy(), on_detect=note))
    await store.put(None, "k", b"fine")
    store.remove("scan")
    store.use(Scan(Toy("finish", UnavailableError("down")), on_detect=note))
    with pytest.raises(UnavailableError):
        await store.put(None, "k", b"virus")
    assert calls == []


@pytest.mark.parametrize(
    "error",
    [RuntimeError("the pager is down"), asyncio.CancelledError(), StopAsyncIteration()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_of_on_detect_is_logged_and_the_block_stands(
    store: Trove,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    is_async: bool,
) -> None:
    def plainly(context: Context, threat: str) -> None:
        raise error

    async def later(context: Context, threat: str) -> None:
        raise error

    store.use(Scan(Toy(), on_detect=later if is_async else plainly))
    with caplog.at_level(logging.ERROR), pytest.raises(ContentBlockedError):
        await store.put(None, "k", b"virus")
    assert [record.name for record in caplog.records] == ["trove_async.scan"]
    await assert_unchanged(store, tmp_path)


async def test_a_put_cancelled_in_on_detect_is_cancelled(store: Trove, tmp_path: Path) -> None:
    entered = asyncio.Event()

    async def hang(context: Context, threat: str) -> None:
        entered.set()
        await asyncio.Event().wait()

    toy = Toy()
    store.use(Scan(toy, on_detect=hang))
    task = asyncio.create_task(store.put(None, "k", b"virus"))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert toy.closings == [1]
    await assert_unchanged(store, tmp_path)


# -- in the pipeline ---------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
async def test_the_scanner_sees_plaintext_whatever_the_order_of_registration(
    store: Trove, tmp_path: Path, first: bool
) -> None:
    toy = Toy()
    layers: list[Middleware] = [Scan(toy), Flip(), Xor()]
    for layer in layers if first else reversed(layers):
        store.use(layer)
    body = b"plain as day " * 1000
    info = await store.put(None, "k", body)
    assert toy.seen == body
    assert info.encodings == ("flip", "xor")
    assert await store.get_bytes(None, "k") == body
    toy.sessions.clear()
    await store.put(None, "k", b"old", metadata={"is": "old"})
    toy.sessions.clear()
    with pytest.raises(ContentBlockedError):
        await store.put(None, "k", b"a virus " * 1000)
    assert await store.get_bytes(None, "k") == b"old"


async def test_of_a_raw_put_the_raw_bytes_are_scanned(store: Trove) -> None:
    toy = Toy()
    store.use(Scan(toy))
    store.use(Xor())
    with pytest.raises(ContentBlockedError):
        await store.put(None, "k", b"virus", raw=True)
    assert toy.seen == b"virus"


async def test_M11_no_name_and_no_type_is_skipped(store: Trove) -> None:
    store.use(Scan(Toy()))
    for key, kind in (("a.png", None), ("a.jpg", "image/jpeg"), ("a.iso", "text/plain")):
        toy = Toy()
        store.remove("scan")
        store.use(Scan(toy))
        with pytest.raises(ContentBlockedError):
            await store.put(None, key, b"virus", content_type=kind)
        assert toy.seen == b"virus"


async def test_exceptions_are_made_by_the_scope(store: Trove) -> None:
    toy = Toy()
    store.use(Scan(toy), scope=~keys("trusted/*"))
    await store.put(None, "trusted/a", b"virus")
    assert toy.sessions == []
    with pytest.raises(ContentBlockedError):
        await store.copy("box", "trusted/a", "box", "public")
    assert not await store.exists(None, "public")


class Presigning(MemoryDriver):
    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        return PresignedRequest("PUT", "https://x", {}, datetime.now(UTC))

    presign_put = presign_get


async def test_no_presigned_request_writes_past_the_scanner() -> None:
    async with trove.open(Presigning(), default_bucket="box") as store:
        store.use(Scan(Toy()), scope=~keys("trusted/*"))
        await store.presign_put(None, "trusted/k")
        with pytest.raises(UnsupportedError, match="'scan'"):
            await store.presign_put(None, "k")
        await store.presign_get(None, "k")


async def test_reads_are_not_scanned(store: Trove) -> None:
    toy = Toy()
    store.use(Scan(toy))
    assert await store.get_bytes(None, "k") == b"old"
    assert toy.contexts == []


async def test_two_scanners_both_see_the_body_and_each_reports_its_own(store: Trove) -> None:
    near, far = Toy(), Toy()
    calls: list[str] = []

    async def at_near(context: Context, threat: str) -> None:
        calls.append("near")

    async def at_far(context: Context, threat: str) -> None:
        calls.append("far")

    store.use(Scan(near, on_detect=at_near))
    store.use(Scan(far, on_detect=at_far))
    await store.put(None, "k", b"fine")
    assert near.seen == far.seen == b"fine"
    near.sessions.clear()
    far.sessions.clear()
    with pytest.raises(ContentBlockedError):
        await store.put(None, "k", b"virus")
    assert calls == ["near"]
    assert near.closings == far.closings == [1]


@pytest.mark.parametrize("target", ["memory"], indirect=True)
async def test_a_put_that_is_tried_again_is_scanned_again(target: str) -> None:
    class Recovering(Toy):
        async def session(self, context: Context) -> ToySession:
            self.error = None if self.contexts else UnavailableError("down")
            return await super().session(context)

    toy = Recovering("session")
    policy = RetryPolicy(attempts=3, base=0.0)
    async with trove.open(target, default_bucket="box", retry=policy) as store:
        await store.create_bucket("box")
        store.use(Scan(toy))
        await store.put(None, "k", b"new")
        assert len(toy.contexts) == 2 and toy.closings == [1]
        assert toy.contexts[0] is not toy.contexts[1]
        assert await store.get_bytes(None, "k") == b"new"
        with pytest.raises(ContentBlockedError):
            await store.put(None, "k", b"virus")
        assert len(toy.contexts) == 3  # a finding is final


async def test_the_error_of_a_block_survives_pickling(store: Trove) -> None:
    store.use(Scan(Toy()))
    with pytest.raises(ContentBlockedError) as caught:
        await store.put(None, "bad", b"virus")
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, ContentBlockedError)
    assert (again.threat, again.key) == ("Toy.Virus", "bad")
