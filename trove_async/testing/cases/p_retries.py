"""P. Errors that may pass: tried again as often as was agreed, and no oftener."""

from __future__ import annotations

import errno
import time
from collections.abc import Awaitable, Callable
from functools import partial

from trove_async.config import RetryPolicy
from trove_async.errors import (
    ChecksumMismatchError,
    IntegrityError,
    PreconditionFailedError,
    StorageFullError,
    ThrottledError,
    TroveError,
    UnavailableError,
)
from trove_async.testing.case import case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.cases.p_errors import located
from trove_async.testing.faults import Source, broken, corrupt, fail, short
from trove_async.testing.harness import Harness
from trove_async.testing.setups import Place, faulty_place

_QUICK = RetryPolicy(attempts=4, base=0.001, maximum=0.05)

_VERBS: dict[str, Callable[[Place], Awaitable[object]]] = {
    "put": lambda p: p.store.put(p.bucket, "k", b"new"),
    "get": lambda p: p.get("k"),
    "head": lambda p: p.store.head(p.bucket, "k"),
    "delete": lambda p: p.store.delete(p.bucket, "k"),
    "list": lambda p: p.store.list_page(p.bucket),
    "copy": lambda p: p.store.copy(p.bucket, "k", p.bucket, "k"),
}


def throttled(after: float | None = None) -> ThrottledError:
    error = ThrottledError("slow down")
    error.retry_after = after
    return error


@case("K242", "err_throttled", params=list(_VERBS))
async def err_throttled(h: Harness, verb: str) -> None:
    """Twice is survived; for ever ends in the typed error after the agreed tries."""
    place, driver = await faulty_place(h, retry=_QUICK)
    await place.store.put(place.bucket, "k", b"old")
    attempt = _VERBS[verb]
    driver.add(fail(verb, throttled, times=2))
    driver.calls.clear()
    await attempt(place)
    assert driver.count(verb) >= 3, "it was not tried again"
    await place.store.put(place.bucket, "k", b"old")
    driver.add(fail(verb, throttled, times=None))
    driver.calls.clear()
    with h.raises(ThrottledError) as raised:
        await attempt(place)
    assert driver.count(verb) == 4, f"{driver.count(verb)} tries instead of 4"
    located(raised.error, place.bucket, None)
    driver.faults.clear()
    assert await place.get("k") == b"old"


@case("K242", "err_throttled_retry_after")
async def err_throttled_retry_after(h: Harness) -> None:
    """The backend's own wish is honoured, up to the policy's maximum."""
    place, driver = await faulty_place(h, retry=RetryPolicy(attempts=2, base=0, maximum=0.2))
    await place.store.put(place.bucket, "k", b"old")
    for wished, least, most in ((0.1, 0.09, 2.0), (1e9, 0.19, 2.0), (-5.0, 0.0, 2.0)):
        driver.add(fail("head", partial(throttled, wished)))
        started = time.monotonic()
        await place.store.head(place.bucket, "k")
        took = time.monotonic() - started
        assert least <= took < most, f"waited {took:.3f} s when {wished} s were asked for"


@case("K242", "err_throttled_deadline")
async def err_throttled_deadline(h: Harness) -> None:
    policy = RetryPolicy(attempts=1000, base=0.02, maximum=0.02, deadline=0.2)
    place, driver = await faulty_place(h, fail("head", throttled, times=None), retry=policy)
    started = time.monotonic()
    with h.raises(ThrottledError):
        await place.store.head(place.bucket, "k")
    assert time.monotonic() - started < 2
    assert driver.count("head") > 2


def unavailable() -> UnavailableError:
    error = UnavailableError("storage.example:443 refuses the connection")
    error.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    return error


@case("K243", "err_unavailable")
async def err_unavailable(h: Harness) -> None:
    place, driver = await faulty_place(h, retry=_QUICK)
    await place.store.put(place.bucket, "k", b"old")
    driver.add(fail("head", unavailable, times=3))
    assert (await place.store.head(place.bucket, "k")).size == 3
    driver.add(fail("head", unavailable, times=None))
    with h.raises(UnavailableError) as raised:
        await place.store.head(place.bucket, "k")
    assert isinstance(raised.error, ConnectionError)
    assert "storage.example" in str(raised.error)
    assert isinstance(raised.error.__cause__, ConnectionRefusedError)


