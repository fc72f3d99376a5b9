"""Header and sizes of a message: exact bytes, known answers, limits before anything else."""

from __future__ import annotations

import hmac
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from tests.middleware.encrypt.sealing import (
    DATA_KEY,
    KEK,
    KEY_ID,
    MESSAGE_ID,
    keyring,
    known_secrets,
    plain,
    seal,
    sha256,
    unseal,
)
from trove_async.errors import (
    FormatLimitError,
    HeaderAuthError,
    KeyCommitmentError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.middleware.encrypt import Encrypt
from trove_async.middleware.encrypt.envelope import wrap_data_key
from trove_async.middleware.encrypt.message import (
    MOST_HEADER,
    Header,
    Limits,
    MoreBytes,
    context_value,
    encode_context,
    encode_header,
    message_size,
    parse_header,
    recognise,
    split,
)
from trove_async.middleware.encrypt.suite import derive, header_tag, opened_with

HELLO = bytes.fromhex(
    "020478404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f000e0001000574726f7665"
    "0003313b2d0001000574726f7665001f6b656b2d323032362d3031000000800000000c000102030405060708090a"
    "0b00306723f438e1c0e43ca568bda09dc45642b3e7b507c44e694b005edfbe21543e8d7311156858c4cce8911827"
    "1b124031a20200000080bbe9a13c6144de6db8a0b1a0e8f11783cd66fc015b916c8c1ee27fb7953e8fad92aef823"
    "b718798638c8082449b3eae4ffffffff0000000100000000000000000000000100000005d5b69a76e3f454d635b7"
    "1e42aa752c7e62787aed82"
)
MESSAGE_KEY = "42b9038b9bd3e8ab73591b447a13c9fd236d8227076a7150e0d6f7d6da207193"
COMMITMENT = "bbe9a13c6144de6db8a0b1a0e8f11783cd66fc015b916c8c1ee27fb7953e8fad"
ANSWERS = [
    (0, 236, "dd4b7b48017c11b4e16822e262fdb0765b5e2b88cee0605c3c3cc6b048bcf941"),
    (1, 237, "e70816d247bde6ee782d855ce5699ca995e03976baef32fcee9ae4efa66189e9"),
    (127, 363, "59907c1c29978e47e51f1b5e166c6814a7a387beb8d293d0e2fc851168a0977f"),
    (128, 364, "55f097d7b99d4a98cc76ee640eba777a0882381cf36bc5326c508fc52e70c358"),
    (129, 397, "5f73a08a961dfd9da37c44e83b4919fa9a4e7c285c2a951a1d86d63da3870496"),
    (256, 524, "968b6984a262ac5834cec9c78ab7a1261df116b65dc512fb6b2c72fb2ec92653"),
    (300, 600, "c3e4b237fb1b17df6b25c5f5df2fa26c6782773174ac706e9513c445e839867f"),
]
LAYER = Encrypt(keyring(), frame_size=128)


def header_of(
    pairs: dict[str, str] | None = None, *, keys: int = 1, frame_size: int = 128
) -> tuple[bytes, Header]:
    """A genuine header made by hand."""
    context = encode_context({"trove": "1;-"} if pairs is None else pairs)
    key, commitment = derive(DATA_KEY, MESSAGE_ID)
    entry = wrap_data_key(KEK, KEY_ID, DATA_KEY, context, iv=bytes(12)).encode()
    signed = encode_header(MESSAGE_ID, context, [entry] * keys, frame_size, commitment)
    data = signed + header_tag(AESGCM(key), signed)
    return data, parse_header(data)


# -- known answers ------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "total", "digest"), ANSWERS)
def test_a_message_is_the_known_one_byte_for_byte(size: int, total: int, digest: str) -> None:
    with known_secrets():
        message = seal(LAYER, plain(size))
    assert len(message) == total == message_size(size, 196, 128)
    assert sha256(message) == digest
    assert unseal(LAYER, message) == plain(size)


def test_hello_is_the_known_message() -> None:
    with known_secrets():
        assert seal(LAYER, b"hello") == HELLO
    assert unseal(LAYER, HELLO) == b"hello"


@pytest.mark.parametrize(("size", "total", "digest"), ANSWERS)
@pytest.mark.parametrize("chunk", [1, 7, 127, 128, 129, 1000])
def test_how_the_body_came_in_does_not_show(size: int, total: int, digest: str, chunk: int) -> None:
    body = plain(size)
    pieces = [body[i : i + chunk] for i in range(0, size, chunk)]
    with known_secrets():
        assert sha256(seal(LAYER, body, pieces)) == digest


def test_the_derived_key_and_commitment_are_the_known_ones() -> None:
    key, commitment = derive(DATA_KEY, MESSAGE_ID)
    assert (key.hex(), commitment.hex()) == (MESSAGE_KEY, COMMITMENT)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_derivation_is_hkdf(data_key: bytes, message_id: bytes) -> None:
    def hkdf(info: bytes) -> bytes:
        return HKDF(hashes.SHA512(), 32, message_id, info).derive(data_key)

    assert derive(data_key, message_id) == (hkdf(b"\x04\x78DERIVEKEY"), hkdf(b"COMMITKEY"))


def test_hkdf_is_the_one_of_rfc_5869() -> None:
    """Its test case 1 with SHA-256; the library computes ours with SHA-512."""
    found = HKDF(hashes.SHA256(), 42, bytes(range(13)), bytes(range(0xF0, 0xFA))).derive(
        b"\x0b" * 22
    )
    assert found.hex().startswith(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    )


# -- the header ---------------------------------------------------------------------------


def test_a_header_says_what_was_put_into_it() -> None:
    data, header = header_of({"trove": "1;zstd", "ключ": "значение"}, keys=2, frame_size=4096)
    assert header.length == len(data)
    assert header.pairs == {"trove": "1;zstd", "ключ": "значение"}
    assert header.inner == ("zstd",)
    assert (header.message_id, header.frame_size, len(header.keys)) == (MESSAGE_ID, 4096, 2)
    assert header.keys[0][0] == b"trove"
    assert header.commitment.hex() == COMMITMENT
    assert header.location is None


def test_what_follows_a_header_does_not_matter() -> None:
    data, header = header_of()
    for rest in (b"", b"\0", data):
        for kind in (bytes, bytearray, memoryview):
            assert parse_header(kind(data + rest)) == header


def test_every_start_of_a_header_asks_for_more() -> None:
    data, _ = header_of()
    for stop in range(len(data)):
        with pytest.raises(MoreBytes) as more:
            parse_header(data[:stop])
        assert stop < more.value.needed <= len(data)


def test_a_context_is_sorted_by_bytes() -> None:
    found = encode_context({"é": "1", "z": "2", "a": "3"})
    assert found.hex() == "0003" + "0001610001330001" + "7a0001320002" + "c3a9000131"
    assert encode_context({}) == b""


def test_a_context_has_a_limit() -> None:
    encode_context({"a": "x" * 8187})
    with pytest.raises(ValueError, match="8192"):
        encode_context({"a": "x" * 8188})


@pytest.mark.parametrize(
    "context",
    [
        "0001",  # a pair is missing
        "000100016100",  # a length is cut off
        "00010001610002" + "78",  # a value is cut off
        "0001000161000178" + "00",  # a byte is left over
        "0002000161000178" + "000161000178",  # a name twice
        "00010001ff000178",  # no UTF-8
        "00",
        "0000ff",
    ],
)
def test_a_malformed_context_is_refused(context: str) -> None:
    raw = bytes.fromhex(context)
    signed = encode_header(MESSAGE_ID, raw, [bytes(6)], 128, bytes(32))
    with pytest.raises(UnsupportedFormatError, match="context"):
        parse_header(signed + bytes(16))


def test_an_empty_context_can_be_read() -> None:
    header = parse_header(encode_header(MESSAGE_ID, b"", [bytes(6)], 128, bytes(32)) + bytes(16))
    assert header.pairs == {}
    with pytest.raises(UnsupportedFormatError):
        _ = header.inner


@pytest.mark.parametrize(
    "value", ["", "1", "1;", "2;-", "1;-;x", "1;ZSTD", "1;a,,b", "1;,a", "1;a b", "01;-"]
)
def test_an_unknown_form_is_named_as_such(value: str) -> None:
    _, header = header_of({"trove": value})
    with pytest.raises(UnsupportedFormatError, match="later version"):
        _ = header.inner


@pytest.mark.parametrize("inner", [(), ("zstd",), ("zstd", "x-own"), ("a" * 64,)])
def test_inner_encodings_round_trip(inner: tuple[str, ...]) -> None:
    _, header = header_of({"trove": context_value(inner)})
    assert header.inner == inner


@pytest.mark.parametrize("text", ["", "a", "AAAA", "!" * 22, "A" * 23])
def test_a_location_that_is_none_is_refused(text: str) -> None:
    _, header = header_of({"trove": "1;-", "trove-loc": text})
    with pytest.raises(UnsupportedFormatError, match="location"):
        _ = header.location


# -- limits -------------------------------------------------------------------------------


def damaged(offset: int, value: bytes) -> bytes:
    data, _ = header_of()
    return data[:offset] + value + data[offset + len(value) :]


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (0, b"\x01", UnsupportedFormatError),
        (1, b"\x01\x78", UnsupportedFormatError),  # a suite without commitment
        (1, b"\x05\x78", UnsupportedFormatError),  # a suite with signature
        (35, b"\xff\xff", FormatLimitError),  # a context of 64 KiB
        (51, b"\x00\x00", FormatLimitError),  # no key
        (51, b"\x00\x09", FormatLimitError),
        (51, b"\xff\xff", FormatLimitError),
        (53, b"\xff\xff", FormatLimitError),  # a provider id of 64 KiB
        (143, b"\x01", UnsupportedFormatError),  # not framed
        (144, b"\x80\x00\x00\x00", FormatLimitError),  # frames of 2 GiB
        (144, b"\x01\x00\x00\x01", FormatLimitError),  # 16 MiB and a byte
        (144, b"\x00\x00\x00\x7f", FormatLimitError),
        (144, b"\x00\x00\x00\x00", FormatLimitError),
    ],
)
def test_what_is_beyond_the_limits_is_refused_before_anything_else(
    offset: int, value: bytes, error: type[Exception]
) -> None:
    data, header = header_of()
    assert data[51:53] == b"\0\1"
    assert data[header.length - 53] == 2
    shift = 0 if offset < 100 else header.length - 196
    with pytest.raises(error):
        parse_header(damaged(offset + shift, value))


