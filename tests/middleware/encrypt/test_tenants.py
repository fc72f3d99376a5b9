"""Tenants never share a key, and nothing that holds keys tells them."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import pickle
import pprint
from collections.abc import Hashable

import pytest

from tests.middleware.encrypt.kms import (
    KMS,
    A,
    B,
    at,
)
from tests.middleware.encrypt.leaks import assert_silent, everything_of, listening
from trove_async.errors import (
    KeyNotFoundError,
)
from trove_async.middleware import Context
from trove_async.middleware.encrypt.keyring import Keyring
from trove_async.middleware.encrypt.provider import (
    CachedKeyProvider,
    KeyProvider,
    TenantKeys,
    one_for_all,
)

# -- tenants ------------------------------------------------------------------------------

current: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")


def by_variable(context: Context) -> str | None:
    return current.get(None)


def by_segment(context: Context) -> str | None:
    return context.key.partition("/")[0]


class ByTenant(KMS):
    """A service that looks at who asks, and calls everybody's key by the same name."""

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        await self._travel()
        return "main", self.keys[by_segment(context) or ""]

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        await self._travel()
        return self.keys[by_segment(context) or ""]


async def test_M3_tenants_never_share_a_cache() -> None:
    kms = ByTenant({"acme": A, "zeta": B})
    cached = CachedKeyProvider(kms, scope=by_segment)
    keys = ["acme/1", "zeta/1", "acme/2", "zeta/2"] * 10
    wrapped = await asyncio.gather(*(cached.wrapping_key(at(key)) for key in keys))
    assert wrapped == [("main", A if key.startswith("acme") else B) for key in keys]
    opened = await asyncio.gather(*(cached.unwrapping_key("main", at(key)) for key in keys))
    assert opened == [A if key.startswith("acme") else B for key in keys]
    assert kms.calls == 4


async def test_M3_a_cache_does_not_guess_who_shares() -> None:
    with pytest.raises(TypeError, match="scope"):
        CachedKeyProvider(KMS())  # type: ignore[call-arg]


async def test_M3_scopes_are_not_joined_with_names() -> None:
    """("a", "b:c") and ("a:b", "c") were one key of the original's cache."""
    kms = KMS({"c": A, "b:c": B})
    scopes: dict[str, Hashable] = {"one": "a:b", "two": "a"}
    cached = CachedKeyProvider(kms, scope=lambda context: scopes[context.bucket])
    assert await cached.unwrapping_key("c", at(bucket="one")) == A
    assert await cached.unwrapping_key("b:c", at(bucket="two")) == B
    assert kms.calls == 2


async def test_each_tenant_has_its_own_keys_and_no_way_to_anothers() -> None:
    rings = {name: Keyring({name: key}, active=name) for name, key in (("acme", A), ("zeta", B))}
    keys = TenantKeys(by_segment, rings)
    assert isinstance(keys, KeyProvider)
    assert await keys.wrapping_key(at("acme/x")) == ("acme", A)
    assert await keys.unwrapping_key("zeta", at("zeta/x")) == B
    with pytest.raises(KeyNotFoundError, match="'zeta' is not in the keyring"):
        await keys.unwrapping_key("zeta", at("acme/x"))
    with pytest.raises(KeyNotFoundError, match="tenant 'nobody', who has no keys"):
        await keys.wrapping_key(at("nobody/x"))
    rings["nobody"] = Keyring.generate("new")
    assert (await keys.wrapping_key(at("nobody/x")))[0] == "new"
    assert_silent(f"{keys!r} {pprint.pformat(vars(keys))}", A, B)


async def test_a_tenant_from_a_context_variable_is_that_of_the_request() -> None:
    rings = {name: Keyring({"k": key}, active="k") for name, key in (("acme", A), ("zeta", B))}
    keys = TenantKeys(by_variable, rings)
    cached = CachedKeyProvider(keys, scope=by_variable)

    async def request(tenant: str) -> tuple[str, bytes]:
        current.set(tenant)
        await asyncio.sleep(0)
        return await cached.wrapping_key(at())

    answers = await asyncio.gather(*(request(t) for t in ("acme", "zeta") * 20))
    assert answers == [("k", A), ("k", B)] * 20
    with pytest.raises(KeyNotFoundError, match="no tenant"):
        await keys.wrapping_key(at())


# -- silence ------------------------------------------------------------------------------


async def test_S24_no_representation_log_or_copy_shows_a_key() -> None:
    loop = asyncio.get_running_loop()
    kms = KMS()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    with listening() as heard:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0  # every step of a task is logged, with its result
        logging.getLogger("asyncio").setLevel(logging.DEBUG)
        try:
            await asyncio.gather(
                *(cached.wrapping_key(at()) for _ in range(3)), cached.unwrapping_key("a", at())
            )
        finally:
            loop.set_debug(False)
    # The callers' own tasks are theirs: gather made those, with the keys as their results.
    shared = [line for line in heard.getvalue().splitlines() if "ask()" in line]
    assert shared
    assert_silent("\n".join(shared), A)
    shown = f"{cached!r} {vars(cached)} {pprint.pformat(vars(cached))}"
    for part in (cached._wrapping, cached._unwrapping):
        shown += f"{part!r} {vars(part)} {pprint.pformat(vars(part))}"
    assert_silent(shown, A)
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled") as caught:
            way(cached)
        assert_silent(everything_of(caught.value), A)
