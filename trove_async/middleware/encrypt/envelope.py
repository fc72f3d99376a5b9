"""Wrapping a data key: the raw AES keyring entry of a message header, and the re-wrap record.

Each object has its own data key. What is stored is that key, encrypted under a
key-encryption key (KEK) that has a name. In the message header the wrap is bound to the
header's encryption context; in the record, which lives in the object's metadata and
replaces the header's entries after a rotation, to the message, its key commitment and the
object's location. Both are AES-256-GCM with a random 96-bit nonce.

    entry   u16 len, provider_id | u16 len, provider_info | u16 len, ciphertext (48 bytes)
            provider_info = key_id | u32 128 | u32 12 | 12-byte nonce
    record  "TRW1" | u8 flags | 32-byte message_id | [16-byte location] | entry
"""

from __future__ import annotations

import hashlib
import logging
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async.errors import (
    EncryptionKeyError,
    EnvelopeError,
    InvalidConfigError,
    KeyUnwrapError,
    TruncatedError,
)

__all__ = [
    "METADATA_NAME",
    "PROVIDER",
    "Edk",
    "RewrapRecord",
    "WrapCounter",
    "bound_location",
    "check_kek",
    "check_key_id",
    "key_id_of",
    "location_of",
    "read_edk",
    "unwrap_data_key",
    "unwrap_record",
    "wrap_data_key",
    "wrap_record",
]

METADATA_NAME = "trovewrap"
PROVIDER = "trove"
KEY_SIZE = 32
"""Bytes of a KEK and of a data key."""
MAX_KEY_ID = 255
"""UTF-8 bytes of a key id, so that a record always fits S3's 2 KB of user metadata."""

_MAGIC = b"TRW1"
_DOMAIN = b"trove/rewrap/v1\0"
_IV = 12
_WRAPPED = KEY_SIZE + 16
_IV_INFO = (128).to_bytes(4, "big") + _IV.to_bytes(4, "big")  # tag length in bits, IV in bytes
_BOUND = 1
_UNBOUND = 2
_MAX_TEXT = 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Edk:
    """One encrypted data key, as the message header and the re-wrap record hold it."""

    provider_id: bytes
    provider_info: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        parts: list[bytes] = []
        for field in (self.provider_id, self.provider_info, self.ciphertext):
            parts += len(field).to_bytes(2, "big"), field
        return b"".join(parts)


def read_edk(data: bytes | memoryview, offset: int = 0) -> tuple[Edk, int]:
    """The entry at ``offset`` and where it ends. TruncatedError when ``data`` ends before."""
    fields: list[bytes] = []
    for _ in range(3):
        start = offset + 2
        stop = start + int.from_bytes(data[offset:start], "big")
        if start > len(data) or stop > len(data):
            raise TruncatedError("an encrypted data key is cut off")
        fields.append(bytes(data[start:stop]))
        offset = stop
    return Edk(fields[0], fields[1], fields[2]), offset


def key_id_of(edk: Edk, *, provider: str = PROVIDER) -> str | None:
    """The name of the KEK that unwraps it. None: another provider's entry, or not one of a raw
    AES keyring."""
    info = edk.provider_info
    if edk.provider_id != provider.encode() or info[-20:-_IV] != _IV_INFO:
        return None
    try:
        return info[:-20].decode() or None
    except UnicodeDecodeError:
        return None


# -- data keys ----------------------------------------------------------------------------


def wrap_data_key(
    kek: bytes,
    key_id: str,
    data_key: bytes,
    aad: bytes,
    *,
    provider: str = PROVIDER,
    iv: bytes | None = None,
) -> Edk:
    """``aad`` is the serialised encryption context. ``iv`` is given by tests only: it must
    never be used twice with one KEK.

    Wraps are counted per KEK and process: EncryptionKeyError at 2^32 (NIST SP 800-38D, 8.3)."""
    check_kek(kek, key_id)
    if len(data_key) != KEY_SIZE:
        raise ValueError(f"a data key of {len(data_key)} bytes; it must be {KEY_SIZE}")
    if iv is None:
        wraps.count(kek, key_id)
        iv = os.urandom(_IV)
    elif len(iv) != _IV:
        raise ValueError(f"an IV of {len(iv)} bytes; it must be {_IV}")
    info = key_id.encode() + _IV_INFO + iv
    return Edk(provider.encode(), info, AESGCM(kek).encrypt(iv, data_key, aad))


