"""What hostile bytes are given to, and what must hold whatever they are.

Each target answers with the class of the outcome, and raises anything else than a typed
error: AssertionError where bytes were given out that were never put in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from trove_async import Context, TroveError
from trove_async._chunks import OneChunk, chunks_of
from trove_async.driver.base import Chunks
from trove_async.middleware import Compress, Encrypt, Keyring
from trove_async.middleware.encrypt.envelope import RewrapRecord, unwrap_record, wrap_record

__all__ = ["TARGETS", "Target"]

KEY = bytes(range(32))
BODY = b"".join(b"line %06d of what was put\n" % number for number in range(160))


def run(work: Coroutine[Any, Any, bytes]) -> bytes:
    """Small inputs never wait for anything."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: bytes = stop.value
        return result
    work.close()
    raise AssertionError("a small input had to wait")


async def written(layer: Compress | Encrypt, body: bytes, context: Context) -> bytes:
    chunks = await layer.write(OneChunk(body), context)
    return b"".join([bytes(chunk) async for chunk in chunks])


class Target:
    """One reader of bytes that anybody may have made."""

    def __init__(self, good: list[bytes], read: Callable[[random.Random, bytes], bytes]) -> None:
        self.good = good
        self._read = read

    def __call__(self, dice: random.Random, data: bytes) -> str:
        try:
            found = self._read(dice, data)
        except TroveError as exc:
            return type(exc).__name__
        return "same" if found in (b"", BODY) else "part"


def _source(dice: random.Random, data: bytes) -> Chunks:
    return chunks_of(data, dice.choice((7, 64, 500, 1 << 20))) if data else OneChunk(b"")


async def _read(layer: Compress | Encrypt, source: Chunks, encoding: str) -> bytes:
    """All that was given out, also before an error; it must be what was put in."""
    context = Context("get", "box", "k")
    context.applied = [encoding]
    given = b""
    try:
        chunks = await layer.read(source, context)
        async for chunk in chunks:
            given += bytes(chunk)
            assert BODY.startswith(given), "bytes that were never put in"
    finally:
        await source.aclose()
    return given


class _Stored:
    """Bytes by range, as a backend gives them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, stop: int) -> Chunks:
        assert 0 <= start <= stop <= self.size, "asks for bytes that are not there"
        return OneChunk(self._data[start:stop])


async def _range(layer: Compress | Encrypt, data: bytes, encoding: str, at: int) -> bytes:
    context = Context("get", "box", "k")
    context.applied = [encoding]
    context.stored_size = len(data)
    stored = _Stored(data)
    layout = await layer.layout(stored, context)
    start = min(at, layout.size)
    stop = min(start + 300, layout.size)
    piece = b"".join([bytes(chunk) async for chunk in layout.read(stored, start, stop)])
    assert piece == BODY[start:stop], "a range that was never put in"
    return b""


def _encrypted() -> Target:
    layer = Encrypt(Keyring({"k": KEY}, active="k"), frame_size=512)
    good = [run(written(layer, BODY[:size], Context("put", "box", "k"))) for size in (0, 1, 600)]
    good.append(run(written(layer, BODY, Context("put", "box", "k"))))
    bound = Encrypt(Keyring({"k": KEY}, active="k"), frame_size=128, bind="key")
    good.append(run(written(bound, BODY[:1000], Context("put", "box", "k"))))

    def read(dice: random.Random, data: bytes) -> bytes:
        if dice.random() < 0.5:
            return run(_read(layer, _source(dice, data), "aws-esdk"))
        return run(_range(layer, data, "aws-esdk", dice.randrange(len(BODY))))

    return Target(good, read)


def _compressed() -> Target:
    layer = Compress(min_size=0, frame_size=512, skip_extensions=(), skip_content_types=())
    whole = Compress(min_size=0, skip_extensions=(), skip_content_types=())
    good = [run(written(layer, BODY[:size], Context("put", "box", "k"))) for size in (600, 4000)]
    good += [run(written(whole, BODY[:size], Context("put", "box", "k"))) for size in (600, 4000)]

    def read(dice: random.Random, data: bytes) -> bytes:
        if dice.random() < 0.5:
            return run(_read_compressed(layer, _source(dice, data)))
        return run(_range_compressed(layer, data, dice.randrange(len(BODY))))

    return Target(good, read)


async def _read_compressed(layer: Compress, source: Chunks) -> bytes:
    """Nothing is secret in it, so a change that also mends every checksum is not told from a
    good object; only what was given out without an error counts, and its bound."""
    context = Context("get", "box", "k")
    context.applied = ["zstd"]
    given = 0
    parts = []
    try:
        async for chunk in await layer.read(source, context):
            given += len(chunk)
            assert given < 64 << 20, "grows without bound"
            parts.append(bytes(chunk))
    finally:
        await source.aclose()
    whole = b"".join(parts)
    assert BODY.startswith(whole), "bytes that were never put in"
    return whole


async def _range_compressed(layer: Compress, data: bytes, at: int) -> bytes:
    context = Context("get", "box", "k")
    context.applied = ["zstd"]
    stored = _Stored(data)
    layout = await layer.layout(stored, context)
    start = min(at, layout.size)
    stop = min(start + 300, layout.size)
    given = 0
    async for chunk in layout.read(stored, start, stop):
        given += len(chunk)
    assert given == stop - start
    return b""


def _keyring() -> Target:
    ring = Keyring({"first": KEY, "second": KEY[::-1]}, active="first")
    ring.retire("second")
    ring.add("third", bytes(32))
    ring.destroy("third")
    good = [ring.to_bytes(), Keyring({"k": KEY}, active="k").to_bytes()]

    def read(dice: random.Random, data: bytes) -> bytes:
        found = Keyring.from_bytes(data)
        assert found.active in found
        return b""

    return Target(good, read)


def _record() -> Target:
    message, commitment, data_key = bytes(range(64, 96)), bytes(32), bytes(range(32, 64))
    made = [
        wrap_record(KEY, "key", data_key, message, commitment, loc=loc, unbound=unbound)
        for loc, unbound in ((None, False), (bytes(16), False), (None, True))
    ]
    good = [record.encode().encode() for record in made]

    def read(dice: random.Random, data: bytes) -> bytes:
        record = RewrapRecord.decode(data.decode("latin-1"))
        assert record.encode().encode() == data, "two texts of one record"
        found = unwrap_record(record, KEY, commitment)
        assert found == data_key, "a data key that was never wrapped"
        return b""

    return Target(good, read)


TARGETS: dict[str, Callable[[], Target]] = {
    "encrypted": _encrypted,
    "compressed": _compressed,
    "keyring": _keyring,
    "record": _record,
}
