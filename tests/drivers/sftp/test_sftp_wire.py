"""Messages as bytes: whole, in pieces, and cut short."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Channel, Lost
from trove_async.drivers.sftp.wire import Attributes, Failure

NAMES = st.lists(
    st.tuples(
        st.binary(max_size=40),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.sampled_from([0x0F, 0x0D, 0x0C, 0x8000000F]),
    ),
    max_size=5,
)


def attributes(size: int, mtime: int, mode: int, flags: int) -> bytes:
    """As a server with these flags sends them."""
    data = struct.pack(">I", flags)
    if flags & 1:
        data += struct.pack(">Q", size)
    if flags & 2:
        data += struct.pack(">II", 7, 8)
    if flags & 4:
        data += struct.pack(">I", mode)
    if flags & 8:
        data += struct.pack(">II", 9, mtime)
    if flags & 0x80000000:
        data += struct.pack(">I", 1) + wire.string(b"name") + wire.string(b"value")
    return data


def names_message(names: list[tuple[bytes, int, int, int, int]]) -> bytes:
    data = struct.pack(">I", len(names))
    for name, size, mtime, mode, flags in names:
        data += wire.string(name) + wire.string(b"long form")
        data += attributes(size, mtime, mode, flags)
    return data


@given(NAMES)
def test_names_are_read_whatever_a_server_tells_of_them(
    names: list[tuple[bytes, int, int, int, int]],
) -> None:
    found = wire.names_of(names_message(names))
    assert [one.name for one in found] == [name for name, *_ in names]
    for one, (_, size, mtime, mode, flags) in zip(found, names, strict=True):
        wanted = Attributes(size if flags & 1 else 0, mtime, mode)
        assert one.attributes == wanted


@given(NAMES, st.data())
def test_a_message_cut_short_is_a_value_error(
    names: list[tuple[bytes, int, int, int, int]], data: st.DataObject
) -> None:
    message = names_message([*names, (b"last", 1, 2, 3, 0x0F)])
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(ValueError, match="cut short"):
        wire.names_of(message[:cut])


class Wire:
    """Stands where asyncssh's channel is; what is written there is counted."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True

    @property
    def messages(self) -> list[bytes]:
        data = b"".join(self.written)
        found = []
        while data:
            size = int.from_bytes(data[:4])
            found.append(data[4 : 4 + size])
            data = data[4 + size :]
        return found


def connected() -> tuple[Channel, Wire]:
    channel, below = Channel(60.0), Wire()
    channel.connection_made(below)  # type: ignore[arg-type]  # the two methods that are used
    return channel, below


def reply(kind: int, number: int, rest: bytes) -> bytes:
    return struct.pack(">IBI", 5 + len(rest), kind, number) + rest


async def test_what_is_asked_in_one_turn_leaves_as_one_message() -> None:
    channel, below = connected()
    asked = [channel.ask(wire.LSTAT, wire.path_request(b"/%d" % n)) for n in range(20)]
    await asyncio.sleep(0)
    assert len(below.written) == 1 and len(below.messages) == 20
    channel.end(Lost())
    assert all(isinstance(one.result(), Lost) for one in asked)
    assert below.aborted


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
async def test_answers_are_put_together_from_pieces(size: int) -> None:
    channel, _ = connected()
    asked = [channel.ask(wire.READ, wire.read(b"h", n, 100)) for n in range(50)]
    stream = b"".join(
        reply(wire.DATA, number, wire.string(bytes([number]) * (number * 7)))
        for number in range(50, 0, -1)
    )
    for start in range(0, len(stream), size):
        channel.data_received(stream[start : start + size], None)
    for number, one in enumerate(asked, 1):
        assert one.result() == bytes([number]) * (number * 7)
    channel.end(Lost())


async def test_a_handle_that_nobody_waits_for_is_closed() -> None:
    channel, below = connected()
    late = channel.ask(wire.OPEN, wire.open_file(b"/late", wire.FOR_READING))
    early = channel.ask(wire.OPEN, wire.open_file(b"/early", wire.FOR_READING))
    channel.data_received(reply(wire.HANDLE, 2, wire.string(b"two")), None)
    channel.abandon(late, early)
    channel.data_received(reply(wire.HANDLE, 1, wire.string(b"one")), None)
    await asyncio.sleep(0)
    closed = [message[9:] for message in below.messages if message[0] == wire.CLOSE]
    assert sorted(closed) == [b"one", b"two"]
    channel.end(Lost())


async def test_a_batch_that_is_cancelled_closes_its_handles() -> None:
    channel, below = connected()
    asked = [channel.ask(wire.OPEN, wire.open_file(b"/x", wire.FOR_READING)) for _ in range(3)]
    waiting = asyncio.ensure_future(channel.all_of(asked))
    await asyncio.sleep(0)
    channel.data_received(reply(wire.HANDLE, 1, wire.string(b"one")), None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    channel.data_received(reply(wire.HANDLE, 2, wire.string(b"two")), None)
    channel.data_received(reply(wire.STATUS, 3, struct.pack(">III", 4, 0, 0)), None)
    await asyncio.sleep(0)
    closed = [message[9:] for message in below.messages if message[0] == wire.CLOSE]
    assert sorted(closed) == [b"one", b"two"]
    channel.end(Lost())


async def test_a_cancel_waits_for_the_answer_to_what_cannot_be_taken_back() -> None:
    channel, _ = connected()
    asked = channel.ask_firmly(wire.RENAME, wire.two_paths(b"/a", b"/b"))

    async def wait() -> object:
        return await asked

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.data_received(reply(wire.STATUS, 1, struct.pack(">III", 0, 0, 0)), None)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asked.result() is None
    channel.end(Lost())


@pytest.mark.parametrize(
    "nonsense",
    [
        reply(wire.STATUS, 77, b"\0" * 12),
        struct.pack(">IBI", 1 << 30, wire.STATUS, 1),
        struct.pack(">IBI", 2, wire.STATUS, 1),
    ],
    ids=["not asked", "too long", "too short"],
)
async def test_a_server_that_speaks_something_else_is_left(nonsense: bytes) -> None:
    channel, below = connected()
    asked = channel.ask(wire.LSTAT, wire.path_request(b"/"))
    channel.data_received(nonsense, None)
    answer = await asked
    assert isinstance(answer, Lost) and below.aborted
    assert isinstance(await channel.ask(wire.LSTAT, wire.path_request(b"/")), Lost)


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\0\0\4", b"\0\0\0\4\0\0\0\5ab"])
async def test_a_status_that_is_cut_short_is_a_failure(rest: bytes) -> None:
    channel, _ = connected()
    asked = channel.ask(wire.LSTAT, wire.path_request(b"/"))
    channel.data_received(reply(wire.STATUS, 1, rest), None)
    assert isinstance(await asked, Failure)
    channel.end(Lost())
