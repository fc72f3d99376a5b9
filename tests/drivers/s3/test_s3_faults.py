"""Every operation on a bad network: right bytes, or a typed error within the deadline."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from tests.drivers.s3.conftest import opened
from tests.drivers.s3.place import Place, settled
from tests.servers import proxy as faults
from tests.servers.proxy import Fault
from tests.servers.s3 import Server
from trove_async import NotFoundError, ThrottledError, TroveError, UnavailableError
from trove_async.driver import HeadOptions
from trove_async.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    ObjectNotFoundError,
    OperationTimeoutError,
)

OLD, NEW = b"old" * 30_000, b"new" * 30_000
DEADLINE = 20.0
"""Seconds: three tries, each bounded by the read timeout of half a second."""

OPERATIONS: dict[str, Callable[[Place], Awaitable[object]]] = {
    "put": lambda p: p.store.put(p.bucket, "k", NEW),
    "put if absent": lambda p: p.store.put(p.bucket, "fresh", NEW, if_none_match="*"),
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
    "503 slow down": lambda at: faults.status(
        503, body=b"<Error><Code>SlowDown</Code></Error>", times=2
    ),
    "429": lambda at: faults.status(429, headers={"retry-after": "0.05"}),
    "nonsense": lambda at: faults.status(200, body=b"<nonsense", times=2),
}
OFFSETS: list[int | float] = [0, 1, 0.5, 0.98, 300]


async def stored(place: Place, key: str) -> bytes:
    try:
        return await place.stored(key)
    except ChecksumMismatchError:
        return b"corrupt"


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
    bodies = {info.key: await stored(place, info.key) for info in page.objects}
    if b"corrupt" in bodies.values():
        # moto compares nothing and keeps what came; a real server refuses it. We have to notice.
        assert error is not None and fault.kind == "corrupt" and fault.direction == "up"
        return
    assert bodies.get("k") in ({OLD, NEW} if "delete" not in operation else {OLD, None})
    assert bodies.get("fresh") in (None, NEW) and bodies.get("copied") in (None, OLD)
    if error is not None:
        return
    if operation == "get":
        assert result == OLD, "wrong bytes from a whole read"
    elif operation == "range" and fault.kind != "corrupt":
        assert result == OLD[1000:61_000]
    elif operation == "put":
        assert bodies["k"] == NEW, "acknowledged, and not there"
    elif operation == "put if absent":
        assert bodies["fresh"] == NEW
    elif operation == "copy":
        assert bodies["copied"] == OLD
    elif "delete" in operation and fault.kind != "corrupt" and fault.code != 200:
        assert "k" not in bodies


MATRIX = [
    case
    for case in itertools.product(OPERATIONS, FAULTS, OFFSETS)
    # moto takes a head that was cut for a whole one, without a body
    if not (case[0].startswith("put") and case[1] == "truncate up")
]


@pytest.mark.parametrize(("operation", "name", "at"), MATRIX[::41], ids=str)
async def test_a_sample_of_all_faults(
    moto: Server, operation: str, name: str, at: int | float
) -> None:
    async with opened(moto, read_timeout=0.5) as place:
        await attempt(place, operation, FAULTS[name](at))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_fault_at_every_offset(moto: Server, operation: str) -> None:
    async with opened(moto, read_timeout=0.5) as place:
        for name, at in [(name, at) for what, name, at in MATRIX if what == operation]:
            try:
                await attempt(place, operation, FAULTS[name](at))
            except (AssertionError, TroveError, TimeoutError) as exc:
                raise AssertionError(f"{operation}, {name} at {at}: {exc!r}") from exc
        place.proxy.clear()
        assert await place.uploads() == []


async def test_a_lost_reply_to_a_conditional_put_is_success(moto: Server) -> None:
    async with opened(moto) as place:
        lost = faults.reset("down", when="PUT")
        place.proxy.add(lost)
        info = await place.store.put(place.bucket, "k", NEW, if_none_match="*")
        assert lost.hits == 1 and info.size == len(NEW) and await place.stored() == NEW


async def test_fifty_hangs_do_not_starve_the_connections(moto: Server) -> None:
    async with opened(moto, read_timeout=0.5, connections=8) as place:
        await place.beside.put(place.bucket, "k", OLD)
        place.proxy.add(faults.hang("down", when="GET", times=50))
        driver = place.store
        results = await asyncio.gather(
            *(driver.get_bytes(place.bucket, "k") for _ in range(20)), return_exceptions=True
        )
        assert all(r == OLD or isinstance(r, OperationTimeoutError) for r in results), results
        place.proxy.clear()
        assert await driver.get_bytes(place.bucket, "k") == OLD
    assert settled() == []


async def test_a_closed_idle_connection_is_no_error(moto: Server) -> None:
    """Also with a store that tries once."""
    async with opened(moto) as place:
        await place.beside.put(place.bucket, "k", OLD)
        place.proxy.add(faults.truncate("up", at=0))
        info = await place.driver.head(place.bucket, "k", HeadOptions())
        assert info.size == len(OLD)


async def test_refused_connections_name_the_host_and_no_secret(moto: Server) -> None:
    async with opened(moto) as place:
        place.proxy.add(faults.refuse(times=None))
        with pytest.raises(UnavailableError) as raised:
            await place.store.head(place.bucket, "k")
        assert "127.0.0.1" in str(raised.value) and "secretsecret" not in repr(raised.value)
        assert raised.value.__cause__ is not None


async def test_throttling_slows_the_whole_client_and_wears_off(moto: Server) -> None:
    async with opened(moto) as place:
        await place.beside.put(place.bucket, "k", OLD)
        limiter = place.driver._now().connection.limiter
        body = b"<Error><Code>SlowDown</Code></Error>"
        place.proxy.add(faults.status(503, body=body, times=3))
        with pytest.raises(ThrottledError):
            await place.store.get_bytes(place.bucket, "k")
        slowed = limiter.distance
        assert slowed > 0
        for _ in range(40):
            await place.store.head(place.bucket, "k")
        assert limiter.distance < slowed


async def test_a_missing_bucket_is_told_from_a_missing_key(moto: Server) -> None:
    async with opened(moto) as place:
        for bucket in (place.bucket, "trove-there-is-none"):
            with pytest.raises(NotFoundError) as raised:
                await place.store.head(bucket, "nothing")
            is_there = bucket == place.bucket
            assert type(raised.value) is (ObjectNotFoundError if is_there else BucketNotFoundError)
