"""Named key-encryption keys, held in memory: one wraps, all unwrap.

Rotation: `add` the new key wherever objects are read, then `activate` it where they are
written, rewrap the objects, `verify_retired`, `retire` the old one and at last `destroy`
it. `rotate` is add and activate in one, for a single process.

A keyring is plain synchronous state without locks: change it in the thread of the loop
that uses it. Erasing keys from memory is best effort in Python: copies may outlive them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from secrets import token_bytes, token_hex
from typing import NoReturn, Self

from trove_async.errors import EnvelopeError, InvalidConfigError, KeyNotFoundError
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt.envelope import KEY_SIZE, check_kek, check_key_id
from trove_async.middleware.encrypt.keyfile import (
    Derivation,
    Entry,
    KeyState,
    dump,
    parse,
    read_key,
    read_private,
    write_private,
)
from trove_async.middleware.encrypt.passphrase import (
    ScryptCost,
    derive,
    is_sealed,
    seal,
    unseal,
)

__all__ = ["KeyState", "Keyring", "ScryptCost"]

_SHOWN = 8


class Keyring:
    """``keys``: 32 random bytes each, by name. It is a `KeyProvider` by itself.

    InvalidConfigError for keys of another size, names that are no printable text of at most
    255 bytes, an active key that is not there."""

    __slots__ = ("_active", "_entries")

    def __init__(self, keys: Mapping[str, bytes], *, active: str) -> None:
        self._entries: dict[str, Entry] = {}
        self._active = active
        for key_id, key in keys.items():
            self.add(key_id, key)
        self.activate(active)

    # -- from somewhere ------------------------------------------------------------------

    @classmethod
    def generate(cls, key_id: str | None = None) -> Self:
        """One new key. Keep it (`to_file`): without it nothing it wrapped is ever read again."""
        name = _new_id() if key_id is None else key_id
        return cls({name: token_bytes(KEY_SIZE)}, active=name)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        passphrase: str | bytes | None = None,
        allow_loose: bool = False,
    ) -> Self:
        """What `to_file` wrote. Blocks: a small read, and 0.4 s of scrypt for a sealed file.

        A file of bare keys that others than its owner may open is refused, as ssh does;
        ``allow_loose`` takes it all the same (mounted secrets of containers). KeyUnwrapError:
        another passphrase, or a changed file."""
        data, is_loose = read_private(path)
        if is_loose and not allow_loose and not is_sealed(data):
            raise InvalidConfigError(
                f"the keyring {os.fspath(path)!r} is open to others than its owner: "
                "chmod 600 it, or seal it with a passphrase"
            )
        return cls.from_bytes(data, passphrase=passphrase)

    @classmethod
    def from_bytes(cls, data: bytes, *, passphrase: str | bytes | None = None) -> Self:
        """What `to_bytes` gave, of which an object in a store may be made."""
        if is_sealed(data):
            if passphrase is None:
                raise InvalidConfigError("the keyring is sealed: give its passphrase")
            data = unseal(data, passphrase)
        elif passphrase is not None:
            raise EnvelopeError("the keyring is not sealed, though a passphrase was given")
        keyring = cls.__new__(cls)
        keyring._entries, keyring._active = parse(data)
        return keyring

    @classmethod
    def from_env(cls, name: str) -> Self:
        """``id:key`` items separated by commas, the first of them active; or the document that
        `to_bytes` gives. Keys are hex or base64. A key without an id is named by its hash, the
        same everywhere."""
        text = os.environ.get(name, "").strip()
        if not text:
            raise InvalidConfigError(f"the environment variable {name} is not set")
        if text.startswith("{"):
            return cls.from_bytes(text.encode("utf-8", "surrogateescape"))
        keys: dict[str, bytes] = {}
        for number, item in enumerate(text.split(","), 1):
            key_id, _, key_text = item.strip().rpartition(":")
            key = read_key(key_text, f"key {number} of the environment variable {name}")
            key_id = check_key_id(key_id) if key_id else _id_of(key)
            if key_id in keys:
                raise InvalidConfigError(f"{name} gives two keys the name {key_id!r}")
            keys[key_id] = key
        return cls(keys, active=next(iter(keys)))

    @classmethod
    def from_passphrase(
        cls,
        passphrase: str | bytes,
        *,
        salt: bytes | None = None,
        key_id: str = "passphrase",
        cost: ScryptCost | None = None,
    ) -> Self:
        """The one key that scrypt makes of ``passphrase``; the same again from the same
        arguments. Blocks for 0.4 s with the default cost.

        Anyone who holds an object can try passphrases against it, so use a long random one.
        Without ``salt`` (16 random bytes, kept by you) it follows from ``key_id``, and one
        effort tries a passphrase against everybody who did the same. A generated keyring that
        is sealed with the passphrase (`to_file`) has neither weakness."""
        check_key_id(key_id)
        if salt is None:
            salt = hashlib.sha256(b"trove/passphrase/v1\0" + key_id.encode()).digest()[:16]
        cost = ScryptCost() if cost is None else cost
        keyring = cls({key_id: derive(passphrase, salt, cost)}, active=key_id)
        keyring._entries[key_id].derivation = Derivation(salt, cost)
        return keyring

    # -- to somewhere --------------------------------------------------------------------

    def to_file(
        self,
        path: str | os.PathLike[str],
        *,
        passphrase: str | bytes | None = None,
        cost: ScryptCost | None = None,
        replace: bool = True,
    ) -> None:
        """Mode 0600; written whole or not at all, and on the disk when this returns. Blocks.

        ``passphrase`` seals it. ``replace=False``: InvalidConfigError when there is a file."""
        write_private(path, self.to_bytes(passphrase=passphrase, cost=cost), replace=replace)

    def to_bytes(
        self, *, passphrase: str | bytes | None = None, cost: ScryptCost | None = None
    ) -> bytes:
        """The keys in clear, or sealed with ``passphrase`` under a new salt."""
        document = dump(self._entries, self._active)
        if passphrase is None:
            return document
        return seal(document, passphrase, ScryptCost() if cost is None else cost)

    # -- what is in it -------------------------------------------------------------------

    @property
    def active(self) -> str:
        """The id of the key that wraps."""
        return self._active

    @property
    def states(self) -> dict[str, KeyState]:
        return {key_id: entry.state for key_id, entry in self._entries.items()}

    def __contains__(self, key_id: object) -> bool:
        """Whether it unwraps with that key."""
        return key_id in self._entries and bool(self._entries[key_id].key)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __repr__(self) -> str:
        shown = [f"{key_id!r} {entry.state.value}" for key_id, entry in self._entries.items()]
        more = [f"{len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
        return f"<Keyring {', '.join(shown[:_SHOWN] + more)}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a keyring is not pickled or copied: use to_bytes with a passphrase")

    # -- changes -------------------------------------------------------------------------

    def add(self, key_id: str, key: bytes) -> None:
        """Unwraps from now on, and may be activated."""
        check_key_id(key_id)
        if key_id in self._entries:
            state = self._entries[key_id].state.value
            raise InvalidConfigError(f"there is a key {key_id!r} ({state}); a name is for one key")
        if not isinstance(key, bytes | bytearray | memoryview):
            raise InvalidConfigError(f"key {key_id!r} is {type(key).__name__}, not bytes")
        key = bytes(key)
        check_kek(key, key_id)
        self._entries[key_id] = Entry(KeyState.INACTIVE, key)

    def activate(self, key_id: str) -> None:
        """Wraps from now on, instead of the one before, which still unwraps."""
        entry = self._entry(key_id)
        if entry.state in (KeyState.DECRYPT_ONLY, KeyState.DESTROYED):
            raise InvalidConfigError(f"key {key_id!r} is {entry.state.value}")
        before = self._entries.get(self._active)
        if before is not None and before.state is KeyState.ACTIVE:
            before.state = KeyState.INACTIVE
        entry.state = KeyState.ACTIVE
        self._active = key_id

    def retire(self, key_id: str) -> None:
        """Decrypt-only, for good. The active one is refused: activate another before."""
        entry = self._passive(key_id, "retired")
        if entry.state is KeyState.DESTROYED:
            raise InvalidConfigError(f"key {key_id!r} is destroyed")
        entry.state = KeyState.DECRYPT_ONLY

    def destroy(self, key_id: str) -> None:
        """Its bytes are dropped and only its name is kept. What still depends on it is lost:
        ask `verify_retired` before."""
        entry = self._passive(key_id, "destroyed")
        entry.state, entry.key, entry.derivation = KeyState.DESTROYED, b"", None

    def rotate(self, key_id: str | None = None) -> str:
        """Adds a new random key, activates it and gives its id."""
        name = _new_id() if key_id is None else key_id
        self.add(name, token_bytes(KEY_SIZE))
        self.activate(name)
        return name

    def _entry(self, key_id: str) -> Entry:
        entry = self._entries.get(key_id)
        if entry is None:
            raise InvalidConfigError(f"there is no key {key_id!r} in this keyring")
        return entry

    def _passive(self, key_id: str, what: str) -> Entry:
        entry = self._entry(key_id)
        if entry.state is KeyState.ACTIVE:
            raise InvalidConfigError(f"the active key {key_id!r} is not {what}: activate another")
        return entry

    # -- as a KeyProvider ----------------------------------------------------------------

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        return self._active, self._entries[self._active].key

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        """KeyNotFoundError names the id."""
        entry = self._entries.get(key_id)
        if entry is None:
            raise KeyNotFoundError(f"key {_short(key_id)} is not in the keyring")
        if not entry.key:
            raise KeyNotFoundError(f"key {_short(key_id)} was destroyed")
        return entry.key


def _short(key_id: str) -> str:
    """Ids come from objects too, which anyone may have written."""
    return repr(key_id if len(key_id) <= 100 else key_id[:100] + "...")


def _new_id() -> str:
    return f"kek-{datetime.now(UTC):%Y%m%d}-{token_hex(3)}"


def _id_of(key: bytes) -> str:
    return "key-" + hashlib.sha256(b"trove/key-id/v1\0" + key).hexdigest()[:16]