def test_limits_can_be_lowered() -> None:
    data, header = header_of(keys=3, frame_size=4096)
    parse_header(data, Limits(header=header.length, recipients=3, frame=4096))
    for limits in (
        Limits(header=header.length - 1),
        Limits(recipients=2),
        Limits(frame=4095),
    ):
        with pytest.raises(FormatLimitError):
            parse_header(data, limits)


# -- genuine or not -----------------------------------------------------------------------


def test_another_data_key_is_not_the_committed_one() -> None:
    _, header = header_of()
    with pytest.raises(KeyCommitmentError):
        opened_with(header, bytes(32))


def test_the_commitment_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, Any]] = []

    def compare(one: bytes, other: bytes) -> bool:
        asked.append((one, other))
        return one == other

    _, header = header_of()
    monkeypatch.setattr(hmac, "compare_digest", compare)
    opened_with(header, DATA_KEY)
    assert asked == [(header.commitment, header.commitment)]


def test_a_changed_header_does_not_authenticate() -> None:
    data, header = header_of()
    place = header.length - 52  # the frame size
    changed = data[:place] + b"\0\0\1\0" + data[place + 4 :]
    with pytest.raises(HeaderAuthError):
        opened_with(parse_header(changed), DATA_KEY)


# -- told by its first bytes --------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "encodings"),
    [
        ("1;-", ("aws-esdk",)),
        ("1;zstd", ("zstd", "aws-esdk")),
        ("1;zstd,x", ("zstd", "x", "aws-esdk")),
    ],
)
def test_our_objects_are_recognised(inner: str, encodings: tuple[str, ...]) -> None:
    data, header = header_of({"trove": inner, "user": "pair"})
    found = recognise(data + b"frames")
    assert found is not None
    assert (found.encodings, found.header) == (encodings, header)


