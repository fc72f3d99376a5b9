"""M. What is not declared is refused, before any byte moves; what is declared is there."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from trove_async.driver import Driver
from trove_async.errors import UnsupportedError
from trove_async.model import LifecycleRule
from trove_async.testing.case import case
from trove_async.testing.faults import Source
from trove_async.testing.harness import Harness
from trove_async.testing.needs import CAPABILITIES

Attempts = list[Callable[[], Awaitable[object]]]


def _attempts(h: Harness, need: str) -> Attempts:
    """Calls of the store that need it. What can be emulated (moves, batch deletes, ranges,
    multipart) is not here: without the capability the store does it by other means."""
    store, bucket = h.store, h.bucket
    rule = LifecycleRule("r", expiration_days=1)
    by_need: dict[str, Attempts] = {
        "versioning": [
            lambda: store.versions(bucket, "k"),
            lambda: store.restore(bucket, "k", "v"),
            lambda: store.head(bucket, "k", version_id="v"),
            lambda: store.get_bytes(bucket, "k", version_id="v"),
            lambda: store.delete(bucket, "k", version_id="v"),
        ],
        "tagging": [
            lambda: store.get_tags(bucket, "k"),
            lambda: store.set_tags(bucket, "k", {"a": "b"}),
            lambda: store.put(bucket, "k", b"new", tags={"a": "b"}),
        ],
        "lifecycle": [
            lambda: store.get_lifecycle(bucket),
            lambda: store.set_lifecycle(bucket, [rule]),
        ],
        "watch": [lambda: _watched(h)],
        "presign": [
            lambda: store.presign_get(bucket, "k"),
            lambda: store.presign_put(bucket, "k"),
        ],
        "conditional:create": [
            lambda: store.put(bucket, "k", Source(b"new"), if_none_match="*"),
            lambda: store.copy(bucket, "k", bucket, "k2", if_none_match="*"),
        ],
        "conditional:match": [
            lambda: store.put(bucket, "k", Source(b"new"), if_match="x"),
            lambda: store.delete(bucket, "k", if_match="x"),
        ],
    }
    return by_need[need]


async def _watched(h: Harness) -> None:
    async with h.store.watch(h.bucket):
        pass


_NEEDS = [
    "versioning",
    "tagging",
    "lifecycle",
    "watch",
    "presign",
    "conditional:create",
    "conditional:match",
]


@case("K196", "undeclared_is_refused", params=_NEEDS)
async def undeclared_is_refused(h: Harness, need: str) -> None:
    if h.meets(need):
        h.drop(f"driver declares {need}")
    await h.put("k", b"old")
    for attempt in _attempts(h, need):
        with h.raises(UnsupportedError):
            await attempt()
    assert await h.get("k") == b"old", "refused, and done"
    assert await h.keys() == ["k"]


@case("K196", "declared_is_spelt_out", stacks=False)
async def declared_is_spelt_out(h: Harness) -> None:
    """Every method of a declared capability is ``async def``; what is said to be native is
    there; the facts do not change while the driver is open."""
    declared = {"core": Driver, **{n: p for n, p in CAPABILITIES.items() if h.meets(n)}}
    for name, protocol in declared.items():
        able = h.driver if name == "core" else h.capable(protocol)
        for method, member in vars(protocol).items():
            if inspect.iscoroutinefunction(member):
                found = getattr(able, method, None)
                assert inspect.iscoroutinefunction(found), f"{name}: {method} is not async def"
    native = {"move": "move", "delete_many": "batch_delete", "watch": "watch"}
    for verb, need in native.items():
        if verb in h.features.native:
            assert h.meets(need), f"native says {verb}, and there is no {need}"
    assert h.features.conditional <= {"create", "match"}
    assert isinstance(h.driver.name, str) and h.driver.name
    assert h.driver.features == h.features


@case("K196", "declared_works", stacks=False)
async def declared_works(h: Harness) -> None:
    """One call of each; the cases of its group say the rest."""
    await h.put("k", b"body")
    info = await h.store.head(h.bucket, "k")
    for need in _NEEDS:
        if not h.meets(need):
            continue
        try:
            if need == "versioning":
                await h.store.versions(h.bucket, "k")
            elif need == "tagging":
                await h.store.get_tags(h.bucket, "k")
            elif need == "lifecycle":
                await h.store.get_lifecycle(h.bucket)
            elif need == "watch":
                await _watched(h)
            elif need == "presign":
                await h.store.presign_get(h.bucket, "k")
            elif need == "conditional:create":
                await h.store.put(h.bucket, "fresh", b"", if_none_match="*")
            else:
                await h.store.put(h.bucket, "k", b"body", if_match=info.etag)
        except UnsupportedError as error:
            raise AssertionError(f"declared, and refused: {error}") from error
