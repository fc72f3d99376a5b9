"""Every change of a stored message is refused, with its own error, and no byte is given that
was not authenticated: F52, S41, S44."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.middleware.encrypt.sealing import (
    KEK,
    Stored,
    cut_up,
    drain,
    keyring,
    now,
    plain,
    reading,
    seal,
    unseal,
)
from trove_async.errors import (
    EncryptionKeyError,
    FormatLimitError,
    FrameAuthError,
    FrameOrderError,
    HeaderAuthError,
    IntegrityError,
    KeyCommitmentError,
    KeyNotFoundError,
    KeyUnwrapError,
    TrailingDataError,
    TroveError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.middleware.encrypt import Encrypt
from trove_async.middleware.encrypt.message import parse_header

FRAME = 1024
BODY = plain(4096)
LAYER = Encrypt(keyring(), frame_size=FRAME)
MESSAGE = seal(LAYER, BODY)
HEADER = parse_header(MESSAGE)
START = HEADER.length
STRIDE = FRAME + 32
FRAMES = [MESSAGE[START + i * STRIDE : START + (i + 1) * STRIDE] for i in range(3)]
FRAMES.append(MESSAGE[START + 3 * STRIDE :])
HEAD = MESSAGE[:START]

Errors = type[TroveError] | tuple[type[TroveError], ...]


def refused(message: bytes, error: Errors, pieces: list[bytes] | None = None) -> bytes:
    """Read as a whole: the error, and nothing given but the beginning of the body."""
    found: list[bytes] = []
    try:  # pytest.raises costs more than the read
        unseal(LAYER, message, pieces, found)
    except (IntegrityError, EncryptionKeyError) as exc:
        assert isinstance(exc, error), f"{exc!r} instead of {error}"
    else:
        raise AssertionError("accepted")
    given = b"".join(found)
    assert BODY.startswith(given)
    return given


def refused_by_range(message: bytes, error: Errors, start: int, stop: int) -> None:
    """Read as a range: the error, or exactly the bytes of the body at that place."""
    found: list[bytes] = []
    try:
        stored = Stored(message)
        layout = now(LAYER.layout(stored, reading()))
        if start >= layout.size:
            return  # the store says InvalidRangeError
        stop = min(stop, layout.size)
        drain(layout.read(stored, start, stop), found)
    except (IntegrityError, EncryptionKeyError) as exc:
        assert isinstance(exc, error), f"{exc!r} instead of {error}"
    else:
        assert b"".join(found) == BODY[start:stop], "what was damaged lies elsewhere"
        if stop == layout.size:
            assert stop == len(BODY), "what touches the last byte proves the end"
    assert BODY[start:].startswith(b"".join(found))


def test_the_message_is_what_these_tests_take_it_for() -> None:
    assert len(MESSAGE) * 8 >= 32_768
    assert [len(frame) for frame in FRAMES] == [STRIDE, STRIDE, STRIDE, STRIDE + 8]
    assert unseal(LAYER, MESSAGE) == BODY


# -- flipped bits -------------------------------------------------------------------------

UNREADABLE = (FormatLimitError, TruncatedError, UnsupportedFormatError)


def header_errors() -> list[Errors]:
    """For every byte of the header, what a change of it may be told as."""
    context = 37 + len(HEADER.context)
    key = context + 2
    provider, info, _ = HEADER.keys[0]
    cuts: list[tuple[int, Errors]] = [
        (3, UnsupportedFormatError),  # version and suite
        (35, KeyCommitmentError),  # message id
        (37, UNREADABLE),  # length of the context
        (context, (HeaderAuthError, UnsupportedFormatError)),
        (key, FormatLimitError),  # number of keys, which was 1
        (key + 2, UNREADABLE),
        (key + 2 + len(provider), KeyNotFoundError),
        (key + 4 + len(provider), UNREADABLE),
        (key + 4 + len(provider) + len(info) - 12, KeyNotFoundError),
        (key + 4 + len(provider) + len(info), KeyUnwrapError),  # nonce
        (key + 6 + len(provider) + len(info), UNREADABLE),
        (START - 53, KeyUnwrapError),
        (START - 52, UnsupportedFormatError),  # content type
        (START - 48, (FormatLimitError, HeaderAuthError)),  # frame size
        (START - 16, KeyCommitmentError),
        (START, HeaderAuthError),
    ]
    errors: list[Errors] = []
    for stop, error in cuts:
        errors += [error] * (stop - len(errors))
    # A number of keys that is within the limits asks for more than there is.
    errors[key - 1] = (FormatLimitError, TruncatedError, UnsupportedFormatError)
    return errors


def frame_errors() -> list[Errors]:
    """For every byte of the frames."""
    last = [FrameAuthError] * 20
    size: list[Errors] = [(FrameAuthError, TruncatedError, UnsupportedFormatError)] * 4
    return [FrameAuthError] * (3 * STRIDE) + last + size + [FrameAuthError] * (FRAME + 16)


def errors_of_every_byte() -> list[Errors]:
    errors = header_errors() + frame_errors()
    assert len(errors) == len(MESSAGE)
    return errors


ERRORS = errors_of_every_byte()


def flipped(bits: range) -> Iterator[tuple[int, bytes]]:
    changed = bytearray(MESSAGE)
    for bit in bits:
        offset, mask = bit >> 3, 1 << (bit & 7)
        changed[offset] ^= mask
        yield offset, bytes(changed)
        changed[offset] ^= mask


def test_every_flipped_bit_is_refused_with_its_error() -> None:
    for offset, message in flipped(range(len(MESSAGE) * 8)):
        given = refused(message, ERRORS[offset])
        if offset < START:
            assert not given
        else:
            assert len(given) <= (offset - START) // STRIDE * FRAME, "nothing of a changed frame"


def test_flipped_bits_are_refused_however_the_bytes_come_in() -> None:
    for sizes in ([1], [7, 1000], [STRIDE]):
        for offset, message in flipped(range(0, len(MESSAGE) * 8, 601)):
            refused(message, ERRORS[offset], cut_up(message, sizes))


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1000, 1100), (0, 4096), (4095, 4096)])
def test_flipped_bits_are_refused_in_ranges(start: int, stop: int) -> None:
    for offset, message in flipped(range(0, len(MESSAGE) * 8, 19)):
        refused_by_range(message, ERRORS[offset], start, stop)


# -- cut off and added to -----------------------------------------------------------------


def test_every_truncation_is_refused() -> None:
    for stop in range(len(MESSAGE)):
        refused(MESSAGE[:stop], TruncatedError)
        if stop % 5 == 0:
            refused(MESSAGE[:stop], TruncatedError, cut_up(MESSAGE[:stop], [500]))


def test_every_truncation_is_refused_in_ranges() -> None:
    for stop in range(1, len(MESSAGE), 3):
        message = MESSAGE[:stop]
        errors = (TruncatedError, FrameAuthError)
        refused_by_range(message, errors, 0, 4096)
        refused_by_range(message, errors, 0, 10)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", MESSAGE, FRAMES[0], FRAMES[3]])
def test_every_appended_length_is_refused(filler: bytes) -> None:
    for size in [*range(1, 400), STRIDE - 1, STRIDE, STRIDE + 8, 3 * STRIDE]:
        message = MESSAGE + (filler * size)[:size]
        assert refused(message, TrailingDataError) in (b"", BODY[: 3 * FRAME])
        refused(message, TrailingDataError, [MESSAGE, message[len(MESSAGE) :]])


def test_appended_bytes_are_refused_in_ranges() -> None:
    errors = (TrailingDataError, TruncatedError, FrameOrderError, FrameAuthError)
    for size in range(1, 2 * STRIDE, 3):
        message = MESSAGE + bytes(size)
        refused_by_range(message, errors, 0, 10_000)
        refused_by_range(message, errors, 0, 10)


def test_a_message_of_one_frame_is_refused_the_same_way() -> None:
    body = plain(100)
    message = seal(LAYER, body)
    for stop in range(len(message)):
        with pytest.raises(TruncatedError):
            unseal(LAYER, message[:stop])
    for more in (b"\0", message):
        for pieces in ([message, more], [message + more]):
            found: list[bytes] = []
            with pytest.raises(TrailingDataError):
                unseal(LAYER, b"", pieces, found)
            assert not found
    for offset in range(START, len(message)):
        found = []
        changed = message[:offset] + bytes([message[offset] ^ 1]) + message[offset + 1 :]
        with pytest.raises((FrameAuthError, TruncatedError, UnsupportedFormatError)):
            unseal(LAYER, changed, None, found)
        assert not found


# -- frames moved about -------------------------------------------------------------------


def made_of(*frames: bytes) -> bytes:
    return HEAD + b"".join(frames)


def orders() -> list[tuple[str, bytes, Errors]]:
    one, two, three, last = FRAMES
    found: list[tuple[str, bytes, Errors]] = [
        ("first and second swapped", made_of(two, one, three, last), FrameOrderError),
        ("second and third swapped", made_of(one, three, two, last), FrameOrderError),
        ("first and third swapped", made_of(three, two, one, last), FrameOrderError),
        ("the last one first", made_of(last, one, two, three), FrameOrderError),
        ("the last one third", made_of(one, two, last, three), FrameOrderError),
        ("first dropped", made_of(two, three, last), FrameOrderError),
        ("second dropped", made_of(one, three, last), FrameOrderError),
        ("third dropped", made_of(one, two, last), FrameOrderError),
        ("last dropped", made_of(one, two, three), TruncatedError),
        ("all but the last dropped", made_of(last), FrameOrderError),
        ("all dropped", made_of(), TruncatedError),
        ("first twice", made_of(one, one, two, three, last), FrameOrderError),
        ("second twice", made_of(one, two, two, three, last), FrameOrderError),
        ("third twice", made_of(one, two, three, three, last), FrameOrderError),
        ("last twice", made_of(one, two, three, last, last), TrailingDataError),
        ("all twice", made_of(*FRAMES, *FRAMES), TrailingDataError),
        ("an earlier frame again at the end", made_of(*FRAMES, one), TrailingDataError),
    ]
    # What a frame says of its own number is in its associated data.
    renumbered = two[:3] + b"\1" + two[4:15] + b"\1" + two[16:]
    found.append(("second as first", made_of(renumbered, two, three, last), FrameAuthError))
    relabelled = b"\xff\xff\xff\xff" + three[:16] + FRAME.to_bytes(4, "big") + three[16:]
    found.append(("third as last", made_of(one, two, relabelled), FrameAuthError))
    regular = last[4:20] + last[24:]
    found.append(("last as regular", made_of(one, two, three, regular, last), FrameAuthError))
    return found


@pytest.mark.parametrize(("name", "message", "error"), orders(), ids=[o[0] for o in orders()])
def test_frames_moved_about_are_refused(name: str, message: bytes, error: Errors) -> None:
    refused(message, error)
    refused(message, error, cut_up(message, [100]))
    wider = (IntegrityError,)
    for start, stop in ((0, 1), (0, 4096), (2000, 4096), (4095, 4096)):
        refused_by_range(message, wider, start, stop)


@pytest.mark.parametrize("position", range(4))
def test_a_frame_of_another_object_is_refused(position: int) -> None:
    other = seal(LAYER, BODY[::-1])
    frames = [other[START + i * STRIDE : START + (i + 1) * STRIDE] for i in range(3)]
    frames.append(other[START + 3 * STRIDE :])
    spliced = [*FRAMES]
    spliced[position] = frames[position]
    refused(made_of(*spliced), FrameAuthError)
    refused(made_of(*frames), FrameAuthError)
    refused_by_range(made_of(*spliced), FrameAuthError, 0, 4096)


def test_the_same_body_sealed_twice_has_no_frame_in_common() -> None:
    other = seal(LAYER, BODY)
    refused(HEAD + other[START:], FrameAuthError)


def test_a_last_frame_larger_than_the_others_is_refused_before_it_is_held() -> None:
    place = START + 3 * STRIDE + 20
    for size in (FRAME + 1, 2**31, 2**32 - 1):
        message = MESSAGE[:place] + size.to_bytes(4, "big") + MESSAGE[place + 4 :]
        for sizes in ([len(message)], [100]):
            refused(message, UnsupportedFormatError, cut_up(message, sizes))


def test_a_range_to_the_end_without_a_last_frame_gives_nothing_of_that_place() -> None:
    """The third frame is genuine, but arithmetic has the last one there."""
    stored = Stored(made_of(*FRAMES[:3]), chunk=STRIDE)
    layout = now(LAYER.layout(stored, reading()))
    found: list[bytes] = []
    with pytest.raises(TruncatedError):
        drain(layout.read(stored, 0, layout.size), found)
    assert b"".join(found) == BODY[: 2 * FRAME]


def test_a_last_frame_where_another_one_belongs_is_told_as_trailing_bytes() -> None:
    """Its length is that of a regular frame, and the range ends with it."""
    body = plain(3 * FRAME - 8)
    stored = Stored(seal(LAYER, body) + bytes(40))
    layout = now(LAYER.layout(stored, reading()))
    assert layout.size == 3 * FRAME
    found: list[bytes] = []
    with pytest.raises(TrailingDataError):
        drain(layout.read(stored, 2 * FRAME, 2 * FRAME + 10), found)
    assert not found


# -- envelopes ----------------------------------------------------------------------------


def test_the_key_of_another_message_is_not_the_committed_one() -> None:
    """The attack that key commitment is for: a valid envelope, by a key holder, of another
    data key."""
    other = parse_header(seal(LAYER, b"other"))
    key = other.keys[0]
    swapped = MESSAGE.replace(HEADER.keys[0][1], key[1]).replace(HEADER.keys[0][2], key[2])
    assert swapped != MESSAGE
    refused(swapped, KeyCommitmentError)


def test_a_header_on_the_frames_of_another_message_is_refused() -> None:
    other = seal(LAYER, BODY)
    refused(other[:START] + MESSAGE[START:], FrameAuthError)


def test_a_suite_without_commitment_is_refused() -> None:
    for suite in (b"\x01\x78", b"\x03\x78", b"\x05\x78", b"\x00\x14"):
        refused(b"\x02" + suite + MESSAGE[3:], UnsupportedFormatError)
        refused(b"\x01" + suite + MESSAGE[3:], UnsupportedFormatError)


def test_a_plain_body_is_no_message() -> None:
    refused(BODY, UnsupportedFormatError)
    refused(b"\x02\x04", TruncatedError)
    refused(b"", TruncatedError)


def test_a_huge_frame_is_refused_before_it_is_held() -> None:
    """F = 2^31 and 65535 keys in a few bytes: nothing is allocated for them."""
    place = START - 52
    refused(MESSAGE[:place] + b"\x80\0\0\0" + MESSAGE[place + 4 :], FormatLimitError)
    place = 37 + len(HEADER.context)
    refused(MESSAGE[:place] + b"\xff\xff" + MESSAGE[place + 2 :], FormatLimitError)
    refused(MESSAGE[:35] + b"\xff\xff" + MESSAGE[37:], FormatLimitError)


def test_an_error_says_no_more_than_its_class() -> None:
    """No oracle: the same words wherever in a frame the change was."""
    said: set[str] = set()
    for _, message in flipped(range((START + 16) * 8, (START + STRIDE) * 8, 67)):
        with pytest.raises(FrameAuthError) as info:
            unseal(LAYER, message)
        said.add(str(info.value))
    assert len(said) == 1
    assert not any(secret in repr(said) for secret in (KEK.hex(), repr(KEK)))


def test_these_tests_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that believes a frame's number accepts a swap."""
    from trove_async.middleware.encrypt import frames

    message = made_of(FRAMES[1], FRAMES[0], *FRAMES[2:])
    refused(message, FrameOrderError)
    real = frames.FrameReader._regular

    def believing(self: frames.FrameReader, frame: memoryview) -> bytes:
        number = self.number
        self.number = int.from_bytes(frame[:4], "big")
        try:
            return real(self, frame)
        finally:
            self.number = number + 1

    monkeypatch.setattr(frames.FrameReader, "_regular", believing)
    assert unseal(LAYER, message) != BODY
