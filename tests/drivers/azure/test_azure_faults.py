"""Every operation on a bad network: right bytes, or a typed error within the deadline."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from tests.drivers.azure.conftest import opened
from tests.drivers.azure.place import Place, pieces, settled
from tests.servers import proxy as faults
from tests.servers.azurite import KEY, Azurite
from tests.servers.proxy import Fault
from trove_async import NotFoundError, ThrottledError, TroveError, UnavailableError
from trove_async.driver import GetOptions, HeadOptions
from trove_async.errors import BucketNotFoundError, OperationTimeoutError

OLD, NEW = b"old" * 30_000, b"new" * 30_000
LONG = b"".join(bytes([number]) * 65_536 for number in range(10))
DEADLINE = 30.0
"""Seconds: three tries, each bounded by the read timeout of half a second."""

OPERATIONS: dict[str, Callable[[Place], Awaitable[object]]] = {
    "put": lambda p: p.store.put(p.bucket, "k", NEW),
    "put in blocks": lambda p: p.store.put(p.bucket, "long", pieces(10)),
    "put if absent": lambda p: p.store.put(p.bucket, "fresh", NEW, if_none_match="*"),
    "get": lambda p: p.store.get_bytes(p.bucket, "k"),
    "range": lambda p: p.store.get_bytes(p.bucket, "k", range=slice(1000, 61_000)),
    "head": lambda p: p.store.head(p.bucket, "k"),
    "list": lambda p: p.store.list_page(p.bucket),
    "copy": lambda p: p.store.copy(p.bucket, "k", p.bucket, "copied"),
    "delete": lambda p: p.store.delete(p.bucket, "k"),
}
BUSY = b"<?xml version='1.0'?><Error><Code>ServerBusy</Code></Error>"
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
    "503 busy": lambda at: faults.status(503, body=BUSY, times=2),
    "429": lambda at: faults.status(429, headers={"retry-after": "0.05"}),
    "nonsense": lambda at: faults.status(200, body=b"<nonsense", times=2),
}
OFFSETS: list[int | float] = [0, 1, 0.5, 0.98, 300]


async def attempt(place: Place, operation: str, fault: Fault) -> None:
    await place.beside.put(place.bucket, "k", OLD)
    await place.beside.delete_many(place.bucket, ["fresh", "copied", "long"])
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
    bodies = {info.key: await place.stored(info.key) for info in page.objects}
    assert bodies.get("k") in ({OLD, NEW} if operation != "delete" else {OLD, None})
    assert bodies.get("fresh") in (None, NEW) and bodies.get("copied") in (None, OLD)
    assert bodies.get("long") in (None, LONG)
    if error is not None:
        return
    if operation == "get":
        assert result == OLD, "wrong bytes from a whole read"
    elif operation == "range" and fault.kind != "corrupt":
        assert result == OLD[1000:61_000]
    elif operation == "put":
        assert bodies["k"] == NEW, "acknowledged, and not there"
    elif operation == "put in blocks":
        assert bodies["long"] == LONG, "acknowledged, and not there"
    elif operation == "put if absent":
        assert bodies["fresh"] == NEW
    elif operation == "copy":
        assert bodies["copied"] == OLD
    elif operation == "delete" and fault.kind != "corrupt":
        assert "k" not in bodies


MATRIX = list(itertools.product(OPERATIONS, FAULTS))


@pytest.mark.parametrize(("operation", "name"), MATRIX[::9], ids=str)
async def test_a_sample_of_all_faults(azurite: Azurite, operation: str, name: str) -> None:
    at = OFFSETS[(len(operation) + len(name)) % len(OFFSETS)]
    async with opened(azurite, read_timeout=0.5) as place:
        await attempt(place, operation, FAULTS[name](at))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_fault_at_every_offset(azurite: Azurite, operation: str) -> None:
    async with opened(azurite, read_timeout=0.5) as place:
        for name, make in FAULTS.items():
            for at in OFFSETS:
                try:
                    await attempt(place, operation, make(at))
                except (AssertionError, TimeoutError) as exc:
                    raise AssertionError(f"{operation}, {name} at {at}: {exc!r}") from exc
        place.proxy.clear()
        assert await place.uploads() == []


async def test_a_lost_reply_to_a_conditional_put_is_success(place: Place) -> None:
    lost = faults.reset("down", when="PUT")
    place.proxy.add(lost)
    info = await place.store.put(place.bucket, "k", NEW, if_none_match="*")
    assert lost.hits == 1 and info.size == len(NEW) and await place.stored() == NEW


@pytest.mark.parametrize("condition", [None, "*"])
async def test_a_lost_answer_to_the_block_list_is_known_as_success(
    place: Place, condition: str | None
) -> None:
    lost = faults.reset("down", when="comp=blocklist")
    place.proxy.add(lost)
    info = await place.store.put(place.bucket, "k", pieces(10), if_none_match=condition)
    assert lost.hits == 1 and info.size == len(LONG) and await place.stored() == LONG


async def test_fifty_hangs_do_not_starve_the_connections(azurite: Azurite) -> None:
    async with opened(azurite, read_timeout=0.5, connections=8) as place:
        await place.beside.put(place.bucket, "k", OLD)
        place.proxy.add(faults.hang("down", when="GET", times=50))
        results = await asyncio.gather(
            *(place.store.get_bytes(place.bucket, "k") for _ in range(20)), return_exceptions=True
        )
        assert all(r == OLD or isinstance(r, OperationTimeoutError) for r in results), results
        place.proxy.clear()
        assert await place.store.get_bytes(place.bucket, "k") == OLD
    assert settled() == []


async def test_a_closed_idle_connection_is_no_error(place: Place) -> None:
    """Also with a store that tries once."""
    await place.beside.put(place.bucket, "k", OLD)
    place.proxy.add(faults.truncate("up", at=0))
    info = await place.driver.head(place.bucket, "k", HeadOptions())
    assert info.size == len(OLD)


async def test_refused_connections_name_the_host_and_no_secret(place: Place) -> None:
    place.proxy.add(faults.reset("up", times=None), faults.refuse(times=None))
    with pytest.raises(UnavailableError) as raised:
        await place.store.head(place.bucket, "k")
    assert "127.0.0.1" in str(raised.value) and KEY not in repr(raised.value)
    assert raised.value.__cause__ is not None


async def test_throttling_slows_the_whole_client_and_wears_off(place: Place) -> None:
    await place.beside.put(place.bucket, "k", OLD)
    limiter = place.driver._now().connection.limiter
    place.proxy.add(faults.status(503, body=BUSY, times=3))
    with pytest.raises(ThrottledError):
        await place.store.get_bytes(place.bucket, "k")
    slowed = limiter.distance
    assert slowed > 0
    for _ in range(40):
        await place.store.head(place.bucket, "k")
    assert limiter.distance < slowed


async def test_retry_after_and_the_request_id_reach_the_error(place: Place) -> None:
    headers = {"retry-after": "7", "x-ms-request-id": "abc-123"}
    place.proxy.add(faults.status(503, body=BUSY, headers=headers, times=None))
    with pytest.raises(ThrottledError) as raised:
        await place.driver.get(place.bucket, "k", GetOptions())
    assert raised.value.retry_after == 7.0 and "abc-123" in str(raised.value)


async def test_a_missing_container_is_told_from_a_missing_blob(place: Place) -> None:
    for bucket in (place.bucket, "trove-there-is-none"):
        with pytest.raises(NotFoundError) as raised:
            await place.store.head(bucket, "nothing")
        assert isinstance(raised.value, BucketNotFoundError) == (bucket != place.bucket)
