"""Long puts: bounded, whole or not at all, and what becomes of the loser of a race."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tests.drivers.azure.place import PART, Place, pieces, settled
from tests.servers import proxy as faults
from trove_async import PreconditionFailedError, TroveError, UnavailableError
from trove_async.driver import PutOptions
from trove_async.drivers.azure.blocks import BlockId, size_of_part
from trove_async.errors import ConflictError, ObjectChangedError
from trove_async.model import MiB

LONG = b"".join(bytes([number]) * (PART // 4) for number in range(10))


class Deliberate(Exception):
    pass


async def test_a_body_of_unknown_length_is_put_in_blocks_with_late_metadata(place: Place) -> None:
    info = await place.store.put(place.bucket, "k", pieces(10), metadata={"a-b": "é"})
    assert info.size == len(LONG) and dict(info.metadata) == {"a-b": "é"}
    assert await place.stored() == LONG
    async with await place.beside.get(place.bucket, "k", raw=True) as raw:
        assert raw.info.metadata["trovelen"] == str(len(LONG))
        assert raw.info.metadata["trovedig"].startswith("blake3:")
    assert len([line for line in place.proxy.requests if "comp=block&" in line]) == 3


async def test_a_body_inside_one_part_is_one_request(place: Place) -> None:
    place.proxy.requests.clear()
    await place.store.put(place.bucket, "k", pieces(3))
    assert len(place.proxy.requests) == 1
    assert await place.stored() == LONG[: 3 * PART // 4]


@pytest.mark.parametrize("at", [0, 3, 4, 5, 9])
async def test_an_error_of_the_body_leaves_nothing(place: Place, at: int) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    error = Deliberate("body")
    with pytest.raises(Deliberate) as raised:
        await place.store.put(place.bucket, "k", pieces(10, error, at))
    assert raised.value is error
    assert await place.stored() == b"old" and await place.uploads() == []
    assert [info.key for info in (await place.beside.list_page(place.bucket)).objects] == ["k"]


@pytest.mark.parametrize("number", [1, 2, 3, 0])
async def test_a_cancel_at_every_block_leaves_nothing(place: Place, number: int) -> None:
    """0: at the block list; then the server may be done before it hears of the cancel."""
    await place.beside.put(place.bucket, "k", b"old")
    when = "comp=block&" if number else "comp=blocklist"
    held = faults.hang("up", when=when)
    passed = [faults.latency(0.0, when=when) for _ in range(number - 1)]
    place.proxy.add(*passed, held)
    putting = asyncio.create_task(place.store.put(place.bucket, "k", pieces(10)))
    await held.struck.wait()
    putting.cancel()
    await asyncio.sleep(0.01)
    putting.cancel()
    place.proxy.clear()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await place.stored() in ((b"old",) if number else (b"old", LONG))
    assert await place.uploads() == []


async def test_no_task_is_left_when_a_block_fails(place: Place) -> None:
    place.proxy.add(faults.status(403, when="comp=block&"))
    with pytest.raises(TroveError):
        await place.driver.put(place.bucket, "k", pieces(40), PutOptions())
    assert not [task for task in settled() if "Parallel" in repr(task)]  # the proxy has its own


async def test_a_block_is_sent_again_and_the_put_goes_on(place: Place) -> None:
    place.proxy.add(
        faults.status(500, when="comp=block&"), faults.reset("up", at=0.5, when="comp=block&")
    )
    await place.store.put(place.bucket, "k", pieces(10))
    assert await place.stored() == LONG


async def test_a_block_that_never_arrives_ends_the_put(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    place.proxy.add(faults.status(500, when="comp=block&", times=None))
    with pytest.raises(UnavailableError):
        await place.store.put(place.bucket, "k", pieces(10))
    assert await place.stored() == b"old"


@pytest.mark.parametrize("at", [0.5, 0.9])
@pytest.mark.parametrize("size", [200_000, 700_000])
async def test_a_body_that_arrives_changed_is_refused(place: Place, size: int, at: float) -> None:
    place.proxy.add(faults.corrupt("up", at=at, when="PUT", times=None))
    with pytest.raises(TroveError):
        await place.store.put(place.bucket, "k", b"x" * size)
    assert not await place.beside.exists(place.bucket, "k")


async def test_the_loser_of_a_race_is_told_so_and_may_try_again(place: Place) -> None:
    """Whoever commits a key throws the blocks of all others away."""
    gate = asyncio.Event()

    async def held() -> AsyncGenerator[bytes, None]:
        async for piece in pieces(9):
            yield piece
        await gate.wait()
        yield bytes([9]) * (PART // 4)

    sent = [faults.latency(0.0, when="comp=block&") for _ in range(2)]
    place.proxy.add(*sent)
    losing = asyncio.create_task(place.driver.put(place.bucket, "k", held(), PutOptions()))
    for block in sent:
        await block.struck.wait()
    winner = pieces(6, size=PART)
    await place.beside.put(place.bucket, "k", winner, part_size=PART)  # azurite: lists only
    gate.set()
    with pytest.raises(ObjectChangedError) as raised:
        await losing
    assert isinstance(raised.value, ConflictError) and raised.value.retryable
    assert await place.stored() == b"".join([piece async for piece in pieces(6, size=PART)])


async def test_conditions_hold_on_the_long_path(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"old")
    place.proxy.requests.clear()
    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", pieces(10), if_none_match="*")
    with pytest.raises(PreconditionFailedError):
        await place.store.put(place.bucket, "k", pieces(10), if_match="0x1")
    assert not [line for line in place.proxy.requests if "comp=block" in line], "bytes moved"
    etag = (await place.beside.head(place.bucket, "k")).etag
    await place.store.put(place.bucket, "k", pieces(10), if_match=etag)
    assert await place.stored() == LONG


async def test_blocks_grow_so_that_any_length_fits() -> None:
    sizes = [size_of_part(number, 8 * MiB) for number in range(1, 50_001)]
    assert sizes[0] == sizes[4999] == 8 * MiB and sizes[5000] == 16 * MiB
    assert sum(sizes) >= 38 * 1024**4 and max(sizes) <= 4000 * MiB


async def test_ids_are_as_long_as_those_of_the_sdk_and_know_their_upload() -> None:
    from base64 import b64encode

    block = BlockId.of(b"t" * 16, 50_000, b"d" * 16)
    assert len(block.pack()) == 46
    text = b64encode(block.pack()).decode()
    assert BlockId.read(text, b"t" * 16) == block
    assert BlockId.read(text, b"u" * 16) is None and BlockId.read("AAAA", b"t" * 16) is None
