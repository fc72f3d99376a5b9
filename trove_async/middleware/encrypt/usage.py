"""Which keys stored objects depend on: to be asked before one is destroyed.

Nothing here sees older versions in a versioned bucket, unfinished multipart uploads, other
buckets, copies elsewhere, or objects that another process writes under the key right now:
make another key active everywhere first.
"""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field

from trove_async.errors import (
    InvalidConfigError,
    KeyNotFoundError,
    ObjectNotFoundError,
    TroveError,
    UnsupportedError,
)
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt.opening import open_message
from trove_async.middleware.encrypt.provider import KeyProvider
from trove_async.middleware.encrypt.stored import Store, StoredMessage, layer_of, look, walk

__all__ = ["KeyUsage", "RetirementReport", "key_usage", "verify_retired"]


@dataclass(slots=True)
class KeyUsage:
    """Objects per key id."""

    needed: Counter[str] = field(default_factory=Counter)
    """Readers look for this key: the record names it, or there is none and the body does. An
    object with several recipients counts for each."""
    in_record: Counter[str] = field(default_factory=Counter)
    in_body: Counter[str] = field(default_factory=Counter)
    """Also of objects that were rewrapped: what this package no longer asks for, but a stock
    SDK does."""
    examined: int = 0
    plain: int = 0
    failed: list[tuple[str, TroveError]] = field(default_factory=list)
    """Which keys these depend on cannot be told."""


@dataclass(slots=True)
class RetirementReport:
    """Whether every object can be read without ``key_id``."""

    key_id: str
    examined: int = 0
    plain: int = 0
    independent: int = 0
    """Do not name the key, or were opened without it just now."""
    dependent: list[tuple[str, TroveError]] = field(default_factory=list)
    """Cannot be opened without it, or it cannot be told; and why."""

    @property
    def is_safe(self) -> bool:
        """No object is lost with the key, as far as this could see."""
        return not self.dependent


async def key_usage(
    store: Store, bucket: str | None, *, prefix: str = "", concurrency: int = 8
) -> KeyUsage:
    """Reads headers and records; no key is needed, and nothing is proven."""
    usage = KeyUsage()
    name = store.bucket(bucket).name

    async def work(key: str) -> StoredMessage | TroveError | None:
        try:
            found = await look(store, name, key)
        except TroveError as exc:
            return exc
        return _nested() if found is not None and found.is_nested else found

    steps = walk(store, name, prefix, None, concurrency, work)
    async with aclosing(steps):
        async for key, found in steps:
            if isinstance(found, ObjectNotFoundError):
                continue  # deleted meanwhile
            usage.examined += 1
            if found is None:
                usage.plain += 1
            elif isinstance(found, TroveError):
                usage.failed.append((key, found))
            else:
                usage.needed.update(found.needed_ids)
                usage.in_body.update(set(found.body_ids))
                if found.record is not None:
                    usage.in_record[found.record.key_id] += 1
    return usage


async def verify_retired(
    store: Store, bucket: str | None, key_id: str, *, prefix: str = "", concurrency: int = 8
) -> RetirementReport:
    """Opens every object that names ``key_id`` with the other keys of the store's Encrypt
    layer, as if the key were destroyed: header and commitment are checked, bodies not read."""
    report = RetirementReport(key_id)
    name = store.bucket(bucket).name

    async def work(key: str) -> StoredMessage | TroveError | None:
        try:
            found = await look(store, name, key)
            if found is not None:
                await _open_without(store, found, key_id)
        except InvalidConfigError:
            raise
        except TroveError as exc:
            return exc
        return found

    steps = walk(store, name, prefix, None, concurrency, work)
    async with aclosing(steps):
        async for key, found in steps:
            if isinstance(found, ObjectNotFoundError):
                continue
            report.examined += 1
            if found is None:
                report.plain += 1
            elif isinstance(found, TroveError):
                report.dependent.append((key, found))
            else:
                report.independent += 1
    return report


async def _open_without(store: Store, found: StoredMessage, key_id: str) -> None:
    if found.is_nested:
        raise _nested()
    if key_id not in found.needed_ids | set(found.body_ids):
        return
    layer = layer_of(store, found.context)
    providers = [_Without(provider, key_id) for provider in layer.providers]
    place = layer.place_of(found.context)
    await open_message(found.header, providers, found.context, key=place)


def _nested() -> UnsupportedError:
    return UnsupportedError("the object is encrypted twice: the inner keys cannot be seen")


class _Without:
    """A provider after one of its keys is gone."""

    def __init__(self, provider: KeyProvider, key_id: str) -> None:
        self._provider = provider
        self._key_id = key_id

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        return await self._provider.wrapping_key(context)

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        if key_id == self._key_id:
            raise KeyNotFoundError(f"only key {key_id!r} opens the object")
        return await self._provider.unwrapping_key(key_id, context)