def test_other_objects_are_not_ours() -> None:
    foreign, _ = header_of({"purpose": "somebody else's"})
    for data in (
        b"{}",
        b"\x02\x04\x79",
        b"\x02\x05",
        b"\x28\xb5\x2f\xfd",
        foreign,
        damaged(51, b"\0\0"),
    ):
        assert recognise(data) is None


def test_a_start_that_may_become_ours_asks_for_more() -> None:
    data, _ = header_of()
    for stop in range(len(data)):
        with pytest.raises(MoreBytes):
            recognise(data[:stop])


def test_the_cap_always_tells() -> None:
    for filler in (b"\0", b"\xff", b"\x01", b"\x3f"):
        assert recognise((b"\x02\x04\x78" + filler * MOST_HEADER)[:MOST_HEADER]) is None


def test_a_later_form_is_told_from_a_foreign_object() -> None:
    data, _ = header_of({"trove": "2;whatever"})
    with pytest.raises(UnsupportedFormatError, match="later version"):
        recognise(data)


@given(st.binary(max_size=400), st.booleans())
def test_recognising_never_fails_otherwise(data: bytes, ours: bool) -> None:
    try:
        assert recognise((b"\x02\x04\x78" if ours else b"") + data) is None
    except MoreBytes:
        pass
    except UnsupportedFormatError as exc:
        assert "later version" in exc.message


def test_recognising_loads_no_cipher() -> None:
    script = (
        "import sys; from trove_async.middleware.encrypt.message import recognise; "
        "assert recognise(b'\\x02\\x04\\x78' + bytes(200)) is None; "
        "assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# -- sizes --------------------------------------------------------------------------------


@given(
    st.integers(0, 1 << 50),
    st.integers(100, MOST_HEADER),
    st.integers(1, 131072).map(lambda n: n * 128),
)
def test_sizes_go_both_ways(size: int, header: int, frame_size: int) -> None:
    total = message_size(size, header, frame_size)
    whole, last = split(total, header, frame_size)
    assert whole * frame_size + last == size
    assert last or not size


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_an_empty_last_frame_counts_nothing(frames: int) -> None:
    assert split(196 + frames * 160 + 40, 196, 128) == (frames, 0)


def test_sizes_that_no_message_has_are_truncated() -> None:
    possible = {message_size(n, 196, 128) for n in range(700)}
    possible |= {196 + frames * 160 + 40 for frames in range(1, 6)}
    for total in range(196 + 640):
        if total in possible:
            split(total, 196, 128)
        else:
            with pytest.raises(TruncatedError):
                split(total, 196, 128)
