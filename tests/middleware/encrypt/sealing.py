"""Sealing and opening without a store, and without a loop where the keys are at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from trove_async import PutOptions, Trove
from trove_async._chunks import OneChunk
from trove_async.driver.base import Bytes, Chunks
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt import Encrypt, Keyring, envelope, layer

T = TypeVar("T")

KEK = bytes(range(32))
KEY_ID = "kek-2026-01"
DATA_KEY = bytes(range(0x20, 0x40))
MESSAGE_ID = bytes(range(0x40, 0x60))


def plain(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))


def keyring(kek: bytes = KEK, key_id: str = KEY_ID) -> Keyring:
    return Keyring({key_id: kek}, active=key_id)


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of what need not wait."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    work.close()
    raise AssertionError("it waits")


class Pieces:
    """A body of given chunks that never waits."""

    def __init__(self, pieces: Iterable[Bytes]) -> None:
        self._pieces = iter(pieces)
        self.pulled = 0
        self.closed = 0

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Bytes:
        for piece in self._pieces:
            self.pulled += 1
            return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


def cut_up(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """``data`` in chunks of these sizes, over and over."""
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[position : position + size])
        position += size
    return pieces


def drain(chunks: Chunks, found: list[bytes] | None = None) -> list[bytes]:
    """Every chunk, kept in ``found`` also when the stream fails."""
    found = [] if found is None else found
    while True:
        try:
            chunk = now(chunks.__anext__())
        except StopAsyncIteration:
            return found
        assert len(chunk), "a chunk is never empty"
        found.append(bytes(chunk))


def writing(size: int | None = None, key: str = "k", applied: Sequence[str] = ()) -> Context:
    context = Context("put", "box", key)
    context.stored_size = size
    context.applied = [*applied]
    return context


def reading(key: str = "k", applied: Sequence[str] = ("aws-esdk",), **metadata: str) -> Context:
    context = Context("get", "box", key, metadata=metadata)
    context.applied = [*applied]
    return context


def seal(encrypt: Encrypt, data: bytes, pieces: Iterable[Bytes] | None = None, **at: Any) -> bytes:
    """The message of ``data``, handed over in ``pieces``."""
    body: Chunks = OneChunk(data) if pieces is None else Pieces(pieces)
    context = writing(len(data), **at)
    sealed = b"".join(drain(now(encrypt.write(body, context))))
    assert context.stored_size == len(sealed)
    return sealed


def unseal(
    encrypt: Encrypt,
    message: bytes,
    pieces: Iterable[Bytes] | None = None,
    found: list[bytes] | None = None,
    **at: Any,
) -> bytes:
    """The plaintext; what was given before a failure is in ``found``."""
    body: Chunks = OneChunk(message) if pieces is None else Pieces(pieces)
    return b"".join(drain(now(encrypt.read(body, reading(**at))), found))


class Stored:
    """A RangeSource that counts what is fetched."""

    def __init__(self, data: bytes, chunk: int | None = None) -> None:
        self.data = data
        self.chunk = chunk
        self.reads: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> Chunks:
        assert 0 <= start <= stop <= len(self.data)
        self.reads.append((start, stop))
        data = self.data[start:stop]
        return OneChunk(data) if self.chunk is None else Pieces(cut_up(data, [self.chunk]))


@contextmanager
def known_secrets(iv: bytes = bytes(range(12))) -> Iterator[None]:
    """The data key, message id and wrap nonce of the published answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "_random", lambda: DATA_KEY + MESSAGE_ID)
        patch.setattr(envelope, "os", _Fixed(iv))
        yield


class _Fixed:
    def __init__(self, iv: bytes) -> None:
        self._iv = iv

    def urandom(self, size: int) -> bytes:
        assert size == len(self._iv)
        return self._iv


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stored(store: Trove, key: str = "k") -> tuple[bytes, dict[str, str]]:
    """The bytes and metadata the backend holds."""
    async with store.get(None, key, raw=True) as reader:
        return await reader.read(), dict(reader.info.metadata)


def stored_as(metadata: Mapping[str, str]) -> PutOptions:
    """For a put to the driver: what stands beside the bytes."""
    return PutOptions(metadata=metadata)
