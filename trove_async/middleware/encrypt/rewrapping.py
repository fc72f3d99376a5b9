"""Key rotation without a re-upload: new envelopes for stored objects, bodies untouched.

A header is never written anew: under the same message key a second one would repeat nonce 0
and give the authentication key away. Instead a re-wrap record in the object's metadata stands
in for the header's entries. It is written by a copy of the object onto itself, for the very
version that was looked at, so that nobody's newer object is lost.

What this does not do: the old envelope stays in the body, so after a *leak* of a key
whoever has the old bytes and the key can read them; encrypt such objects anew. Older
versions of a versioned bucket are not rewrapped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Literal

from trove_async.errors import (
    InvalidConfigError,
    KeyProviderError,
    ObjectChangedError,
    ObjectNotFoundError,
    TroveError,
)
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt.envelope import (
    METADATA_NAME,
    check_kek,
    location_of,
    wrap_record,
)
from trove_async.middleware.encrypt.keyring import Keyring, KeyState
from trove_async.middleware.encrypt.opening import Opened, open_message, wrapping_key
from trove_async.middleware.encrypt.provider import KeyProvider, TenantKeys
from trove_async.middleware.encrypt.stored import Store, StoredMessage, layer_of, look, walk

__all__ = ["RewrapReport", "rebind", "rewrap", "rewrap_bucket"]

_RACES = 8
"""How often an object that others write at the same time is looked at again."""

Outcome = Literal["rewrapped", "skipped", "plain"]


@dataclass(slots=True)
class RewrapReport:
    """How far a run is; the same object is updated until it ends."""

    examined: int = 0
    rewrapped: int = 0
    skipped: int = 0
    """Under the wanted key already, or deleted meanwhile."""
    plain: int = 0
    """Not encrypted."""
    failed: list[tuple[str, TroveError]] = field(default_factory=list)
    last_key: str | None = None
    """All keys up to this one are done: give it as ``start_after`` to go on from here."""

    def add(self, key: str, outcome: Outcome | TroveError) -> None:
        self.examined += 1
        self.last_key = key
        if isinstance(outcome, TroveError):
            self.failed.append((key, outcome))
        elif outcome == "rewrapped":
            self.rewrapped += 1
        elif outcome == "skipped":
            self.skipped += 1
        else:
            self.plain += 1


async def rewrap(
    store: Store, bucket: str | None, key: str, *, to: str | None = None
) -> RewrapReport:
    """Wraps one object's data key with key ``to``, by default the active one. A plain object
    stays as it is.

    The keys are those of the store's Encrypt layer for the object. ObjectChangedError when
    the object was replaced meanwhile: nothing was changed. Errors as for a read of it, so a
    changed or misplaced object is not made good by this."""
    report = RewrapReport()
    report.add(key, await _rewrap(store, store.bucket(bucket).name, key, to))
    return report


async def rewrap_bucket(
    store: Store,
    bucket: str | None,
    *,
    prefix: str = "",
    to: str | None = None,
    on_progress: Callable[[RewrapReport], Awaitable[None] | None] | None = None,
    start_after: str | None = None,
    concurrency: int = 8,
) -> RewrapReport:
    """`rewrap` of every object under ``prefix``, in the order of keys, ``concurrency`` at a
    time; an object that changes meanwhile is looked at again.

    What fails is reported and the run goes on, but for InvalidConfigError, which no object is
    to blame for. Objects that are done already are skipped, so
    a broken run is run again; ``start_after`` (a report's ``last_key``) also saves the
    looking. ``on_progress`` is told after every object; its error ends the run."""
    report = RewrapReport(last_key=start_after)
    name = store.bucket(bucket).name

    async def work(key: str) -> Outcome | TroveError:
        try:
            return await _persistently(store, name, key, to)
        except InvalidConfigError:
            raise
        except TroveError as exc:
            return exc

    steps = walk(store, name, prefix, start_after, concurrency, work)
    async with aclosing(steps):
        async for key, outcome in steps:
            report.add(key, outcome)
            if on_progress is not None and isawaitable(told := on_progress(report)):
                await told
    return report


async def rebind(
    store: Store,
    bucket: str | None,
    key: str,
    *,
    bind: Literal["key", "none"] = "key",
    expected_key: str | None = None,
) -> bool:
    """Binds an object to the key it is at now, or with ``"none"`` unbinds it; True when that
    was needed. The body stays as it is; the record is under the active key.

    ``expected_key``: where the object was bound before, when it was moved by other means than
    this package; LocationMismatchError without it. Say it only of objects you moved: the
    binding is what tells a substituted object from the right one."""
    if bind not in ("key", "none"):
        raise InvalidConfigError(f'bind is "key" or "none", not {bind!r}')
    bucket = store.bucket(bucket).name
    found = await look(store, bucket, key)
    if found is None:
        return False
    layer = layer_of(store, found.context)
    place = layer.place_of(found.context)
    opened = await open_message(
        found.header,
        layer.providers,
        found.context,
        key=place if expected_key is None else expected_key,
    )
    loc = location_of(place) if bind == "key" else None
    if opened.location == loc:
        return False
    key_id, kek = await wrapping_key(layer.providers[0], found.context)
    await _write(store, bucket, key, found, opened, key_id, kek, loc)
    return True


async def _persistently(store: Store, bucket: str, key: str, to: str | None) -> Outcome:
    races = 0
    while True:
        try:
            return await _rewrap(store, bucket, key, to)
        except ObjectNotFoundError:
            return "skipped"
        except ObjectChangedError:
            races += 1
            if races == _RACES:
                raise


async def _rewrap(store: Store, bucket: str, key: str, to: str | None) -> Outcome:
    found = await look(store, bucket, key)
    if found is None:
        return "plain"
    layer = layer_of(store, found.context)
    keyring = layer.providers[0]
    if to is None:
        key_id, kek = await wrapping_key(keyring, found.context)
    else:
        key_id, kek = to, await _named(keyring, to, found.context)
    check_kek(kek, key_id)
    place = layer.place_of(found.context)
    opened = await open_message(found.header, layer.providers, found.context, key=place)
    if found.needed_ids == {key_id}:
        return "skipped"
    await _write(store, bucket, key, found, opened, key_id, kek, opened.location)
    return "rewrapped"


async def _named(provider: KeyProvider, key_id: str, context: Context) -> bytes:
    """A key of the caller's choice. One that is retired does not wrap."""
    while isinstance(provider, TenantKeys):
        provider = provider.provider_of(context)
    if isinstance(provider, Keyring) and provider.states.get(key_id) is KeyState.DECRYPT_ONLY:
        raise InvalidConfigError(f"key {key_id!r} is retired: it wraps nothing any more")
    try:
        return await provider.unwrapping_key(key_id, context)
    except TroveError:
        raise
    except Exception as exc:  # a failure of somebody else's code
        raise KeyProviderError("the key provider failed") from exc


async def _write(
    store: Store,
    bucket: str,
    key: str,
    found: StoredMessage,
    opened: Opened,
    key_id: str,
    kek: bytes,
    loc: bytes | None,
) -> None:
    """Metadata only, and only of the version that was looked at."""
    header = found.header
    record = wrap_record(
        kek,
        key_id,
        opened.data_key,
        header.message_id,
        header.commitment,
        loc=loc,
        unbound=loc is None and header.location is not None,
    )
    metadata = {**found.info.metadata, METADATA_NAME: record.encode()}
    etag = found.info.etag
    await store.copy(bucket, key, bucket, key, metadata=metadata, if_match=etag, raw=True)
