"""A keyring as a document: every other one is refused, sealed, and on the disk."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.middleware.encrypt.leaks import assert_silent, everything_of, listening
from tests.middleware.encrypt.rings import CHEAP, HERE, TEXT, A, B, C, full, same
from trove_async.errors import (
    EnvelopeError,
    InvalidConfigError,
    KeyNotFoundError,
    KeyUnwrapError,
)
from trove_async.middleware.encrypt.keyring import Keyring, ScryptCost

# -- the document -------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, "correct horse", b"\xff\0"])
async def test_a_document_holds_all_of_a_keyring(passphrase: str | bytes | None) -> None:
    keyring = full()
    data = keyring.to_bytes(passphrase=passphrase, cost=CHEAP)
    again = Keyring.from_bytes(data, passphrase=passphrase)
    assert same(again, keyring)
    assert (again.active, again.states) == (keyring.active, keyring.states)
    assert await again.unwrapping_key("alt", HERE) == A
    with pytest.raises(KeyNotFoundError, match="destroyed"):
        await again.unwrapping_key("weg", HERE)
    with pytest.raises(InvalidConfigError):
        again.activate("alt")


def test_a_document_is_what_the_guide_says() -> None:
    assert json.loads(full().to_bytes()) == {
        "version": 1,
        "active": "kek-b",
        "keys": {
            "alt": {"state": "decrypt-only", "key": base64.b64encode(A).decode()},
            "kek-b": {"state": "active", "key": base64.b64encode(B).decode()},
            "weg": {"state": "destroyed"},
            "schlüssel": {"state": "inactive", "key": base64.b64encode(C).decode()},
        },
    }


def _wrong(**changes: object) -> bytes:
    good: dict[str, object] = {
        "version": 1,
        "active": "a",
        "keys": {"a": {"state": "active", "key": base64.b64encode(A).decode()}},
    }
    return json.dumps({**good, **changes}).encode()


def _key(**fields: object) -> bytes:
    good: dict[str, object] = {"state": "active", "key": base64.b64encode(A).decode()}
    return _wrong(keys={"a": {**good, **fields}})


COST = {"n": 1024, "r": 8, "p": 1, "salt": TEXT}
WRONG = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "no JSON": b"{" + TEXT.encode(),
    "no UTF-8": _wrong() + b"\xff" + A,
    "UTF-16": _wrong().decode().encode("utf-16"),
    "two documents": _wrong() * 2,
    "an endless nest": b"[" * 100_000,
    "an endless number": b'{"version": ' + b"1" * 10_000 + b"}",
    "too long": _wrong() + b" " * (4 << 20),
    "another field": _wrong(extra=TEXT),
    "no version": json.dumps({"active": "a", "keys": {}}).encode(),
    "version 2": _wrong(version=2),
    "version true": _wrong(version=True),
    "version 1.0": _wrong(version=1.0),
    "keys as a list": _wrong(keys=[TEXT]),
    "no keys": _wrong(keys={}),
    "active unknown": _wrong(active="b"),
    "active a list": _wrong(active=["a"]),
    "nothing active": _key(state="inactive"),
    "two active": _wrong(
        keys={"a": {"state": "active", "key": TEXT}, "b": {"state": "active", "key": TEXT}}
    ),
    "a name twice": _wrong().replace(b'"keys": {', b'"keys": {"a": {"state": "destroyed"}, '),
    "a field twice": _wrong().replace(b'"state"', b'"key": "", "state"'),
    "no state": _wrong(keys={"a": {"key": TEXT}}),
    "a state of none": _key(state="loaded"),
    "a state as a list": _key(state=["active"]),
    "an entry as text": _wrong(keys={"a": TEXT}),
    "another field of a key": _key(secret=TEXT),
    "no key": _wrong(keys={"a": {"state": "active"}}),
    "a destroyed key": _wrong(keys={"a": {"state": "destroyed", "key": TEXT}}),
    "a short key": _key(key=base64.b64encode(A[:31]).decode()),
    "an empty key": _key(key=""),
    "a key as a number": _key(key=17),
    "a key with white space": _key(key=TEXT + "\n"),
    "a key of stray bits": _key(key=TEXT[:-2] + chr(ord(TEXT[-2]) + 1) + "="),
    "a key without padding": _key(key=TEXT.rstrip("=")),
    "a key in another alphabet": _key(key="é" + TEXT[1:]),
    "an empty name": _wrong(active="", keys={"": {"state": "active", "key": TEXT}}),
    "a broken name": _wrong(active="\ud800", keys={"\ud800": {"state": "active", "key": TEXT}}),
    "scrypt as text": _key(scrypt=TEXT),
    "scrypt without salt": _key(scrypt={"n": 1024, "r": 8, "p": 1}),
    "scrypt of fractions": _key(scrypt={**COST, "n": 1024.0}),
    "scrypt of no power of two": _key(scrypt={**COST, "n": 1000}),
    "scrypt of endless cost": _key(scrypt={**COST, "n": 1 << 40}),
    "scrypt that is negative": _key(scrypt={**COST, "p": -1}),
    "scrypt with a salt of no base64": _key(scrypt={**COST, "salt": "?"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_document_is_refused_in_silence(name: str) -> None:
    with listening() as heard, pytest.raises(InvalidConfigError) as caught:
        Keyring.from_bytes(WRONG[name])
    assert_silent(everything_of(caught.value) + heard.getvalue(), A)


def test_the_document_the_wrong_ones_are_made_of_is_right() -> None:
    assert Keyring.from_bytes(_wrong()).active == "a"
    assert Keyring.from_bytes(_key(scrypt=COST)).active == "a"


@given(st.binary(max_size=100))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    for candidate in (data, b"TROVEKR1" + data, b'{"version": 1, "keys": ' + data):
        with pytest.raises((InvalidConfigError, EnvelopeError, KeyUnwrapError)):
            Keyring.from_bytes(candidate, passphrase="x" if candidate[:1] == b"T" else None)


# -- sealed -------------------------------------------------------------------------------


def test_a_sealed_keyring_opens_with_its_passphrase_only() -> None:
    keyring = full()
    data = keyring.to_bytes(passphrase="correct horse", cost=CHEAP)
    assert data != keyring.to_bytes(passphrase="correct horse", cost=CHEAP), "salt and nonce"
    assert_silent(data.decode("latin-1"), A, B, C)
    with pytest.raises(KeyUnwrapError, match="another passphrase") as caught:
        Keyring.from_bytes(data, passphrase="battery staple")
    assert_silent(everything_of(caught.value), A, B, C)
    assert "battery" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    with pytest.raises(InvalidConfigError, match="give its passphrase"):
        Keyring.from_bytes(data)
    with pytest.raises(InvalidConfigError, match="empty passphrase"):
        keyring.to_bytes(passphrase="")


def test_an_open_keyring_does_not_pass_for_a_sealed_one() -> None:
    """Who put it there did not know the passphrase."""
    with pytest.raises(EnvelopeError, match="not sealed"):
        Keyring.from_bytes(full().to_bytes(), passphrase="correct horse")


def test_a_passphrase_is_the_same_however_its_accents_are_typed() -> None:
    data = full().to_bytes(passphrase="caf\u00e9", cost=CHEAP)
    assert same(Keyring.from_bytes(data, passphrase="cafe\u0301"), full())


def test_every_flipped_bit_and_every_length_of_a_sealed_keyring_is_refused() -> None:
    data = Keyring({"a": A}, active="a").to_bytes(passphrase="pw", cost=CHEAP)
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises((EnvelopeError, KeyUnwrapError)):
                Keyring.from_bytes(bytes(changed), passphrase="pw")
    for length in range(len(data)):
        with pytest.raises((EnvelopeError, KeyUnwrapError)):
            Keyring.from_bytes(data[:length], passphrase="pw")
    with pytest.raises(KeyUnwrapError):
        Keyring.from_bytes(data + b"\0", passphrase="pw")


@pytest.mark.parametrize(
    "numbers", [(33, 8, 1), (21, 8, 1), (63, 1, 1), (255, 255, 255), (0, 8, 1)]
)
def test_a_sealed_keyring_does_not_order_endless_work(numbers: tuple[int, int, int]) -> None:
    data = Keyring({"a": A}, active="a").to_bytes(passphrase="pw", cost=CHEAP)
    with pytest.raises(EnvelopeError, match="impossible scrypt cost"):
        Keyring.from_bytes(data[:8] + bytes(numbers) + data[11:], passphrase="pw")


@pytest.mark.parametrize(
    "cost", [(0, 8, 1), (3, 8, 1), (1, 8, 1), (2, 0, 1), (2, 8, 0), (2, 999, 1)]
)
def test_an_impossible_cost_is_refused(cost: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidConfigError, match="scrypt"):
        ScryptCost(*cost)


def test_the_default_cost_is_the_recommended_one() -> None:
    assert ScryptCost() == ScryptCost(n=131072, r=8, p=1)
    data = Keyring({"a": A}, active="a").to_bytes(passphrase="pw")
    assert data[8:12] == bytes((17, 8, 1, 0))
    assert Keyring.from_bytes(data, passphrase="pw").active == "a"


# -- the file -----------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, "pw"])
def test_a_file_is_private_and_gives_the_keyring_back(
    tmp_path: Path, passphrase: str | None
) -> None:
    path = tmp_path / "keys.json"
    mask = os.umask(0)
    try:
        full().to_file(path, passphrase=passphrase, cost=CHEAP)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert same(Keyring.from_file(path, passphrase=passphrase), full())
    assert same(Keyring.from_file(os.fspath(path), passphrase=passphrase), full())
    assert os.listdir(tmp_path) == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o602])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys"
    full().to_file(path)
    path.chmod(mode)
    with pytest.raises(InvalidConfigError, match="chmod 600") as caught:
        Keyring.from_file(path)
    assert_silent(everything_of(caught.value), A, B)
    assert same(Keyring.from_file(path, allow_loose=True), full())
    full().to_file(path, passphrase="pw", cost=CHEAP)
    path.chmod(mode)
    assert same(Keyring.from_file(path, passphrase="pw"), full()), "sealed: nothing to read"


def test_a_file_is_replaced_whole_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    old, new = Keyring({"a": A}, active="a"), full()
    old.to_file(path)
    with pytest.raises(InvalidConfigError, match="there already"):
        new.to_file(path, replace=False)

    def broken(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(InvalidConfigError, match="No space left") as caught:
            new.to_file(path)
    assert isinstance(caught.value.__cause__, OSError)
    assert same(Keyring.from_file(path), old)
    assert os.listdir(tmp_path) == ["keys"]
    new.to_file(path)
    assert same(Keyring.from_file(path), new)
    new.to_file(tmp_path / "more", replace=False)
    assert same(Keyring.from_file(tmp_path / "more"), new)


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def step(*args: Any, name: str = name, real: Any = real) -> object:
            steps.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, step)
    full().to_file(tmp_path / "keys")
    assert steps == ["fsync", "replace", "fsync"]


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    full().to_file(link)
    assert link.is_symlink() and same(Keyring.from_file(link), full())


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", "pipe", "."):
        with pytest.raises(InvalidConfigError, match="the keyring"):
            Keyring.from_file(tmp_path / name)
    with pytest.raises(InvalidConfigError, match="cannot be written"):
        full().to_file(tmp_path / "missing" / "keys")


def test_every_length_of_a_file_is_refused(tmp_path: Path) -> None:
    data = full().to_bytes()
    path = tmp_path / "keys"
    path.touch(0o600)
    for length in range(len(data) - 1):  # the last byte is the end of the line
        path.write_bytes(data[:length])
        with pytest.raises(InvalidConfigError):
            Keyring.from_file(path)
