"""O. Versions and lifecycle rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from trove_async.errors import (
    NotFoundError,
    ObjectNotFoundError,
    VersionNotFoundError,
)
from trove_async.model import LifecycleRule, VersionInfo
from trove_async.testing.case import case
from trove_async.testing.harness import Harness

VERSIONING = ["versioning", "keeps_versions"]
LIFECYCLE = ["lifecycle"]


async def versions(h: Harness, key: str = "k") -> list[VersionInfo]:
    return await h.store.versions(h.bucket, key)


async def version(h: Harness, version_id: str, key: str = "k") -> bytes:
    return await h.store.get_bytes(h.bucket, key, version_id=version_id)


@case("K225", "version_put_twice_two_ids", needs=VERSIONING)
async def version_put_twice_two_ids(h: Harness) -> None:
    await h.put("k", b"one", metadata={"n": "1"})
    await h.put("k", b"two!", metadata={"n": "2"})
    second, first = await versions(h)
    assert second.version_id != first.version_id
    assert await version(h, first.version_id) == b"one"
    assert await version(h, second.version_id) == b"two!"
    assert await h.get("k") == b"two!"
    old = await h.store.head(h.bucket, "k", version_id=first.version_id)
    assert (old.size, dict(old.metadata)) == (3, {"n": "1"})
    cut = await h.store.get_bytes(h.bucket, "k", version_id=first.version_id, range=slice(1, None))
    assert cut == b"ne"
    assert await versions(h, "never") == []


@case("K226", "version_delete_marker_and_restore", needs=VERSIONING)
async def version_delete_marker_and_restore(h: Harness) -> None:
    await h.put("k", b"body")
    await h.store.delete(h.bucket, "k")
    assert not await h.store.exists(h.bucket, "k")
    assert await h.keys() == []
    marker, old = await versions(h)
    assert (marker.is_delete_marker, marker.is_latest) == (True, True)
    assert not old.is_delete_marker
    assert await version(h, old.version_id) == b"body"
    with h.raises(NotFoundError):
        await version(h, marker.version_id)
    await h.store.restore(h.bucket, "k", old.version_id)
    assert await h.get("k") == b"body"
    assert await h.keys() == ["k"]
    assert (await versions(h))[0].is_latest


@case("K227", "version_delete_specific", needs=VERSIONING)
async def version_delete_specific(h: Harness) -> None:
    for body in (b"one", b"two", b"three"):
        await h.put("k", body)
    three, two, one = [info.version_id for info in await versions(h)]
    await h.store.delete(h.bucket, "k", version_id=two)
    assert [info.version_id for info in await versions(h)] == [three, one]
    assert await version(h, one) == b"one"
    with h.raises(VersionNotFoundError):
        await version(h, two)
    await h.store.delete(h.bucket, "k", version_id=three)
    assert await h.get("k") == b"one", "the version before is the current one now"
    assert [(i.version_id, i.is_latest) for i in await versions(h)] == [(one, True)]


@case("K227", "version_unknown_id", needs=VERSIONING, params=["nonsense", "0" * 32])
async def version_unknown_id(h: Harness, version_id: str) -> None:
    await h.put("k", b"body")
    for attempt in (
        lambda: version(h, version_id),
        lambda: h.store.head(h.bucket, "k", version_id=version_id),
        lambda: h.store.restore(h.bucket, "k", version_id),
    ):
        with h.raises(VersionNotFoundError):
            await attempt()
    assert await h.get("k") == b"body"
    await h.put("other", b"theirs")
    theirs = (await versions(h, "other"))[0].version_id
    with h.raises(VersionNotFoundError):
        await version(h, theirs)


@case("K228", "version_list_order_and_latest_flag", needs=VERSIONING)
async def version_list_order_and_latest_flag(h: Harness) -> None:
    ids: list[str] = []
    for number in range(5):
        await h.put("k", b"%d" % number)
        found = await versions(h)
        ids.insert(0, found[0].version_id)
        assert [info.version_id for info in found] == ids, "not newest first"
        assert [info.is_latest for info in found] == [True] + [False] * number
    times = [info.last_modified for info in await versions(h)]
    assert times == sorted(times, reverse=True)
    assert {info.key for info in await versions(h)} == {"k"}
    await h.put("k2", b"a longer name")
    assert len(await versions(h)) == 5, "versions of another key"


@case("K229", "version_restore_keeps_metadata", needs=VERSIONING)
async def version_restore_keeps_metadata(h: Harness) -> None:
    await h.store.put(h.bucket, "k", b"one", content_type="text/x", metadata={"n": "1"})
    await h.store.put(h.bucket, "k", b"two", content_type="text/y", metadata={"n": "2"})
    old = (await versions(h))[1]
    info = await h.store.restore(h.bucket, "k", old.version_id)
    assert (info.size, info.content_type, dict(info.metadata)) == (3, "text/x", {"n": "1"})
    async with h.store.get(h.bucket, "k") as reader:
        assert await reader.read() == b"one"
        assert (reader.info.content_type, dict(reader.info.metadata)) == ("text/x", {"n": "1"})
    assert len(await versions(h)) == 3, "a restore makes a new version"
    assert (await versions(h))[0].version_id != old.version_id


RULES = [
    LifecycleRule("logs", "logs/", expiration_days=30),
    LifecycleRule("off", "tmp/", enabled=False, expiration_days=1),
]


def by_id(rules: list[LifecycleRule]) -> list[LifecycleRule]:
    return sorted(rules, key=lambda rule: rule.id)


@case("K230", "lifecycle_set_get_round_trip", needs=LIFECYCLE, stacks=False)
async def lifecycle_set_get_round_trip(h: Harness) -> None:
    assert await h.store.get_lifecycle(h.bucket) == []
    await h.store.set_lifecycle(h.bucket, RULES)
    assert by_id(await h.store.get_lifecycle(h.bucket)) == RULES
    other = await h.new_bucket()
    assert await h.store.get_lifecycle(other) == []


@case("K230", "lifecycle_replace_and_clear", needs=LIFECYCLE, stacks=False)
async def lifecycle_replace_and_clear(h: Harness) -> None:
    await h.store.set_lifecycle(h.bucket, RULES)
    changed = [LifecycleRule("logs", "logs/", expiration_days=7)]
    await h.store.set_lifecycle(h.bucket, changed)
    assert await h.store.get_lifecycle(h.bucket) == changed
    await h.store.set_lifecycle(h.bucket, [])
    assert await h.store.get_lifecycle(h.bucket) == []


@case("K231", "lifecycle_expires_only_matching", needs=LIFECYCLE, stacks=False)
async def lifecycle_expires_only_matching(h: Harness) -> None:
    """With a driver whose attribute ``clock`` can be set."""
    if not callable(getattr(h.driver, "clock", None)):
        h.drop("driver has no clock to set")
    now = datetime.now(UTC)
    vars(h.driver)["clock"] = lambda: now
    for key in ("logs/old", "tmp/old", "other", "logsx"):
        await h.put(key)
    await h.store.set_lifecycle(h.bucket, RULES)
    now += timedelta(days=20)
    await h.put("logs/new")
    assert len(await h.keys()) == 5, "too early"
    now += timedelta(days=11)
    assert await h.keys() == ["logs/new", "logsx", "other", "tmp/old"]
    assert not await h.store.exists(h.bucket, "logs/old")
    with h.raises(ObjectNotFoundError):
        await h.get("logs/old")


@case("K232", "lifecycle_invalid_rule", needs=LIFECYCLE, stacks=False)
async def lifecycle_invalid_rule(h: Harness) -> None:
    await h.store.set_lifecycle(h.bucket, RULES)
    wrong: list[Callable[[], LifecycleRule]] = [
        lambda: LifecycleRule("x", expiration_days=-1),
        lambda: LifecycleRule("x", transition_days=-1, transition_storage="cold"),
        lambda: LifecycleRule("", expiration_days=1),
        lambda: LifecycleRule("x"),
        lambda: LifecycleRule("x", transition_days=1),
    ]
    for make in wrong:
        with h.raises(ValueError):
            make()
    twice = [LifecycleRule("x", expiration_days=1), LifecycleRule("x", "a/", expiration_days=2)]
    with h.raises(ValueError):
        await h.store.set_lifecycle(h.bucket, twice)
    assert by_id(await h.store.get_lifecycle(h.bucket)) == RULES
