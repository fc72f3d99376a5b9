"""A keyring as a small document, and that document on disk.

    {"version": 1, "active": "kek-b",
     "keys": {"kek-a": {"state": "decrypt-only", "key": "<base64 of 32 bytes>"},
              "kek-b": {"state": "active", "key": "...",
                        "scrypt": {"n": 131072, "r": 8, "p": 1, "salt": "<base64>"}},
              "kek-0": {"state": "destroyed"}}}

``scrypt`` says how a key was made from a passphrase. Nothing else is read, nothing is
guessed: an unknown field, a name given twice or a key of another length is refused. No
error here carries what it read, which may be keys, so none has the parser's as its cause.
"""

from __future__ import annotations

import json
import os
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from secrets import token_hex

from trove_async.errors import InvalidConfigError
from trove_async.middleware.encrypt.envelope import KEY_SIZE, check_kek, check_key_id
from trove_async.middleware.encrypt.passphrase import ScryptCost

__all__ = ["Derivation", "Entry", "KeyState", "parse", "read_key", "read_private", "write_private"]

MOST = 4 * 1024 * 1024
"""Bytes of a keyring document."""


class KeyState(Enum):
    ACTIVE = "active"
    """Wraps and unwraps; exactly one key is."""
    INACTIVE = "inactive"
    """Unwraps, and may be activated: not yet, or no longer, the active one."""
    DECRYPT_ONLY = "decrypt-only"
    """Retired: unwraps, and never wraps again."""
    DESTROYED = "destroyed"
    """Only its name is left, so that errors can tell."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a key came out of a passphrase."""

    salt: bytes
    cost: ScryptCost


class Entry:
    """No dataclass: those are too easily printed whole."""

    __slots__ = ("derivation", "key", "state")

    def __init__(
        self, state: KeyState, key: bytes = b"", derivation: Derivation | None = None
    ) -> None:
        self.state = state
        self.key = key
        self.derivation = derivation


# -- the document -------------------------------------------------------------------------


def dump(entries: Mapping[str, Entry], active: str) -> bytes:
    keys: dict[str, dict[str, object]] = {}
    for key_id, entry in entries.items():
        fields: dict[str, object] = {"state": entry.state.value}
        keys[key_id] = fields
        if entry.key:
            fields["key"] = b64encode(entry.key).decode()
        if entry.derivation is not None:
            cost, salt = entry.derivation.cost, b64encode(entry.derivation.salt).decode()
            fields["scrypt"] = {"n": cost.n, "r": cost.r, "p": cost.p, "salt": salt}
    document = {"version": 1, "active": active, "keys": keys}
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def parse(data: bytes) -> tuple[dict[str, Entry], str]:
    """The keys and the active one. InvalidConfigError for all that `dump` does not write."""
    if len(data) > MOST:
        raise InvalidConfigError(f"a keyring of {len(data)} bytes; at most {MOST}")
    document = _fields(_load(data), "the keyring", {"version", "active", "keys"})
    if type(document["version"]) is not int or document["version"] != 1:
        raise InvalidConfigError("the keyring is of a later version of this package")
    keys = document["keys"]
    if not isinstance(keys, dict):
        raise InvalidConfigError("the keyring's keys are not a table")
    entries = {check_key_id(key_id): _entry(key_id, fields) for key_id, fields in keys.items()}
    activated = [key_id for key_id, e in entries.items() if e.state is KeyState.ACTIVE]
    if activated != [document["active"]]:
        raise InvalidConfigError("the keyring does not say which one key is active")
    return entries, activated[0]


def _load(data: bytes) -> object:
    document: object = None
    with suppress(ValueError, RecursionError):  # the parser's error holds the whole document
        document = json.loads(data.decode(), object_pairs_hook=_unique)
    if document is None:
        raise InvalidConfigError("this is no keyring: not JSON, or a name is given twice")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _fields(
    value: object, what: str, needed: set[str], optional: frozenset[str] = frozenset()
) -> dict[str, object]:
    if not isinstance(value, dict) or not needed <= value.keys() <= needed | optional:
        names = ", ".join(sorted(needed | optional))
        raise InvalidConfigError(f"{what} must have the fields {names}, and no other")
    return value


def _entry(key_id: str, value: object) -> Entry:
    what = f"key {key_id!r}"
    state = value.get("state") if isinstance(value, dict) else None
    if state not in _STATES:
        raise InvalidConfigError(f"{what} must be in one of the states {', '.join(_STATES)}")
    if state == KeyState.DESTROYED.value:
        _fields(value, what, {"state"})
        return Entry(KeyState.DESTROYED)
    fields = _fields(value, what, {"state", "key"}, frozenset({"scrypt"}))
    key = _unbase64(fields["key"], what)
    check_kek(key, key_id)
    derivation = None
    if "scrypt" in fields:
        derivation = _derivation(fields["scrypt"], f"scrypt of {what}")
    return Entry(KeyState(state), key, derivation)


_STATES = [state.value for state in KeyState]


def _derivation(value: object, what: str) -> Derivation:
    fields = _fields(value, what, {"n", "r", "p", "salt"})
    n, r, p = (fields[name] for name in "nrp")
    if not (type(n) is int and type(r) is int and type(p) is int):
        raise InvalidConfigError(f"{what}: n, r and p are whole numbers")
    return Derivation(_unbase64(fields["salt"], what), ScryptCost(n, r, p))


def _unbase64(value: object, what: str) -> bytes:
    data: bytes | None = None
    if isinstance(value, str) and value.isascii():
        with suppress(Base64Error):
            data = b64decode(value, validate=True)
            if b64encode(data).decode() != value:
                data = None
    if data is None:
        raise InvalidConfigError(f"{what} is not base64")
    return data


def read_key(text: str, what: str) -> bytes:
    """A key as people pass it on: 64 hex digits, or base64 of either alphabet."""
    key: bytes | None = None
    with suppress(ValueError):
        if len(text) == 2 * KEY_SIZE:
            key = bytes.fromhex(text)
        else:
            plain = text.rstrip("=").replace("-", "+").replace("_", "/")
            key = b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    if key is None or len(key) != KEY_SIZE:
        raise InvalidConfigError(f"{what} must be {KEY_SIZE} bytes as hex or base64")
    return key


# -- on disk ------------------------------------------------------------------------------


def read_private(path: str | os.PathLike[str]) -> tuple[bytes, bool]:
    """The file, and whether others than its owner may read or write it."""
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise InvalidConfigError(f"the keyring {name!r} cannot be opened: {exc.strerror}") from exc
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise InvalidConfigError(f"the keyring {name!r} is no file")
        with open(fd, "rb", closefd=False) as file:
            return file.read(MOST + 1), bool(mode & 0o077)
    finally:
        os.close(fd)


def write_private(path: str | os.PathLike[str], data: bytes, *, replace: bool) -> None:
    """Mode 0600 from the first byte on; whole or not at all, also after a power cut."""
    name = os.path.realpath(os.fspath(path))  # a link stays one
    folder = os.path.dirname(name)
    temporary = f"{name}.{token_hex(6)}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            if replace:
                os.replace(temporary, name)
            else:
                os.link(temporary, name)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync(folder)
    except FileExistsError as exc:
        raise InvalidConfigError(f"{name!r} is there already; it may hold the only keys") from exc
    except OSError as exc:
        raise InvalidConfigError(f"the keyring {name!r} cannot be written: {exc}") from exc


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
