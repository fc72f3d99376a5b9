"""Data keys under key-encryption keys: the header's entry, the re-wrap record, the count."""

from __future__ import annotations

import copy
import logging
import pickle
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.middleware.encrypt.leaks import assert_silent, everything_of
from trove_async.errors import (
    EncryptionKeyError,
    EnvelopeError,
    InvalidConfigError,
    KeyNotFoundError,
    KeyUnwrapError,
    TruncatedError,
)
from trove_async.middleware import Context
from trove_async.middleware.encrypt.envelope import (
    METADATA_NAME,
    Edk,
    RewrapRecord,
    WrapCounter,
    bound_location,
    key_id_of,
    location_of,
    read_edk,
    unwrap_data_key,
    unwrap_record,
    wrap_data_key,
    wrap_record,
    wraps,
)
from trove_async.middleware.encrypt.keyring import Keyring

# FORMATS 6.1
KEK = bytes(range(0x20))
DEK = bytes(range(0x20, 0x40))
MESSAGE = bytes(range(0x40, 0x60))
KEK2 = bytes(range(0x60, 0x80))
IV = bytes(range(12))
IV2 = bytes(range(12, 24))
AAD = bytes.fromhex("0001000574726f76650003313b2d")
ENTRY = bytes.fromhex(
    "000574726f7665001f6b656b2d323032362d3031000000800000000c000102030405060708090a0b0030"
    "6723f438e1c0e43ca568bda09dc45642b3e7b507c44e694b005edfbe21543e8d7311156858c4cce89118271b12"
    "4031a2"
)
COMMITMENT = bytes.fromhex("bbe9a13c6144de6db8a0b1a0e8f11783cd66fc015b916c8c1ee27fb7953e8fad")
RECORD = bytes.fromhex(
    "5452573101404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f58d4d8dec171db3f"
    "9c5a14484e682c1a000574726f7665001f6b656b2d323032362d3032000000800000000c0c0d0e0f1011121314"
    "1516170030b980d91b444239029b62d8436183365a701f06c7980ac81f01d6a098c761bdc81b384c3fe535c25d"
    "52afa6489975d905"
)
PLACE = location_of("photos/a.jpg")


