"""Stock tools open our objects and we open theirs: aws-encryption-sdk from PyPI as the oracle,
and golden messages that both wrote."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
import zstandard

import trove_async as trove
from tests.middleware.encrypt.sdk import KEYS, Sdk
from tests.middleware.encrypt.sealing import (
    Stored,
    cut_up,
    drain,
    keyring,
    now,
    plain,
    reading,
    seal,
    stored,
    unseal,
)
from trove_async import Middleware
from trove_async.errors import UnsupportedFormatError
from trove_async.middleware import Compress
from trove_async.middleware.encrypt import Encrypt, Keyring
from trove_async.middleware.encrypt.message import message_size, parse_header, recognise

GOLDEN = Path(__file__).parent / "golden"
SIZES: dict[str, int] = json.loads((GOLDEN / "sizes.json").read_text())
FIRST, SECOND = KEYS
FRAME_SIZES = [128, 4096, 65536]


def boundaries(frame: int) -> list[int]:
    near = [-9, -8, -1, 0, 1]
    return sorted(
        {0, 1, *(frame + n for n in near), *(2 * frame + n for n in near[2:]), 3 * frame + 7}
    )


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    return Sdk()


@pytest.mark.parametrize("frame", FRAME_SIZES)
def test_the_sdk_reads_ours_at_every_boundary(sdk: Sdk, frame: int) -> None:
    encrypt = Encrypt(keyring(), frame_size=frame)
    assert len(boundaries(frame)) == 11
    for size in boundaries(frame):
        body = plain(size)
        for sizes in ([size or 1], [frame], [frame - 1, 3], [frame + 1], [2 * frame + 5, 100]):
            message = seal(encrypt, body, cut_up(body, sizes))
            assert len(message) == message_size(size, parse_header(message).length, frame)
            assert sdk.unseal(message) == (body, {"trove": "1;-"})


@pytest.mark.parametrize("frame", FRAME_SIZES)
def test_we_read_the_sdk_at_every_boundary(sdk: Sdk, frame: int) -> None:
    encrypt = Encrypt(keyring(), frame_size=frame)
    for size in boundaries(frame):
        body = plain(size)
        message = sdk.seal(body, frame, {"trove": "1;-"})
        for sizes in ([len(message)], [frame], [frame + 32], [frame + 31, 1], [1000, 3 * frame]):
            assert unseal(encrypt, message, cut_up(message, sizes)) == body
        for start, stop in ((0, size), (size // 2, size), (0, 1), (size - 1, size)):
            stored = Stored(message)
            layout = now(encrypt.layout(stored, reading()))
            assert layout.size == size
            if 0 <= start < stop <= size:
                found = b"".join(drain(layout.read(stored, start, stop)))
                assert found == body[start:stop]


def test_an_exact_multiple_is_written_by_the_sdk_with_an_empty_last_frame(sdk: Sdk) -> None:
    """The style of the message differs from ours; both are read."""
    theirs = sdk.seal(plain(256), 128, {"trove": "1;-"})
    ours = seal(Encrypt(keyring(), frame_size=128), plain(256))
    assert len(theirs) - parse_header(theirs).length == len(ours) - parse_header(ours).length + 32
    assert unseal(Encrypt(keyring()), theirs) == unseal(Encrypt(keyring()), ours) == plain(256)


@pytest.mark.parametrize("ids", [(FIRST, SECOND), (SECOND, FIRST)])
def test_either_key_of_a_message_with_two_opens_it(sdk: Sdk, ids: tuple[str, str]) -> None:
    layers = {key_id: Encrypt(keyring(KEYS[key_id], key_id)) for key_id in ids}
    theirs = sdk.seal(plain(100), 128, {"trove": "1;-"}, ids)
    recovery = keyring(KEYS[ids[1]], ids[1])
    ours = seal(Encrypt(keyring(KEYS[ids[0]], ids[0]), recipients=[recovery]), plain(100))
    assert len(parse_header(theirs).keys) == len(parse_header(ours).keys) == 2
    for message in (theirs, ours):
        for key_id, layer in layers.items():
            assert unseal(layer, message) == plain(100)
            assert sdk.unseal(message, (key_id,))[0] == plain(100)


def test_pairs_of_any_language_go_both_ways(sdk: Sdk) -> None:
    pairs = {"ключ": "значение", "名": "値", "z": "", "😀": "a b=c;d"}
    encrypt = Encrypt(keyring(), frame_size=128, pairs=pairs)
    assert sdk.unseal(seal(encrypt, b"body")) == (b"body", {**pairs, "trove": "1;-"})
    theirs = sdk.seal(b"body", 128, {**pairs, "trove": "1;-"})
    assert unseal(encrypt, theirs) == b"body"
    assert parse_header(theirs).pairs == {**pairs, "trove": "1;-"}


def test_a_bound_object_is_a_stock_message_too(sdk: Sdk) -> None:
    message = seal(Encrypt(keyring(), bind="key"), b"body", key="photos/a.jpg")
    data, context = sdk.unseal(message)
    assert data == b"body"
    location = hashlib.sha256(b"photos/a.jpg").digest()[:16]
    assert urlsafe_b64decode(context["trove-loc"] + "==") == location
    assert context == {"trove": "1;-", "trove-loc": context["trove-loc"]}


def test_a_message_of_somebody_else_is_not_taken_for_ours(sdk: Sdk) -> None:
    theirs = sdk.seal(b"body", 128, {"purpose": "their own"})
    assert recognise(theirs) is None
    with pytest.raises(UnsupportedFormatError):
        unseal(Encrypt(keyring()), theirs)


@pytest.mark.parametrize("size", [2000, 3_000_000])
async def test_compressed_and_encrypted_opens_with_the_sdk_and_then_zstd(
    sdk: Sdk, size: int, tmp_path: Path
) -> None:
    body = (b"a line of text that comes again\n" * (size // 32 + 1))[:size]
    layers: list[Middleware] = [Encrypt(keyring()), Compress()]
    async with trove.open("mem://", middleware=layers, default_bucket="box") as store:
        await store.create_bucket("box")
        info = await store.put(None, "k", body)
        assert info.encodings == ("zstd", "aws-esdk")
        message, _ = await stored(store)
    inner, context = sdk.unseal(message)
    assert context == {"trove": "1;zstd"}
    reader = zstandard.ZstdDecompressor().stream_reader(inner, read_across_frames=True)
    assert reader.read() == body
    if shutil.which("zstd") is not None:  # the command, where the machine has it
        path = tmp_path / "object.zst"
        path.write_bytes(inner)
        assert _by_zstd(path) == body


def _by_zstd(path: Path) -> bytes:
    return subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout


# -- golden messages ----------------------------------------------------------------------


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", SIZES)
def test_golden_messages_are_read(name: str) -> None:
    message = golden(name)
    key = "photos/a.jpg" if name == "ours-bound" else "k"
    applied = ["zstd", "aws-esdk"] if name == "ours-over-zstd" else ["aws-esdk"]
    assert unseal(Encrypt(keyring()), message, key=key, applied=applied) == plain(SIZES[name])
    found = recognise(message)
    assert found is not None
    assert found.encodings == tuple(applied)


@pytest.mark.parametrize("name", [n for n in SIZES if "two-keys" in n])
def test_golden_messages_with_two_keys_open_with_the_second(name: str) -> None:
    second = Encrypt(Keyring({SECOND: KEYS[SECOND]}, active=SECOND))
    assert unseal(second, golden(name)) == plain(SIZES[name])


@pytest.mark.parametrize("name", SIZES)
def test_golden_messages_are_read_by_the_sdk(sdk: Sdk, name: str) -> None:
    assert sdk.unseal(golden(name))[0] == plain(SIZES[name])
