"""Two small layers that stand in for the built-in ones: `Xor` can seek, `Flip` cannot."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tests.chunking import rechunk
from trove_async import Chunks, Context, Direction, Layout, RangeSource, Stage
from trove_async._chunks import collect
from trove_async.errors import CorruptFrameError, TrailingDataError, TruncatedError

FRAME = 1000
_TABLE = bytes(value ^ 0x5A for value in range(256))
_HEAD = b"XOR1"
_FOOT = struct.Struct(">4sQ")
Bytes = bytes | bytearray | memoryview


class Xor:
    """Header, frames of a tag byte and up to FRAME masked bytes, footer with the size."""

    name = "xor"
    direction = Direction.READ_WRITE
    stage = Stage.ENCRYPT
    encoding = "xor"
    head = len(_HEAD)
    tail = _FOOT.size

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        if context.stored_size is not None:
            inner = context.stored_size
            frames = -(-inner // FRAME)
            context.stored_size = self.head + inner + frames + self.tail
        context.hints["f"] = str(FRAME)
        return self._written(chunks)

    async def _written(self, chunks: Chunks) -> AsyncGenerator[Bytes, None]:
        yield _HEAD
        size = 0
        async with aclosing(rechunk(chunks, FRAME)) as frames:
            async for frame in frames:
                size += len(frame)
                yield b"\x01" + bytes(frame).translate(_TABLE)
        yield _FOOT.pack(b"1ROX", size)

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        return self._read(chunks)

    async def _read(self, chunks: Chunks) -> AsyncGenerator[Bytes, None]:
        held = b""
        seen = 0
        started = False
        async for chunk in chunks:
            held += bytes(chunk)
            if not started and len(held) >= self.head:
                if held[: self.head] != _HEAD:
                    raise CorruptFrameError("not an xor body")
                held = held[self.head :]
                started = True
            while started and len(held) > FRAME + 1 + self.tail:
                yield self._frame(held[: FRAME + 1])
                seen += FRAME
                held = held[FRAME + 1 :]
        if not started or len(held) < self.tail:
            raise TruncatedError("an xor body ends with its footer")
        mark, size = _FOOT.unpack(held[-self.tail :])
        if mark != b"1ROX":
            raise TrailingDataError("no footer at the end of an xor body")
        rest = held[: -self.tail]
        while rest:
            piece = self._frame(rest[: FRAME + 1])
            seen += len(piece)
            rest = rest[FRAME + 1 :]
            yield piece
        if seen != size:
            raise TruncatedError(f"{seen} bytes, the footer says {size}")

    def _frame(self, stored: bytes) -> bytes:
        if stored[:1] != b"\x01":
            raise CorruptFrameError("a frame begins with its tag")
        return stored[1:].translate(_TABLE)

    async def layout(self, below: RangeSource, context: Context) -> Layout:
        async with aclosing(below.read(0, self.head)) as chunks:
            if await collect(chunks) != _HEAD:
                raise CorruptFrameError("not an xor body")
        async with aclosing(below.read(below.size - self.tail, below.size)) as chunks:
            mark, size = _FOOT.unpack(await collect(chunks))
        if mark != b"1ROX":
            raise TruncatedError("no footer at the end of an xor body")
        return XorLayout(size)


class XorLayout:
    def __init__(self, size: int) -> None:
        self.size = size

    async def _frames(
        self, below: RangeSource, start: int, stop: int
    ) -> AsyncGenerator[Bytes, None]:
        if start >= stop:
            return
        first, last = start // FRAME, (stop - 1) // FRAME
        low = len(_HEAD) + first * (FRAME + 1)
        high = len(_HEAD) + min((last + 1) * (FRAME + 1), self.size + -(-self.size // FRAME))
        position = first * FRAME
        async with (
            aclosing(below.read(low, high)) as chunks,
            aclosing(rechunk(chunks, FRAME + 1)) as frames,
        ):
            async for frame in frames:
                if bytes(frame[:1]) != b"\x01":
                    raise CorruptFrameError("a frame begins with its tag")
                plain = bytes(frame[1:]).translate(_TABLE)
                piece = plain[max(0, start - position) : max(0, stop - position)]
                position += len(plain)
                if piece:
                    yield piece

    def read(self, below: RangeSource, start: int, stop: int) -> Chunks:
        return self._frames(below, start, stop)


class Flip:
    """A deflate stream: its middle cannot be read without its start."""

    name = "flip"
    direction = Direction.READ_WRITE
    stage = Stage.COMPRESS
    encoding = "flip"

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        return self._packed(chunks)

    async def _packed(self, chunks: Chunks) -> AsyncGenerator[Bytes, None]:
        packer = zlib.compressobj(1)
        async for chunk in chunks:
            if packed := packer.compress(chunk):
                yield packed
        yield packer.flush()

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        return self._unpacked(chunks)

    async def _unpacked(self, chunks: Chunks) -> AsyncGenerator[Bytes, None]:
        unpacker = zlib.decompressobj()
        try:
            async for chunk in chunks:
                data = bytes(chunk)
                while data:
                    if piece := unpacker.decompress(data, 1 << 20):
                        yield piece
                    data = unpacker.unconsumed_tail
        except zlib.error as exc:
            raise CorruptFrameError("not a deflate body") from exc
        if rest := unpacker.flush():
            yield rest
        if not unpacker.eof:
            raise TruncatedError("a deflate body without its end")