def text_of(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def vector() -> RewrapRecord:
    return wrap_record(KEK2, "kek-2026-02", DEK, MESSAGE, COMMITMENT, loc=PLACE, iv=IV2)


# -- the header's entry -------------------------------------------------------------------


def test_the_known_answer_of_an_entry() -> None:
    edk = wrap_data_key(KEK, "kek-2026-01", DEK, AAD, iv=IV)
    assert edk.encode() == ENTRY
    assert read_edk(b"xx" + ENTRY + b"yy", 2) == (edk, 2 + len(ENTRY))
    assert key_id_of(edk) == "kek-2026-01"
    assert unwrap_data_key(KEK, edk, AAD) == DEK


def test_an_entry_that_is_cut_off_is_refused_at_every_length() -> None:
    for length in range(len(ENTRY)):
        with pytest.raises(TruncatedError):
            read_edk(ENTRY[:length])


def test_every_flipped_bit_of_an_entry_is_refused() -> None:
    keyring = {"kek-2026-01": KEK}
    for position in range(len(ENTRY)):
        for bit in range(8):
            data = bytearray(ENTRY)
            data[position] ^= 1 << bit
            with pytest.raises((TruncatedError, KeyUnwrapError, KeyError)):
                edk, _ = read_edk(bytes(data))
                key_id = key_id_of(edk)
                unwrap_data_key(keyring[key_id or "?"], edk, AAD)


def test_a_nonce_is_never_used_twice() -> None:
    seen = {wrap_data_key(KEK, "k", DEK, AAD).provider_info for _ in range(10_000)}
    assert len(seen) == 10_000


def test_another_context_or_key_does_not_unwrap() -> None:
    edk = wrap_data_key(KEK, "k", DEK, AAD)
    with pytest.raises(KeyUnwrapError, match="key 'k'") as caught:
        unwrap_data_key(KEK2, edk, AAD)
    assert_silent(everything_of(caught.value), KEK, KEK2, DEK)
    with pytest.raises(KeyUnwrapError):
        unwrap_data_key(KEK, edk, AAD + b"x")


@pytest.mark.parametrize("provider", ["kms", "trov", "trove2", ""])
def test_an_entry_of_another_provider_is_not_ours(provider: str) -> None:
    assert key_id_of(wrap_data_key(KEK, "k", DEK, AAD, provider=provider)) is None


def test_a_provider_of_another_name_is_read_when_asked_for() -> None:
    edk = wrap_data_key(KEK, "k", DEK, AAD, provider="acme")
    assert key_id_of(edk, provider="acme") == "k"
    assert unwrap_data_key(KEK, edk, AAD) == DEK


@pytest.mark.parametrize(
    "info",
    [b"", b"k", b"\0\0\0\x80\0\0\0\x0c" + IV, b"k\0\0\0\x81\0\0\0\x0c" + IV, b"\xff" * 32],
    ids=["empty", "no iv", "no id", "other tag", "junk"],
)
def test_provider_info_that_cannot_be_read_is_no_key_id(info: bytes) -> None:
    edk = Edk(b"trove", info, bytes(48))
    assert key_id_of(edk) is None
    with pytest.raises(KeyUnwrapError):
        unwrap_data_key(KEK, edk, AAD)


def test_an_id_that_is_no_utf8_is_no_key_id() -> None:
    edk = wrap_data_key(KEK, "k", DEK, AAD)
    assert key_id_of(replace(edk, provider_info=b"\xff" + edk.provider_info[1:])) is None


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33, 64])
def test_keys_of_another_size_are_refused(size: int) -> None:
    edk = wrap_data_key(KEK, "k", DEK, AAD)
    with pytest.raises(InvalidConfigError, match=f"'k' is {size} bytes"):
        wrap_data_key(bytes(size), "k", DEK, AAD)
    with pytest.raises(InvalidConfigError):
        unwrap_data_key(bytes(size), edk, AAD)
    with pytest.raises(ValueError, match="data key"):
        wrap_data_key(KEK, "k", bytes(size), AAD)


# -- the record ---------------------------------------------------------------------------


def test_the_known_answer_of_a_record() -> None:
    record = vector()
    assert record.encode() == text_of(RECORD)
    assert len(record.encode()) == 191
    assert len(RECORD) == 143
    assert RewrapRecord.decode(record.encode()) == record
    assert (record.key_id, record.is_bound, record.is_unbound) == ("kek-2026-02", True, False)
    assert unwrap_record(record, KEK2, COMMITMENT) == DEK
    assert METADATA_NAME == "trovewrap"


@pytest.mark.parametrize(
    ("loc", "unbound", "flags"), [(None, False, 0), (PLACE, False, 1), (None, True, 2)]
)
def test_each_kind_of_record_round_trips(loc: bytes | None, unbound: bool, flags: int) -> None:
    record = wrap_record(KEK, "schlüssel-1", DEK, MESSAGE, COMMITMENT, loc=loc, unbound=unbound)
    again = RewrapRecord.decode(record.encode())
    assert again == record == pickle.loads(pickle.dumps(record)) == copy.copy(record)
    assert (again.flags, again.loc, again.key_id) == (flags, loc, "schlüssel-1")
    assert unwrap_record(again, KEK, COMMITMENT) == DEK
    assert len(record.encode()) < 600
    assert_silent(repr(record) + record.encode(), KEK, DEK)


def test_a_record_is_not_both_bound_and_unbound() -> None:
    with pytest.raises(ValueError, match="location"):
        wrap_record(KEK, "k", DEK, MESSAGE, COMMITMENT, loc=PLACE, unbound=True)
    with pytest.raises(ValueError, match="location"):
        wrap_record(KEK, "k", DEK, MESSAGE, COMMITMENT, loc=PLACE[:15])


