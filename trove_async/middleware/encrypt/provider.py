"""Where keys come from when not from a keyring in memory: a KMS, a Vault, one per tenant."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Mapping
from time import monotonic
from typing import Generic, NoReturn, Protocol, TypeVar, runtime_checkable

from trove_async.errors import (
    EncryptionKeyError,
    InvalidConfigError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnwrapError,
    TroveError,
)
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt.envelope import check_kek, check_key_id

__all__ = ["CachedKeyProvider", "KeyProvider", "TenantKeys", "one_for_all"]

T = TypeVar("T")


@runtime_checkable
class KeyProvider(Protocol):
    """Gives 32-byte key-encryption keys by name. Asked for every object, so it caches, or is
    put into a `CachedKeyProvider`.

    KeyNotFoundError: there is no such key, or not for this context. KeyProviderError: ask
    again later. Never a key in an error's text."""

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        """The name and bytes of the key for new objects."""
        ...

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        """``key_id`` is what an object says, which anyone may have written."""
        ...


def one_for_all(context: Context) -> Hashable:
    """The `scope` of a provider that gives the same keys to everybody."""
    return None


class TenantKeys:
    """Each tenant its own keys, and no way to another's.

    ``tenant_of`` tells the tenant from the operation: its bucket, the first segment of its
    key, a context variable of the request. None, or a tenant without keys: KeyNotFoundError,
    so that nothing is ever written under somebody else's key. ``keys`` is looked at anew each
    time, so tenants may be added to it."""

    def __init__(
        self, tenant_of: Callable[[Context], str | None], keys: Mapping[str, KeyProvider]
    ) -> None:
        self._tenant_of = tenant_of
        self._keys = keys

    def __repr__(self) -> str:
        return f"<TenantKeys of {len(self._keys)} tenants>"

    def provider_of(self, context: Context) -> KeyProvider:
        tenant = self._tenant_of(context)
        provider = None if tenant is None else self._keys.get(tenant)
        if provider is None:
            who = "no tenant" if tenant is None else f"tenant {tenant!r}, who has no keys"
            raise KeyNotFoundError(f"the operation is of {who}")
        return provider

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        return await self.provider_of(context).wrapping_key(context)

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        return await self.provider_of(context).unwrapping_key(key_id, context)


class CachedKeyProvider:
    """Asks ``provider`` once for what many need: keys are kept for ``ttl`` seconds, and callers
    that want the same key at the same time share one call.

    ``scope(context)`` names all that the provider's answer depends on, what it takes from
    context variables included: callers of equal scope get each other's keys. There is no
    default, since a wrong one would hand tenants each other's keys: `one_for_all` when the
    provider does not look at its context, else the function that tells the tenant.

    A call runs in the context variables of whoever asked first; a caller's cancel ends only
    its own wait, and the call as well once nobody waits for it. A failure is told to all who
    wait and is not kept: as KeyProviderError (retryable), unless it is an EncryptionKeyError
    or an InvalidConfigError.
    ``stale_if_error``: seconds beyond ``ttl`` for which a kept key still serves while the
    provider fails; a KeyNotFoundError or KeyUnwrapError is an answer, and drops the key.
    At most ``max_keys`` keys are kept. For one event loop."""

    def __init__(
        self,
        provider: KeyProvider,
        *,
        scope: Callable[[Context], Hashable],
        ttl: float = 300.0,
        max_keys: int = 1024,
        stale_if_error: float = 0.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if ttl < 0 or stale_if_error < 0 or max_keys < 1:
            raise InvalidConfigError("ttl and stale_if_error are not negative, max_keys is not 0")
        self._provider = provider
        self._scope = scope
        shared = (ttl, stale_if_error, max_keys, clock)
        self._wrapping: _Shared[tuple[str, bytes]] = _Shared(*shared)
        self._unwrapping: _Shared[bytes] = _Shared(*shared)

    def __repr__(self) -> str:
        kept = len(self._wrapping.kept) + len(self._unwrapping.kept)
        return f"<CachedKeyProvider of {type(self._provider).__name__}, {kept} kept>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a cache of keys is not pickled or copied")

    def clear(self) -> None:
        """Forgets every key, for instance because one was revoked."""
        self._wrapping.clear()
        self._unwrapping.clear()

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        name = self._scope(context)
        kept = self._wrapping.fresh(name)
        if kept is not None:
            return kept

        async def ask() -> _Hidden[tuple[str, bytes]]:
            key_id, key = await self._provider.wrapping_key(context)
            check_kek(key, check_key_id(key_id))
            return _Hidden((key_id, key))

        return await self._wrapping.get(name, ask)

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        name = (self._scope(context), key_id)
        kept = self._unwrapping.fresh(name)
        if kept is not None:
            return kept

        async def ask() -> _Hidden[bytes]:
            key = await self._provider.unwrapping_key(key_id, context)
            check_kek(key, key_id)
            return _Hidden(key)

        return await self._unwrapping.get(name, ask)