def unwrap_data_key(kek: bytes, edk: Edk, aad: bytes) -> bytes:
    """KeyUnwrapError when the key is not the one that wrapped it, or a byte was changed."""
    key_id = key_id_of(edk, provider=edk.provider_id.decode("utf-8", "replace"))
    check_kek(kek, key_id or "?")
    if key_id is None or len(edk.ciphertext) != _WRAPPED:
        raise KeyUnwrapError("the encrypted data key is not one of a raw AES keyring")
    try:
        return AESGCM(kek).decrypt(edk.provider_info[-_IV:], edk.ciphertext, aad)
    except InvalidTag as exc:
        raise KeyUnwrapError(
            f"key {key_id!r} does not unwrap the data key: other key bytes have that name "
            "here, or the envelope was changed"
        ) from exc


def check_kek(kek: bytes, key_id: str) -> None:
    """InvalidConfigError unless it is 32 bytes. Providers are other people's code."""
    if not isinstance(kek, bytes):
        raise InvalidConfigError(f"key {key_id!r} is {type(kek).__name__}, not bytes")
    if len(kek) != KEY_SIZE:
        raise InvalidConfigError(
            f"key {key_id!r} is {len(kek)} bytes long; AES-256 takes {KEY_SIZE}"
        )


def check_key_id(key_id: str) -> str:
    """A key id is printable text of 1 to 255 UTF-8 bytes, else InvalidConfigError."""
    if not isinstance(key_id, str) or not key_id.isprintable() or not key_id.strip():
        raise InvalidConfigError("a key id is printable text, not empty")
    try:
        size = len(key_id.encode())
    except UnicodeEncodeError as exc:
        raise InvalidConfigError("a key id is valid UTF-8") from exc
    if size > MAX_KEY_ID:
        raise InvalidConfigError(f"a key id of {size} bytes; at most {MAX_KEY_ID}")
    return key_id


class WrapCounter:
    """Wraps per KEK in this process: random 96-bit nonces may collide after 2^32 of them.

    Knows keys by a salted hash of theirs only, the ``capacity`` last used ones."""

    def __init__(self, *, warn: int = 2**30, limit: int = 2**32, capacity: int = 1 << 16) -> None:
        self._warn = warn
        self._limit = limit
        self._capacity = capacity
        self._counts: OrderedDict[int, int] = OrderedDict()

    def count(self, kek: bytes, key_id: str) -> int:
        mark = hash(kek)  # SipHash under a random key of the process, kept by the bytes object
        count = self._counts.pop(mark, 0)
        if count >= self._limit:
            self._counts[mark] = count
            raise EncryptionKeyError(
                f"key {key_id!r} has wrapped {count} data keys, the most AES-GCM allows: "
                "activate another one"
            )
        self._counts[mark] = count = count + 1
        if count == self._warn:
            _log.warning("key %r has wrapped %d data keys: activate another soon", key_id, count)
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)
        return count


wraps = WrapCounter()


# -- the re-wrap record -------------------------------------------------------------------