async def test_every_flipped_bit_of_a_record_is_refused() -> None:
    keyring = Keyring({"kek-2026-02": KEK2, "kek-2026-01": KEK}, active="kek-2026-01")
    context = Context("get", "b", "photos/a.jpg")
    refused: dict[str, int] = {}
    for position in range(len(RECORD)):
        for bit in range(8):
            data = bytearray(RECORD)
            data[position] ^= 1 << bit
            with pytest.raises((EnvelopeError, KeyUnwrapError, KeyNotFoundError)) as caught:
                record = RewrapRecord.decode(text_of(bytes(data)))
                kek = await keyring.unwrapping_key(record.key_id, context)
                unwrap_record(record, kek, COMMITMENT)
            name = type(caught.value).__name__
            refused[name] = refused.get(name, 0) + 1
            assert_silent(everything_of(caught.value), KEK, KEK2, DEK)
    assert sum(refused.values()) == 143 * 8
    assert set(refused) == {"EnvelopeError", "KeyUnwrapError", "KeyNotFoundError"}


def test_every_flipped_bit_of_its_text_is_refused() -> None:
    text = text_of(RECORD)
    for position in range(len(text)):
        for bit in range(7):
            changed = text[:position] + chr(ord(text[position]) ^ 1 << bit) + text[position + 1 :]
            with pytest.raises((EnvelopeError, KeyUnwrapError)):
                record = RewrapRecord.decode(changed)
                if record.key_id != "kek-2026-02":
                    raise KeyUnwrapError("no such key")
                unwrap_record(record, KEK2, COMMITMENT)


def test_a_record_has_one_text() -> None:
    """Stray bits, padding, the other alphabet and white space are not let through."""
    record = replace(vector(), edk=wrap_data_key(KEK, "kek-2026-2", DEK, b"", iv=IV2))
    text = record.encode()
    assert len(text) % 4 == 2
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(text[-1])
    stray = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last | 1]
    assert urlsafe_b64decode(text[:-1] + stray + "==") == urlsafe_b64decode(text + "==")
    for other in (text[:-1] + stray, text + "==", text + "\n", " " + text, text[:9] + "." + text):
        with pytest.raises(EnvelopeError):
            RewrapRecord.decode(other)


def test_a_record_that_is_cut_off_or_goes_on_is_refused() -> None:
    for length in range(len(RECORD)):
        with pytest.raises(EnvelopeError):
            RewrapRecord.decode(text_of(RECORD[:length]))
    for more in (b"\0", RECORD):
        with pytest.raises(EnvelopeError):
            RewrapRecord.decode(text_of(RECORD + more))


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, 0x55), (4, 3), (4, 4), (4, 0x81), (54, 6), (55, 0x75), (61, 30), (76, 0x81), (94, 0x31)],
    ids=["magic", *["flags"] * 3, *["provider"] * 2, "info", "tag length", "ciphertext"],
)
def test_a_record_of_another_form_is_refused_before_any_key_is_asked_for(
    position: int, value: int
) -> None:
    data = bytearray(RECORD)
    data[position] = value
    with pytest.raises(EnvelopeError):
        RewrapRecord.decode(text_of(bytes(data)))


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_text_crashes_the_parser(data: bytes | str) -> None:
    for text in [data] if isinstance(data, str) else [text_of(data), text_of(b"TRW1" + data)]:
        try:
            record = RewrapRecord.decode(text)
        except EnvelopeError:
            continue
        assert record.encode() == text


def test_an_endless_text_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(EnvelopeError, match="at most"):
        RewrapRecord.decode("A" * 100_000)


def test_the_longest_key_id_still_fits_the_metadata_of_s3() -> None:
    record = wrap_record(KEK, "k" * 255, DEK, MESSAGE, COMMITMENT, loc=PLACE)
    assert RewrapRecord.decode(record.encode()) == record
    assert len(METADATA_NAME) + len(record.encode()) < 1024