@case("K243", "body_resumed_after_a_break", params=[0, 1, 70_000, 199_999])
async def body_resumed_after_a_break(h: Harness, at: int) -> None:
    """A get goes on where it was cut off; the reader notices nothing."""
    place, driver = await faulty_place(h, retry=_QUICK)
    body = noise(200_000)
    await place.store.put(place.bucket, "k", body)
    driver.add(broken(at, unavailable))
    assert await place.get("k") == body
    if at == 0:  # no progress at all
        driver.add(broken(at, unavailable, times=None))
        with h.raises(UnavailableError):
            await place.get("k")


@case("K243", "body_replaced_during_a_break")
async def body_replaced_during_a_break(h: Harness) -> None:
    """What is read on must be the same object: never the start of one and the end of another."""
    place, driver = await faulty_place(h, retry=_QUICK)
    body = noise(200_000)
    await place.store.put(place.bucket, "k", body)
    driver.add(broken(70_000, unavailable))
    async with place.store.get(place.bucket, "k") as reader:
        start = await reader.read(50_000)
        await place.store.put(place.bucket, "k", noise(200_000, 2))
        try:
            rest = await reader.read()
        except TroveError:
            return
    assert start + rest == body, "two objects in one body"


@case("K243", "body_that_cannot_be_repeated")
async def body_that_cannot_be_repeated(h: Harness) -> None:
    """An iterator is not asked twice: one try, the typed error, and the old object."""
    place, driver = await faulty_place(h, retry=_QUICK)
    await place.store.put(place.bucket, "k", b"old")
    driver.add(fail("put", unavailable, after=False, times=None))
    driver.calls.clear()
    source = Source(b"new" * 10, 3)
    with h.raises(UnavailableError):
        await place.store.put(place.bucket, "k", source)
    assert (driver.count("put"), source.closed) == (1, 1)
    assert await place.get("k") == b"old"


@case("K243", "lost_answer_of_a_conditional_put", needs=["conditional:create"])
async def lost_answer_of_a_conditional_put(h: Harness) -> None:
    """The first try went through and only its answer was lost: that is no failure."""
    place, driver = await faulty_place(h, retry=_QUICK)
    driver.add(fail("put", unavailable, after=True))
    info = await place.store.put(place.bucket, "k", b"mine", if_none_match="*")
    assert (await place.store.head(place.bucket, "k")).etag == info.etag
    driver.add(fail("put", unavailable, after=False))
    with h.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", b"other", if_none_match="*")
    assert await place.get("k") == b"mine"


@case("K243", "body_cut_short", params=[0, 1, 70_000])
async def body_cut_short(h: Harness, at: int) -> None:
    """A body that ends too early is an error or is read on; never a short success."""
    place, driver = await faulty_place(h)
    body = noise(200_000)
    await place.store.put(place.bucket, "k", body)
    for wanted in (None, slice(100, 150_000)):
        driver.add(short(at, times=None))
        try:
            found = await place.store.get_bytes(place.bucket, "k", range=wanted)
        except TroveError:
            pass
        else:
            assert found == body[wanted or slice(None)], "short, and called a success"
        driver.faults.clear()


@case("K243", "body_corrupted", params=[0, 70_000, 199_999])
async def body_corrupted(h: Harness, at: int) -> None:
    if at and not h.stack.keeps_bodies:
        h.drop("the bodies of these transforms are not in the driver")
    place, driver = await faulty_place(h)
    body = noise(200_000)
    await place.store.put(place.bucket, "k", body)
    driver.add(corrupt(at))
    with h.raises(ChecksumMismatchError, IntegrityError):
        await place.get("k")
    assert await place.get("k") == body


@case("K244", "err_quota_or_disk_full")
async def err_quota_or_disk_full(h: Harness) -> None:
    """Asking again does not make room."""
    place, driver = await faulty_place(h, retry=_QUICK)
    await place.store.put(place.bucket, "k", b"old")

    def full() -> StorageFullError:
        error = StorageFullError("the disk is full")
        error.__cause__ = OSError(errno.ENOSPC, "no space left on device")
        return error

    for verb in ("put", "copy"):
        driver.add(fail(verb, full, times=None))
        driver.calls.clear()
        with h.raises(StorageFullError) as raised:
            await _VERBS[verb](place)
        assert isinstance(raised.error, OSError)
        located(raised.error, place.bucket, "k")
        assert driver.count(verb) == 1
        driver.faults.clear()
        assert await place.get("k") == b"old"
    await place.store.put(place.bucket, "k", b"there is room again")