def location_of(key: str) -> bytes:
    """What binds an object to its key: 16 bytes of SHA-256, without the bucket."""
    return hashlib.sha256(key.encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class RewrapRecord:
    """Stands in for the entries of the header, which is never written anew."""

    flags: int
    message_id: bytes
    loc: bytes | None
    edk: Edk

    @property
    def is_bound(self) -> bool:
        return bool(self.flags & _BOUND)

    @property
    def is_unbound(self) -> bool:
        """On purpose, by an owner who held the key."""
        return bool(self.flags & _UNBOUND)

    @property
    def key_id(self) -> str:
        key_id = key_id_of(self.edk)
        if key_id is None:
            raise EnvelopeError("the re-wrap record is not one of a raw AES keyring")
        return key_id

    def encode(self) -> str:
        """base64url without padding, 191 characters with a key id of 11 bytes."""
        flags = self.flags.to_bytes(1, "big")
        body = b"".join((_MAGIC, flags, self.message_id, self.loc or b"", self.edk.encode()))
        return urlsafe_b64encode(body).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> RewrapRecord:
        """EnvelopeError for all that `encode` does not give."""
        data = _unbase64(text)
        if data[:4] != _MAGIC or len(data) < 37:
            raise EnvelopeError("the re-wrap record cannot be read")
        flags = data[4]
        if flags not in (0, _BOUND, _UNBOUND):
            raise EnvelopeError(f"the re-wrap record has flags {flags:#x}, which mean nothing")
        start = 37 + 16 * (flags & _BOUND)
        try:
            edk, end = read_edk(data, start)
        except TruncatedError as exc:
            raise EnvelopeError("the re-wrap record is cut off") from exc
        if end != len(data) or len(edk.ciphertext) != _WRAPPED or key_id_of(edk) is None:
            raise EnvelopeError("the re-wrap record is not one of a raw AES keyring")
        return cls(flags, data[5:37], data[37:start] or None, edk)


def _unbase64(text: str) -> bytes:
    """One text for one value: no padding, no stray bits, no other alphabet."""
    if len(text) > _MAX_TEXT:
        raise EnvelopeError(f"a re-wrap record of {len(text)} characters; at most {_MAX_TEXT}")
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError) as exc:
        raise EnvelopeError("the re-wrap record is not base64url") from exc
    if urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise EnvelopeError("the re-wrap record is not canonical base64url")
    return data


def wrap_record(
    kek: bytes,
    key_id: str,
    data_key: bytes,
    message_id: bytes,
    commitment: bytes,
    *,
    loc: bytes | None,
    unbound: bool = False,
    iv: bytes | None = None,
) -> RewrapRecord:
    """``loc`` binds the object to a key (`location_of`); ``unbound`` says that an owner took
    the binding away. Neither: an object that never had one."""
    if loc is not None and (unbound or len(loc) != 16):
        raise ValueError("a location is 16 bytes, and not given with unbound")
    flags = _UNBOUND if unbound else 0 if loc is None else _BOUND
    aad = _record_aad(flags, message_id, commitment, loc)
    return RewrapRecord(flags, message_id, loc, wrap_data_key(kek, key_id, data_key, aad, iv=iv))


def unwrap_record(record: RewrapRecord, kek: bytes, commitment: bytes) -> bytes:
    """The data key. The caller still compares ``commitment`` with the one of that key."""
    aad = _record_aad(record.flags, record.message_id, commitment, record.loc)
    return unwrap_data_key(kek, record.edk, aad)


def _record_aad(flags: int, message_id: bytes, commitment: bytes, loc: bytes | None) -> bytes:
    return b"".join((_DOMAIN, message_id, commitment, flags.to_bytes(1, "big"), loc or b""))


def bound_location(
    record: RewrapRecord | None, message_id: bytes, header_loc: bytes | None
) -> bytes | None:
    """Where the object may be read, by its header and the record that stands in for it; None:
    anywhere. EnvelopeError when the record is another object's, or lost the binding without
    saying that this was meant."""
    if record is None:
        return header_loc
    if record.message_id != message_id:
        raise EnvelopeError("the re-wrap record belongs to another object")
    if header_loc is not None and not record.is_bound and not record.is_unbound:
        raise EnvelopeError("the re-wrap record leaves out the location the object is bound to")
    return record.loc