def test_a_record_opens_only_the_message_the_flags_and_the_place_it_was_made_for() -> None:
    record = vector()
    other = location_of("photos/b.jpg")
    for changed, commitment in (
        (replace(record, message_id=bytes(32)), COMMITMENT),
        (replace(record, loc=other), COMMITMENT),
        (replace(record, flags=0, loc=None), COMMITMENT),
        (replace(record, flags=2, loc=None), COMMITMENT),
        (record, bytes(32)),
    ):
        with pytest.raises(KeyUnwrapError):
            unwrap_record(changed, KEK2, commitment)


def test_a_record_is_no_entry_of_a_header_and_an_entry_no_record() -> None:
    """Their associated data never meet: a context begins with a count, a record with a word."""
    with pytest.raises(KeyUnwrapError):
        unwrap_data_key(KEK2, vector().edk, AAD)
    edk = wrap_data_key(KEK2, "kek-2026-02", DEK, AAD)
    with pytest.raises(KeyUnwrapError):
        unwrap_record(replace(vector(), edk=edk), KEK2, COMMITMENT)


def test_where_an_object_may_be_read_follows_the_header_and_its_record() -> None:
    def made(**options: object) -> RewrapRecord:
        loc = options.get("loc")
        assert loc is None or isinstance(loc, bytes)
        unbound = bool(options.get("unbound"))
        return wrap_record(KEK, "k", DEK, MESSAGE, COMMITMENT, loc=loc, unbound=unbound)

    other = location_of("other")
    assert bound_location(None, MESSAGE, None) is None
    assert bound_location(None, MESSAGE, PLACE) == PLACE
    assert bound_location(made(loc=other), MESSAGE, PLACE) == other
    assert bound_location(made(loc=other), MESSAGE, None) == other
    assert bound_location(made(unbound=True), MESSAGE, PLACE) is None
    assert bound_location(made(), MESSAGE, None) is None
    with pytest.raises(EnvelopeError, match="leaves out the location"):
        bound_location(made(), MESSAGE, PLACE)
    with pytest.raises(EnvelopeError, match="another object"):
        bound_location(made(loc=PLACE), bytes(32), PLACE)


# -- counting -----------------------------------------------------------------------------


def test_a_key_that_wrapped_too_much_warns_once_and_is_then_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counter = WrapCounter(warn=3, limit=5)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            counter.count(KEK, "k")
        for _ in range(2):
            with pytest.raises(EncryptionKeyError, match="'k' has wrapped 5") as caught:
                counter.count(KEK, "k")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert_silent(everything_of(caught.value) + caplog.text + repr(vars(counter)), KEK)
    assert not caught.value.retryable
    assert counter.count(KEK2, "k") == 1


def test_a_key_is_counted_by_its_bytes_not_its_name() -> None:
    counter = WrapCounter()
    assert [counter.count(KEK, "a"), counter.count(bytes(KEK), "b")] == [1, 2]


def test_the_limits_are_those_of_random_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^32 wraps, warned of at 2^30; a million keys take no more memory than the capacity."""
    counter = WrapCounter(capacity=4)
    for number in range(100):
        counter.count(KEK, "hot")
        counter.count(number.to_bytes(32, "big"), "cold")
    assert len(counter._counts) == 4
    assert counter.count(KEK, "hot") == 101
    counter._counts[hash(KEK)] = 2**32 - 1
    counter.count(KEK, "hot")
    monkeypatch.setattr(wraps, "_counts", counter._counts)
    with pytest.raises(EncryptionKeyError):
        wrap_data_key(KEK, "hot", DEK, AAD)
    with pytest.raises(EncryptionKeyError):
        wrap_record(KEK, "hot", DEK, MESSAGE, COMMITMENT, loc=None)
    wrap_data_key(KEK2, "other", DEK, AAD)
