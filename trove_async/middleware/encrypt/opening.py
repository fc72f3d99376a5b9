"""From a header and a place to the cipher of its frames: which key, and whether it may be read.

Nothing here trusts the object's metadata: a re-wrap record only offers another envelope of the
same data key, and the commitment in the header says whether it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async.errors import (
    DowngradeError,
    EncryptionKeyError,
    EnvelopeError,
    HeaderAuthError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnwrapError,
    LocationMismatchError,
    TroveError,
)
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt.envelope import (
    METADATA_NAME,
    Edk,
    RewrapRecord,
    bound_location,
    key_id_of,
    location_of,
    unwrap_data_key,
    unwrap_record,
)
from trove_async.middleware.encrypt.message import Header, location_text
from trove_async.middleware.encrypt.provider import KeyProvider
from trove_async.middleware.encrypt.suite import opened_with

__all__ = ["Opened", "open_message", "wrapping_key"]


@dataclass(slots=True)
class Opened:
    """A message whose header is genuine."""

    header: Header
    cipher: AESGCM
    data_key: bytes
    location: bytes | None
    """Where it may be read, or None: anywhere."""

    def __repr__(self) -> str:
        return f"<Opened {self.header.length} + n bytes>"


async def open_message(
    header: Header,
    providers: Sequence[KeyProvider],
    context: Context,
    *,
    key: str,
    use_record: bool = True,
    require_bound: bool = False,
    usual: Callable[[], Sequence[bytes]] = tuple,
) -> Opened:
    """``key``: where the object is expected to be. ``usual`` gives the serialised
    contexts a writer would have made: by them a changed header is told from a wrong key.

    KeyNotFoundError, KeyUnwrapError and KeyProviderError when no envelope opens;
    KeyCommitmentError, HeaderAuthError, EnvelopeError, LocationMismatchError and
    DowngradeError when the object is not what or where it should be."""
    text = context.metadata.get(METADATA_NAME) if use_record else None
    record = None if text is None else RewrapRecord.decode(text)
    if record is not None:
        data_key, used = await _by_record(record, header, providers, context, key, usual)
        location = bound_location(used, header.message_id, header.location)
    else:
        data_key = await _from_header(header, providers, context, usual)
        location = header.location
    cipher = opened_with(header, data_key)
    if location is None:
        if require_bound:
            raise DowngradeError("the object is bound to no key, where only bound ones are read")
    elif location != (wanted := location_of(key)):
        raise LocationMismatchError(
            f"the object is bound to location {location_text(location)}, and was read at "
            f"{location_text(wanted)}: it was moved without its owner"
        )
    return Opened(header, cipher, data_key, location)


async def _by_record(
    record: RewrapRecord,
    header: Header,
    providers: Sequence[KeyProvider],
    context: Context,
    key: str,
    usual: Callable[[], Sequence[bytes]],
) -> tuple[bytes, RewrapRecord | None]:
    """The data key, and the record if it gave it. Where its key is not known, the body has the
    envelopes it was written with."""
    wanted = location_of(key)
    bound_location(record, header.message_id, header.location)  # is it of this object at all
    try:
        return await _from_record(record, header, providers, context, wanted), record
    except KeyNotFoundError as unknown:
        if header.location not in (None, wanted):
            raise  # only the record would admit the object here
        try:
            return await _from_header(header, providers, context, usual), None
        except KeyNotFoundError as exc:
            raise exc from unknown


async def wrapping_key(provider: KeyProvider, context: Context) -> tuple[str, bytes]:
    """As the provider says; whatever its own client raises is a KeyProviderError."""
    try:
        return await provider.wrapping_key(context)
    except TroveError:
        raise
    except Exception as exc:  # a failure of somebody else's code; nothing is written in the clear
        raise KeyProviderError("the key provider failed") from exc


async def _kek(providers: Sequence[KeyProvider], key_id: str, context: Context) -> bytes:
    """From the first provider that has it. Else KeyProviderError if one may have it later."""
    failures: list[EncryptionKeyError] = []
    for provider in providers:
        try:
            return await provider.unwrapping_key(key_id, context)
        except EncryptionKeyError as exc:
            failures.append(exc)
        except TroveError:
            raise
        except Exception as exc:
            failure = KeyProviderError("the key provider failed")
            failure.__cause__ = exc
            failures.append(failure)
    raise _worst(failures)


def _worst(failures: Sequence[EncryptionKeyError]) -> EncryptionKeyError:
    """The one that the caller can do most about: a provider that was down, else a key that is
    wrong, else one that is not there."""
    for kind in (KeyProviderError, KeyUnwrapError):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[0]


async def _from_record(
    record: RewrapRecord,
    header: Header,
    providers: Sequence[KeyProvider],
    context: Context,
    wanted: bytes,
) -> bytes:
    kek = await _kek(providers, record.key_id, context)
    try:
        return unwrap_record(record, kek, header.commitment)
    except KeyUnwrapError as exc:
        # The right key and other flags or another location: somebody changed the record.
        for flags, loc in ((0, None), (1, wanted), (1, header.location), (2, None)):
            if flags == 1 and loc is None:
                continue
            try:
                other = RewrapRecord(flags, record.message_id, loc, record.edk)
                unwrap_record(other, kek, header.commitment)
            except KeyUnwrapError:
                continue
            raise EnvelopeError("the flags or location of the re-wrap record were changed") from exc
        raise


async def _from_header(
    header: Header,
    providers: Sequence[KeyProvider],
    context: Context,
    usual: Callable[[], Sequence[bytes]],
) -> bytes:
    """The data key by the first envelope that opens."""
    failures: list[EncryptionKeyError] = []
    ids: list[str] = []
    for entry in header.keys:
        edk = Edk(*entry)
        key_id = key_id_of(edk)
        if key_id is None:
            continue  # of another provider, for whoever else may read the message
        ids.append(key_id)
        try:
            kek = await _kek(providers, key_id, context)
        except EncryptionKeyError as exc:
            failures.append(exc)
            continue
        try:
            return unwrap_data_key(kek, edk, header.context)
        except KeyUnwrapError as exc:
            _blame_context(kek, edk, header, usual, exc)
            failures.append(exc)
    if failures and (len(failures) == 1 or not isinstance(_worst(failures), KeyNotFoundError)):
        raise _worst(failures)
    names = ", ".join(map(repr, ids)) or "only keys of other providers"
    raise KeyNotFoundError(
        f"no key is known here that opens the object; it was written for {names}"
    )


def _blame_context(
    kek: bytes,
    edk: Edk,
    header: Header,
    usual: Callable[[], Sequence[bytes]],
    failed: KeyUnwrapError,
) -> None:
    for context in usual():
        if context != header.context:
            try:
                unwrap_data_key(kek, edk, context)
            except KeyUnwrapError:
                continue
            raise HeaderAuthError("the encryption context in the header was changed") from failed