class _Hidden(Generic[T]):
    """A key that is passed on: a task's repr shows its result, also in asyncio's debug log."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class _Flight(Generic[T]):
    """One call that is under way, and for how many."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[_Hidden[T]]) -> None:
        self.task = task
        self.waiters = 0


class _Shared(Generic[T]):
    """Answers by name, each fetched once at a time."""

    def __init__(self, ttl: float, stale: float, most: int, clock: Callable[[], float]) -> None:
        self._ttl = ttl
        self._stale = stale
        self._most = most
        self._clock = clock
        self.kept: OrderedDict[Hashable, tuple[_Hidden[T], float]] = OrderedDict()
        self._flights: dict[Hashable, _Flight[T]] = {}

    def clear(self) -> None:
        self.kept.clear()
        self._flights.clear()  # who waits still gets the answer, but it is not kept

    def fresh(self, name: Hashable) -> T | None:
        found = self.kept.get(name)
        if found is None or self._clock() >= found[1]:
            return None
        self.kept.move_to_end(name)
        return found[0].value

    async def get(
        self, name: Hashable, ask: Callable[[], Coroutine[object, object, _Hidden[T]]]
    ) -> T:
        flight = self._flight(name, ask)
        flight.waiters += 1
        try:
            await asyncio.wait([flight.task])  # a cancel of this wait leaves the task alone
            self._keep(name, flight)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                await self._land(name, flight)
        return self._answer(name, flight.task)

    def _flight(
        self, name: Hashable, ask: Callable[[], Coroutine[object, object, _Hidden[T]]]
    ) -> _Flight[T]:
        flight = self._flights.get(name)
        # One of a loop that was stopped in the middle would never end; a failed one has told
        # those who waited.
        if (
            flight is None
            or flight.task.get_loop() is not asyncio.get_running_loop()
            or _has_failed(flight.task)
        ):
            flight = self._flights[name] = _Flight(asyncio.create_task(ask()))
        return flight

    def _keep(self, name: Hashable, flight: _Flight[T]) -> None:
        if self._flights.get(name) is not flight:
            return  # another waiter did it, or the cache was cleared meanwhile
        del self._flights[name]
        if _has_failed(flight.task):
            return
        self.kept[name] = flight.task.result(), self._clock() + self._ttl
        self.kept.move_to_end(name)
        if len(self.kept) > self._most:
            self.kept.popitem(last=False)

    async def _land(self, name: Hashable, flight: _Flight[T]) -> None:
        """Nobody waits any more: what still runs is ended, and has ended when this returns."""
        if self._flights.get(name) is flight:
            del self._flights[name]
        task = flight.task
        task.cancel()
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue  # one is on its way to the caller already
        if not task.cancelled():
            task.exception()  # retrieved

    def _answer(self, name: Hashable, task: asyncio.Task[_Hidden[T]]) -> T:
        """Of an ended call. Every caller gets an error of its own: they add where it happened."""
        if not _has_failed(task):
            return task.result().value
        error = None if task.cancelled() else task.exception()
        if isinstance(error, KeyNotFoundError | KeyUnwrapError):
            self.kept.pop(name, None)
        elif (found := self.kept.get(name)) and self._clock() < found[1] + self._stale:
            return found[0].value
        raise _failure(error) from error


def _has_failed(task: asyncio.Task[T]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _failure(error: BaseException | None) -> TroveError:
    """Not the text of a foreign error: it may hold what must not be told."""
    if error is None:
        return KeyProviderError("the key provider cancelled its own call")
    for kind in (
        KeyNotFoundError,
        KeyUnwrapError,
        KeyProviderError,
        EncryptionKeyError,
        InvalidConfigError,
    ):
        if isinstance(error, kind):
            return kind(error.message)
    return KeyProviderError(f"the key provider failed: {type(error).__name__}")
