"""The frames of one message: sealed in order, and opened so that no byte leaves before the tag
of its frame was checked.

Plain classes that are fed bytes, without a loop, so that their every answer can be tried.
Chunks are looked at in place; only a frame that goes over the end of a chunk is copied, into
one buffer, because a chunk belongs to us only until we ask for the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async.errors import (
    FormatLimitError,
    FrameAuthError,
    FrameOrderError,
    IntegrityError,
    TrailingDataError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.middleware.encrypt.message import (
    FINAL,
    FINAL_OVERHEAD,
    FRAME_OVERHEAD,
    MOST_FRAMES,
    Header,
)

__all__ = ["BATCH", "FrameReader", "FrameWriter", "open_whole", "seal_final"]

Bytes = bytes | bytearray | memoryview

BATCH: Final = 256 * 1024
"""Plaintext bytes sealed at a time: about 40 microseconds."""
_PIECE: Final = 64 * 1024
"""Plaintext bytes given at a time, at least: frames of the usual size go on without a copy,
small ones are joined."""

_REGULAR_TEXT: Final = b"AWSKMSEncryptionClient Frame"
_FINAL_TEXT: Final = b"AWSKMSEncryptionClient Final Frame"
_HEAD = Struct(">I8xI").pack
"""u32 number | 96-bit nonce: the number again."""
_LENGTH = Struct(">IQ").pack
_U32 = Struct(">I").unpack_from
_MARK: Final = 0xFFFFFFFF
_TAG = 16
_FINAL_HEAD = FINAL_OVERHEAD - _TAG
_ONLY: Final = FINAL + _HEAD(1, 1)


def seal_final(cipher: AESGCM, message_id: bytes, number: int, data: Bytes) -> bytes:
    """The last frame, which says that nothing follows."""
    head = _HEAD(number, number)
    size = len(data)
    sealed = cipher.encrypt(head[4:], data, message_id + _FINAL_TEXT + _LENGTH(number, size))
    return b"".join((FINAL, head, size.to_bytes(4, "big"), sealed))


class FrameWriter:
    """Seals one message. The frame's number is the nonce, so a writer is for one message key
    and goes forward only; after an error the message is given up, never continued."""

    __slots__ = ("_aad", "_cipher", "_fill", "_held", "_id", "_size", "number")

    def __init__(self, cipher: AESGCM, message_id: bytes, frame_size: int, first: int = 1) -> None:
        self._cipher = cipher
        self._id = message_id
        self._aad = message_id + _REGULAR_TEXT
        self._size = frame_size
        self._held = bytearray()
        self._fill = 0
        self.number = first
        """Of the next frame."""

    def feed(self, chunk: Bytes) -> Iterator[bytearray]:
        """Sealed frames, whole ones only; the last bytes wait for what comes after them."""
        size = self._size
        view = memoryview(chunk)
        if self._fill:
            view = self._fill_up(view)
            if not view:
                return
            out = bytearray(size + FRAME_OVERHEAD)
            self._seal(memoryview(self._held), out, 1)
            self._fill = 0
            yield out
        most = BATCH // size or 1
        whole = (len(view) - 1) // size  # the last one is not known to be a regular one
        start = 0
        while whole > 0:
            count = min(most, whole)
            stop = start + count * size
            out = bytearray(count * (size + FRAME_OVERHEAD))
            self._seal(view[start:stop], out, count)
            yield out
            start = stop
            whole -= count
        self._fill_up(view[start:])

    def _fill_up(self, view: memoryview) -> memoryview:
        """Takes what completes the held frame; gives what is left."""
        if not self._held:
            self._held = bytearray(self._size)
        taken = min(len(view), self._size - self._fill)
        self._held[self._fill : self._fill + taken] = view[:taken]
        self._fill += taken
        return view[taken:]

    def _seal(self, view: memoryview, out: bytearray, count: int) -> None:
        size = self._size
        number = self.number
        if number + count > MOST_FRAMES:
            raise FormatLimitError(f"a message has at most {MOST_FRAMES} frames")
        target = memoryview(out)
        encrypt = self._cipher.encrypt_into
        aad = self._aad
        position = start = 0
        for i in range(number, number + count):
            head = _HEAD(i, i)
            stop = position + size + FRAME_OVERHEAD
            out[position : position + 16] = head
            encrypt(
                head[4:],
                view[start : start + size],
                aad + _LENGTH(i, size),
                target[position + 16 : stop],
            )
            position = stop
            start += size
        self.number = number + count

    def pause(self) -> bytearray:
        """The frame that waited, as a regular one: more will follow from another writer. Only
        after whole frames."""
        if self._fill != self._size:
            raise ValueError("a message is divided between frames")
        out = bytearray(self._size + FRAME_OVERHEAD)
        self._seal(memoryview(self._held), out, 1)
        self._fill = 0
        return out

    def finish(self) -> bytes:
        """The last frame; it is empty only when nothing was fed."""
        held = memoryview(self._held)[: self._fill]
        return seal_final(self._cipher, self._id, self.number, held)


class FrameReader:
    """Opens the frames of one message from number ``first`` on.

    ``last``: the number that arithmetic gives the last frame, where the size of the message
    is known; a message that ends earlier or later is refused."""

    __slots__ = (
        "_aad",
        "_cipher",
        "_ending",
        "_fill",
        "_held",
        "_id",
        "_last",
        "_size",
        "number",
    )

    def __init__(
        self, cipher: AESGCM, header: Header, first: int = 1, last: int | None = None
    ) -> None:
        self._cipher = cipher
        self._id = header.message_id
        self._aad = header.message_id + _REGULAR_TEXT
        self._size = header.frame_size
        self._last = last
        self._held = bytearray()
        self._fill = 0
        self._ending: bytes | None = None
        self.number = first
        """Of the next frame."""

    @property
    def has_ended(self) -> bool:
        """The last frame was there and is genuine."""
        return self._ending is not None

    def feed(self, chunk: Bytes) -> Iterator[bytes]:
        """Genuine plaintext. That of the last frame is kept for `end`, because only there is
        it known that nothing follows."""
        view = memoryview(chunk)
        stop = len(view)
        position = 0
        while self._fill and position < stop:
            position += self._fill_up(view[position:])
            if self._fill == self._wanted(self._held, self._fill):
                held = memoryview(self._held)[: self._fill]
                plain = self._open(held)
                self._fill = 0
                if plain:
                    yield plain
        stride = self._size + FRAME_OVERHEAD
        batch: list[bytes] = []
        gathered = 0
        while stop - position >= stride and _U32(view, position)[0] != _MARK:
            batch.append(self._regular(view[position : position + stride]))
            position += stride
            gathered += self._size
            if gathered >= _PIECE:
                yield batch[0] if len(batch) == 1 else b"".join(batch)
                batch.clear()
                gathered = 0
        if batch:
            yield b"".join(batch)
        if position < stop:
            self._rest(view[position:])

    def _rest(self, view: memoryview) -> None:
        """What a chunk ends with: the last frame, or the start of a frame."""
        if self._ending is not None:
            raise TrailingDataError("the message goes on after its last frame")
        wanted = self._wanted(view, len(view))
        if wanted <= len(view):  # only the last frame can be whole here
            self._open(view[:wanted])
            if wanted < len(view):
                raise TrailingDataError("the message goes on after its last frame")
        else:
            self._fill_up(view)

    def _fill_up(self, view: memoryview) -> int:
        """Takes bytes for the held frame, no more than it is known to have."""
        if not self._held:
            self._held = bytearray(self._size + FINAL_OVERHEAD)
        wanted = self._wanted(self._held, self._fill) if self._fill else len(view)
        taken = min(len(view), wanted - self._fill)
        self._held[self._fill : self._fill + taken] = view[:taken]
        self._fill += taken
        return taken

    def _wanted(self, frame: Bytes, size: int) -> int:
        """Bytes of the frame whose first ``size`` bytes are there, as far as these say."""
        if size < 4:
            return 4
        if frame[:4] != FINAL:
            return self._size + FRAME_OVERHEAD
        if size < _FINAL_HEAD:
            return _FINAL_HEAD
        length: int = _U32(frame, _FINAL_HEAD - 4)[0]
        if length > self._size:
            raise UnsupportedFormatError(
                f"a last frame of {length} bytes in a message with frames of {self._size}"
            )
        return length + FINAL_OVERHEAD

    def _open(self, frame: memoryview) -> bytes:
        """Plaintext of a whole frame; of the last one nothing yet."""
        if self._ending is not None:
            raise TrailingDataError("the message goes on after its last frame")
        if _U32(frame)[0] != _MARK:
            return self._regular(frame)
        self._ending = self._final(frame)
        return b""

    def _regular(self, frame: memoryview) -> bytes:
        number = self.number
        head = _HEAD(number, number)
        if self._ending is not None:
            raise TrailingDataError("the message goes on after its last frame")
        if frame[:16] != head:
            raise _misplaced(number, bytes(frame[:16]))
        if number == self._last:
            raise TruncatedError(f"frame {number} should be the last one: the end is missing")
        try:
            plain = self._cipher.decrypt(
                head[4:], frame[16:], self._aad + _LENGTH(number, self._size)
            )
        except InvalidTag as exc:
            raise FrameAuthError(f"frame {number} does not authenticate") from exc
        self.number = number + 1
        return plain

    def _final(self, frame: memoryview) -> bytes:
        number = self.number
        head = _HEAD(number, number)
        if frame[4:20] != head:
            raise _misplaced(number, bytes(frame[4:20]))
        aad = self._id + _FINAL_TEXT + _LENGTH(number, len(frame) - FINAL_OVERHEAD)
        try:
            plain = self._cipher.decrypt(head[4:], frame[_FINAL_HEAD:], aad)
        except InvalidTag as exc:
            raise FrameAuthError(f"frame {number}, the last, does not authenticate") from exc
        if self._last is not None and number < self._last:
            raise TrailingDataError("the message goes on after its last frame")
        return plain

    def end(self) -> bytes:
        """What the last frame held, maybe nothing. TruncatedError when it is missing."""
        if self._ending is not None and not self._fill:
            return self._ending
        frame = bytes(memoryview(self._held)[: self._fill])
        skipped = 4 if frame[:4] == FINAL else 0
        head = frame[skipped : skipped + 16]
        if len(head) == 16 and head != _HEAD(self.number, self.number):
            raise _misplaced(self.number, head)
        raise TruncatedError(f"the message ends before the end of frame {self.number}")


def _misplaced(expected: int, head: bytes) -> IntegrityError:
    """Why this frame is not number ``expected``. A frame that agrees with itself was moved
    here; one that does not was changed."""
    number: int = _U32(head)[0]
    if head == _HEAD(number, number):
        return FrameOrderError(f"frame {number} stands where frame {expected} belongs")
    return FrameAuthError(f"the head of frame {expected} was changed")


def open_whole(cipher: AESGCM, header: Header, frames: Bytes) -> bytes | None:
    """Plaintext of a message of one frame, all of which is there; None when it is no such
    message, which says nothing about what is wrong with it. FrameAuthError for its tag."""
    size = len(frames) - FINAL_OVERHEAD
    if not 0 <= size <= header.frame_size or frames[:_FINAL_HEAD] != _ONLY + size.to_bytes(
        4, "big"
    ):
        return None
    aad = header.message_id + _FINAL_TEXT + _LENGTH(1, size)
    try:
        return cipher.decrypt(_ONLY[8:], frames[_FINAL_HEAD:], aad)
    except InvalidTag as exc:
        raise FrameAuthError("the only frame does not authenticate") from exc
