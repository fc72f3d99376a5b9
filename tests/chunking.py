"""Bodies cut anew, for layers and drivers of tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

__all__ = ["rechunk"]

Bytes = bytes | bytearray | memoryview


async def rechunk(chunks: AsyncIterable[Bytes], size: int) -> AsyncGenerator[Bytes, None]:
    """The same bytes in chunks of exactly ``size``, the last one shorter. Copies only to join."""
    held: list[Bytes] = []
    length = 0
    async for chunk in chunks:
        view = memoryview(chunk)
        while length + len(view) >= size:
            head = view[: size - length]
            view = view[len(head) :]
            yield b"".join([*held, head]) if held else head
            held.clear()
            length = 0
        if len(view):
            held.append(view)
            length += len(view)
    if held:
        yield b"".join(held)
