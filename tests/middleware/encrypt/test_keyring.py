"""Named keys: their states, the document, the file, the environment, the passphrase."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import pprint
from collections.abc import Callable
from typing import Any

import pytest

from tests.middleware.encrypt.leaks import assert_silent, everything_of, listening
from tests.middleware.encrypt.rings import CHEAP, HERE, TEXT, A, B, C, full, same
from trove_async.errors import (
    InvalidConfigError,
    KeyNotFoundError,
    KeyUnwrapError,
)
from trove_async.middleware.encrypt.envelope import unwrap_data_key, wrap_data_key
from trove_async.middleware.encrypt.keyring import Keyring, KeyState, ScryptCost
from trove_async.middleware.encrypt.provider import KeyProvider


@pytest.fixture
def keyring() -> Keyring:
    return Keyring({"a": A, "b": B}, active="a")


def state(keyring: Keyring, key_id: str) -> str:
    return keyring.states[key_id].value


# -- states -------------------------------------------------------------------------------


async def test_one_key_wraps_and_all_unwrap(keyring: Keyring) -> None:
    assert isinstance(keyring, KeyProvider)
    assert await keyring.wrapping_key(HERE) == ("a", A)
    assert [await keyring.unwrapping_key(k, HERE) for k in ("a", "b")] == [A, B]
    assert keyring.states == {"a": KeyState.ACTIVE, "b": KeyState.INACTIVE}
    assert (keyring.active, len(keyring), list(keyring)) == ("a", 2, ["a", "b"])


async def test_a_key_goes_from_added_to_destroyed(keyring: Keyring) -> None:
    keyring.add("c", C)
    assert state(keyring, "c") == "inactive"
    keyring.activate("c")
    assert await keyring.wrapping_key(HERE) == ("c", C)
    assert state(keyring, "a") == "inactive"
    keyring.activate("a")  # a roll-back
    keyring.activate("c")
    keyring.retire("a")
    assert state(keyring, "a") == "decrypt-only"
    assert await keyring.unwrapping_key("a", HERE) == A
    keyring.destroy("a")
    assert state(keyring, "a") == "destroyed"
    assert "a" not in keyring and "b" in keyring
    with pytest.raises(KeyNotFoundError, match="'a' was destroyed"):
        await keyring.unwrapping_key("a", HERE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda k: k.retire("a"), "active key 'a' is not retired"),
        (lambda k: k.destroy("a"), "active key 'a' is not destroyed"),
        (lambda k: k.activate("x"), "no key 'x'"),
        (lambda k: k.retire("x"), "no key 'x'"),
        (lambda k: k.destroy("x"), "no key 'x'"),
        (lambda k: (k.retire("b"), k.activate("b")), "'b' is decrypt-only"),
        (lambda k: (k.destroy("b"), k.activate("b")), "'b' is destroyed"),
        (lambda k: (k.destroy("b"), k.retire("b")), "'b' is destroyed"),
        (lambda k: (k.destroy("b"), k.add("b", B)), "there is a key 'b'"),
        (lambda k: k.add("b", C), "there is a key 'b'"),
        (lambda k: k.add("c", C[:31]), "31 bytes"),
        (lambda k: k.add("c", C + b"x"), "33 bytes"),
        (lambda k: k.add("c", C.hex()), "str, not bytes"),
        (lambda k: k.add("", C), "key id"),
        (lambda k: k.add(" ", C), "key id"),
        (lambda k: k.add("a\nb", C), "key id"),
        (lambda k: k.add("\ud800", C), "key id"),
        (lambda k: k.add("ü" * 128, C), "256 bytes"),
        (lambda k: k.add(b"c", C), "key id"),
    ],
)
async def test_a_wrong_change_is_refused_and_changes_nothing(
    keyring: Keyring, change: Callable[[Any], object], said: str
) -> None:
    with listening() as heard, pytest.raises(InvalidConfigError, match=said) as caught:
        change(keyring)
    assert await keyring.wrapping_key(HERE) == ("a", A)
    assert list(keyring) == ["a", "b"]
    assert_silent(everything_of(caught.value) + heard.getvalue(), A, B, C)


def test_a_keyring_needs_its_active_key() -> None:
    for keys, active in (({}, "a"), ({"b": B}, "a")):
        with pytest.raises(InvalidConfigError, match="no key 'a'"):
            Keyring(keys, active=active)


async def test_an_unknown_key_is_named_and_never_shown_at_length(keyring: Keyring) -> None:
    with pytest.raises(KeyNotFoundError, match="'kek-9' is not in the keyring"):
        await keyring.unwrapping_key("kek-9", HERE)
    with pytest.raises(KeyNotFoundError) as caught:
        await keyring.unwrapping_key("x" * 9000, HERE)
    assert len(str(caught.value)) < 200
    assert_silent(everything_of(caught.value), A, B)


async def test_rotate_adds_a_new_key_and_activates_it(keyring: Keyring) -> None:
    new = keyring.rotate()
    key_id, key = await keyring.wrapping_key(HERE)
    assert (key_id, keyring.active, len(key)) == (new, new, 32)
    assert keyring.states["a"] is KeyState.INACTIVE
    assert keyring.rotate("named") == keyring.active == "named"


async def test_generated_keys_and_names_are_all_different() -> None:
    rings = [Keyring.generate() for _ in range(50)]
    assert len({ring.active for ring in rings}) == 50
    assert len({(await ring.wrapping_key(HERE))[1] for ring in rings}) == 50
    assert Keyring.generate("kek-2026-01").active == "kek-2026-01"


async def test_other_key_bytes_under_the_same_name_do_not_unwrap(keyring: Keyring) -> None:
    """F53: the error is typed, and says what to look for."""
    edk = wrap_data_key(A, "a", C, b"context")
    impostor = Keyring({"a": B}, active="a")
    with pytest.raises(KeyUnwrapError, match="other key bytes"):
        unwrap_data_key(await impostor.unwrapping_key("a", HERE), edk, b"context")


# -- silence ------------------------------------------------------------------------------


def test_S24_no_representation_shows_a_key(keyring: Keyring) -> None:
    keyring.destroy("b")
    assert repr(keyring) == "<Keyring 'a' active, 'b' destroyed>"
    shown = f"{keyring} {keyring!r} {[keyring]} {pprint.pformat(keyring)} {keyring.states}"
    slots = {name: getattr(keyring, name) for name in Keyring.__slots__}
    assert_silent(shown + repr(slots) + pprint.pformat(slots), A, B)
    many = Keyring({f"tenant-{n}": bytes([n]) * 32 for n in range(100)}, active="tenant-0")
    assert repr(many).endswith("92 more>")


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_S24_a_keyring_is_not_pickled_or_copied(
    keyring: Keyring, way: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError, match="not pickled") as caught:
        way(keyring)
    assert_silent(everything_of(caught.value), A, B)
    with pytest.raises(TypeError):
        vars(keyring)


# -- the environment ----------------------------------------------------------------------


async def test_the_environment_gives_named_keys_and_the_first_is_active(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = base64.urlsafe_b64encode(B).decode().rstrip("=")
    monkeypatch.setenv("KEYS", f"new:{A.hex()}, arn:aws:kms/old:{url}")
    keyring = Keyring.from_env("KEYS")
    assert await keyring.wrapping_key(HERE) == ("new", A)
    assert await keyring.unwrapping_key("arn:aws:kms/old", HERE) == B


async def test_a_bare_key_of_the_environment_has_the_same_name_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONE", A.hex().upper())
    monkeypatch.setenv("TWO", base64.b64encode(A).decode())
    one, two = Keyring.from_env("ONE"), Keyring.from_env("TWO")
    assert one.active == two.active == "key-f78f8935927e8fbf"
    assert (await two.wrapping_key(HERE))[1] == A
    assert_silent(repr(one), A)


def test_the_environment_may_hold_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", full().to_bytes().decode())
    assert same(Keyring.from_env("KEYS"), full())


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "  ",
        A.hex()[:-2],
        A.hex() + "00",
        "a:" + A.hex()[:-1] + "x",
        f"a:{A.hex()},a:{B.hex()}",
        f"a:{A.hex()},",
        f"{A.hex()}:a",
        f"a={A.hex()}",
        "{" + A.hex(),
        f"a\x01b:{A.hex()}",
        "a:" + TEXT + "!",
    ],
)
def test_a_wrong_environment_is_refused_in_silence(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("KEYS", raising=False)
    else:
        monkeypatch.setenv("KEYS", value)
    with listening() as heard, pytest.raises(InvalidConfigError) as caught:
        Keyring.from_env("KEYS")
    assert_silent(everything_of(caught.value) + heard.getvalue(), A, B)


# -- the passphrase -----------------------------------------------------------------------


async def test_a_passphrase_gives_the_same_key_again() -> None:
    one = Keyring.from_passphrase("correct horse", cost=CHEAP)
    two = Keyring.from_passphrase("correct horse", cost=CHEAP)
    assert await one.wrapping_key(HERE) == await two.wrapping_key(HERE)
    key = (await one.wrapping_key(HERE))[1]
    for other in (
        Keyring.from_passphrase("correct horsf", cost=CHEAP),
        Keyring.from_passphrase("correct horse", cost=CHEAP, key_id="mine"),
        Keyring.from_passphrase("correct horse", cost=CHEAP, salt=bytes(16)),
        Keyring.from_passphrase("correct horse", cost=ScryptCost(n=4)),
    ):
        assert (await other.wrapping_key(HERE))[1] != key
    assert "horse" not in repr(one)


async def test_the_known_answer_of_scrypt() -> None:
    """RFC 7914, section 12, the first half of the third vector."""
    cost = ScryptCost(n=16384, r=8, p=1)
    keyring = Keyring.from_passphrase("pleaseletmein", salt=b"SodiumChloride", cost=cost)
    rfc = "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
    assert (await keyring.wrapping_key(HERE))[1].hex() == rfc


def test_how_a_key_was_derived_is_kept_with_it() -> None:
    keyring = Keyring.from_passphrase("pw", salt=bytes(16), cost=CHEAP, key_id="p")
    document = json.loads(keyring.to_bytes())
    assert document["keys"]["p"]["scrypt"] == {
        "n": 2,
        "r": 8,
        "p": 1,
        "salt": base64.b64encode(bytes(16)).decode(),
    }
    assert same(Keyring.from_bytes(keyring.to_bytes()), keyring)


@pytest.mark.parametrize(("passphrase", "salt"), [("", None), (b"", None), ("x", b"short")])
def test_no_passphrase_or_a_short_salt_is_refused(
    passphrase: str | bytes, salt: bytes | None
) -> None:
    with pytest.raises(InvalidConfigError):
        Keyring.from_passphrase(passphrase, salt=salt, cost=CHEAP)
