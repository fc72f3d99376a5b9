"""P. Errors: the right class with the place in it, from one family, retried when that helps."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import socket
import stat
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trove_async.config import RetryPolicy
from trove_async.driver import MultipartDriver, PutOptions, WatchOptions
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    InvalidKeyError,
    KeyConflictError,
    NotFoundError,
    NotModifiedError,
    ObjectNotFoundError,
    PermissionDeniedError,
    TroveError,
    UnauthenticatedError,
    UnsupportedError,
)
from trove_async.model import LifecycleRule
from trove_async.testing.case import Deliberate, case
from trove_async.testing.faults import Source, fail
from trove_async.testing.harness import Harness
from trove_async.testing.setups import faulty_place, folder_of

NOWHERE = "trove-there-is-none"
_NOBODY = 65534
Attempts = dict[str, Callable[[], Awaitable[object]]]


def located(error: BaseException, bucket: str, key: str | None) -> None:
    assert isinstance(error, TroveError)
    assert error.bucket == bucket, f"the error says bucket {error.bucket!r}"
    assert key is None or error.key == key, f"the error says key {error.key!r}"
    assert bucket in str(error), "the message does not say where"


@case("K238", "err_object_not_found")
async def err_object_not_found(h: Harness) -> None:
    store, bucket, key = h.store, h.bucket, "no/such key"
    attempts: Attempts = {
        "head": lambda: store.head(bucket, key),
        "get": lambda: store.get(bucket, key).__aenter__(),
        "get_bytes": lambda: store.get_bytes(bucket, key),
        "range": lambda: store.get_bytes(bucket, key, range=slice(0, 4)),
        "get_ranges": lambda: store.get_ranges(bucket, key, [slice(0, 4), slice(8, 9)]),
        "no ranges": lambda: store.get_ranges(bucket, key, []),
        "copy": lambda: store.copy(bucket, key, bucket, "k"),
        "copy with metadata": lambda: store.copy(bucket, key, bucket, "k", metadata={}),
        "move": lambda: store.move(bucket, key, bucket, "k"),
    }
    if h.meets("tagging"):
        attempts["get_tags"] = lambda: store.get_tags(bucket, key)
        attempts["set_tags"] = lambda: store.set_tags(bucket, key, {"a": "b"})
    for name, attempt in attempts.items():
        with h.raises(ObjectNotFoundError) as raised:
            await attempt()
        located(raised.error, bucket, key)
        assert isinstance(raised.error, FileNotFoundError), name
    if h.meets("versioning"):
        with h.raises(NotFoundError) as raised:
            await store.restore(bucket, key, "v")
        located(raised.error, bucket, key)
    assert await h.keys() == []


@case("K239", "err_bucket_not_found")
async def err_bucket_not_found(h: Harness) -> None:
    store = h.store
    await h.put("k")
    attempts: Attempts = {
        "put": lambda: store.put(NOWHERE, "k", b"body"),
        "streamed put": lambda: store.put(NOWHERE, "k", Source(b"body", 1)),
        "get": lambda: store.get_bytes(NOWHERE, "k"),
        "get_ranges": lambda: store.get_ranges(NOWHERE, "k", [slice(0, 4)]),
        "head": lambda: store.head(NOWHERE, "k"),
        "exists": lambda: store.exists(NOWHERE, "k"),
        "delete": lambda: store.delete(NOWHERE, "k"),
        "list_page": lambda: store.list_page(NOWHERE),
        "list": lambda: anext(aiter(store.list(NOWHERE, prefix="a/", delimiter="/"))),
        "copy from": lambda: store.copy(NOWHERE, "k", h.bucket, "k2"),
        "copy to": lambda: store.copy(h.bucket, "k", NOWHERE, "k"),
        "move from": lambda: store.move(NOWHERE, "k", h.bucket, "k2"),
        "move to": lambda: store.move(h.bucket, "k", NOWHERE, "k"),
        "delete_bucket": lambda: store.delete_bucket(NOWHERE),
    }
    if h.meets("tagging"):
        attempts["get_tags"] = lambda: store.get_tags(NOWHERE, "k")
    if h.meets("versioning"):
        attempts["versions"] = lambda: store.versions(NOWHERE, "k")
    if h.meets("lifecycle"):
        attempts["get_lifecycle"] = lambda: store.get_lifecycle(NOWHERE)
        rule = LifecycleRule("r", expiration_days=1)
        attempts["set_lifecycle"] = lambda: store.set_lifecycle(NOWHERE, [rule])
    if (parts := h.capable(MultipartDriver)) is not None:
        attempts["multipart"] = lambda: parts.initiate_multipart(NOWHERE, "k", PutOptions())
    if h.meets("watch"):
        attempts["watch"] = lambda: store.watch(NOWHERE).__aenter__()
    for name, attempt in attempts.items():
        try:
            await attempt()
        except BucketNotFoundError as error:
            located(error, NOWHERE, None)
        except TroveError as error:
            raise AssertionError(f"{name} raised {error!r}") from error
        else:
            raise AssertionError(f"{name} worked without a bucket")
    assert await h.keys() == ["k"]
    assert WatchOptions().prefix == ""


@contextmanager
def _as_nobody() -> Iterator[None]:
    """All threads of the process without root's rights; as we are when we have none."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@case("K240", "err_permission", stacks=False)
async def err_permission(h: Harness) -> None:
    """Folders without any right, as a user who is not root. Only for drivers on files."""
    root = folder_of(h.driver)
    place = None if root is None else os.path.join(root, h.bucket)
    if place is None or not os.path.isdir(place):
        h.drop("driver keeps no folder per bucket; another backend's mapping is its own test")
    await h.put("d/k", b"body")
    await h.get("d/k")
    folder = os.path.join(place, "d")
    if not os.path.isdir(folder):
        h.drop("driver keeps no folder per prefix")
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    attempts: Attempts = {
        "get": lambda: h.get("d/k"),
        "head": lambda: h.store.head(h.bucket, "d/k"),
        "put": lambda: h.put("d/k", b"new"),
        "put new": lambda: h.put("d/new", b"new"),
        "delete": lambda: h.store.delete(h.bucket, "d/k"),
        "copy": lambda: h.store.copy(h.bucket, "d/k", h.bucket, "k"),
    }
    for attempt in attempts.values():  # whatever is loaded once is loaded before the rights go
        with suppress(TroveError):
            await attempt()
    await h.put("d/k", b"body")
    said: dict[str, str] = {}
    os.chmod(folder, 0)
    try:
        with _as_nobody():
            for name, attempt in attempts.items():
                try:
                    await attempt()
                except (TroveError, OSError) as error:
                    said[name] = type(error).__name__
                else:
                    said[name] = "nothing"
    finally:
        os.chmod(folder, mode)
    assert set(said.values()) == {"PermissionDeniedError"}, said
    assert await h.get("d/k") == b"body"


@case("K240", "err_permission_not_retried")
async def err_permission_not_retried(h: Harness) -> None:
    await _tried_once(h, lambda: PermissionDeniedError("no"), PermissionError)


@case("K241", "err_unauthenticated")
async def err_unauthenticated(h: Harness) -> None:
    """Asked once; an expired token does not get better by asking."""
    await _tried_once(h, lambda: UnauthenticatedError("expired"), UnauthenticatedError)


_QUICK = RetryPolicy(attempts=4, base=0.001, maximum=0.05)


async def _tried_once(
    h: Harness, make: Callable[[], TroveError], kind: type[BaseException]
) -> None:
    place, driver = await faulty_place(h, retry=_QUICK)
    await place.store.put(place.bucket, "k", b"old")
    attempts: Attempts = {
        "put": lambda: place.store.put(place.bucket, "k", b"new"),
        "get": lambda: place.get("k"),
        "head": lambda: place.store.head(place.bucket, "k"),
        "delete": lambda: place.store.delete(place.bucket, "k"),
        "list": lambda: place.store.list_page(place.bucket),
        "copy": lambda: place.store.copy(place.bucket, "k", place.bucket, "k2"),
    }
    for verb, attempt in attempts.items():
        driver.add(fail(verb, make, times=None))
        driver.calls.clear()
        with h.raises(kind) as raised:
            await attempt()
        located(raised.error, place.bucket, None)
        assert isinstance(raised.error, TroveError) and raised.error.operation == verb
        assert driver.count(verb) == 1, f"{verb} was tried {driver.count(verb)} times"
        driver.faults.clear()
    assert await place.get("k") == b"old"


@case("K245", "err_cause_chained")
async def err_cause_chained(h: Harness) -> None:
    """Errors of the driver itself pickle and copy, and keep where they happened."""
    await h.put("k")
    errors: list[BaseException] = []
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: h.get("missing"),
        lambda: h.store.put(NOWHERE, "k", b""),
        lambda: h.store.create_bucket(h.bucket),
        lambda: h.store.delete_bucket(h.bucket),
        lambda: h.put("\0"),
        lambda: h.store.get_bytes(h.bucket, "k", range=slice(100, None)),
    ]
    for attempt in attempts:
        with h.raises(TroveError) as raised:
            await attempt()
        errors.append(raised.error)
    place, driver = await faulty_place(h)
    cause = OSError(errno.EIO, "the disk says no")

    def chained() -> TroveError:
        error = PermissionDeniedError("mapped")
        error.__cause__ = cause
        return error

    driver.add(fail("head", chained))
    with h.raises(PermissionDeniedError) as raised:
        await place.store.head(place.bucket, "k")
    assert raised.error.__cause__ is cause, "the backend's own error is lost"
    for error in [*errors, raised.error]:
        assert isinstance(error, TroveError)
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(twin) is type(error) and str(twin) == str(error)
            assert (twin.bucket, twin.key, twin.operation, twin.backend) == (
                error.bucket,
                error.key,
                error.operation,
                error.backend,
            )


@case("K246", "err_is_one_family")
async def err_is_one_family(h: Harness) -> None:
    """After every case the errors that came out of its drivers are looked at. Here: that this
    look sees one from outside, and that wrong use of all kinds stays inside."""
    h.expects(KeyError)
    place, driver = await faulty_place(h, fail("head", lambda: KeyError("alien")))
    with h.raises(KeyError):
        await place.store.head(place.bucket, "k")
    strict = Harness(h.factory)
    strict.log = h.log
    with h.raises(AssertionError):
        strict.check_errors()
    assert driver.count("head") == 1
    wrong: list[Callable[[], Awaitable[object]]] = [
        lambda: h.put("k" * 2000),
        lambda: h.put("\ud800"),
        lambda: h.store.get_bytes(h.bucket, "k", range=slice(5, 1)),
        lambda: h.store.list_page(h.bucket, cursor="nonsense"),
        lambda: h.store.list_page(h.bucket, cursor="k" * 3000),
        lambda: h.store.list_page(h.bucket, prefix="\0"),
        lambda: h.store.list_page(h.bucket, start_after="\0"),
        lambda: h.store.put(h.bucket, "k", b"", content_type="\r\n"),
        lambda: h.store.put(h.bucket, "k", b"", metadata={"a\n": "b"}),
        lambda: h.store.put(h.bucket, "k", b"", storage_class="nonsense"),
        lambda: h.store.put(h.bucket, "k", b"", tags={"a": "b" * 5000}),
        lambda: h.store.create_bucket("a-region-of-its-own", region="nowhere-1"),
        lambda: h.store.get(h.bucket, "k", if_match="\r\n").__aenter__(),
    ]
    for attempt in wrong:
        try:
            result = await attempt()
        except (TroveError, TypeError, ValueError):
            continue
        if hasattr(result, "aclose"):
            await result.aclose()
    for name in [info.name for info in await h.store.list_buckets()]:
        if name == "a-region-of-its-own":
            await h.store.delete_bucket(name)


@case("K247", "err_is_directory", stacks=False, timeout=20)
async def err_is_directory(h: Harness) -> None:
    """Things that are no objects in a bucket's folder: passed over or typed, never waited for."""
    root = folder_of(h.driver)
    place = None if root is None else os.path.join(root, h.bucket)
    if place is None or not os.path.isdir(place):
        h.drop("driver keeps no folder per bucket")
    await h.put("k", b"body")
    with (
        tempfile.TemporaryDirectory(prefix="trove-outside-") as folder,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        outside = Path(folder)
        (outside / "secret").write_bytes(b"secret")
        os.mkdir(os.path.join(place, "folder"))
        os.mkfifo(os.path.join(place, "fifo"))
        os.symlink(outside / "secret", os.path.join(place, "link"))
        os.symlink(outside / "nothing", os.path.join(place, "dangling"))
        os.symlink(outside, os.path.join(place, "way-out"))
        here = os.open(place, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
        started = time.monotonic()
        listed = await h.keys()
        assert listed == ["k"], f"no objects, but listed: {sorted(set(listed) - {'k'})}"
        for key in ("folder", "fifo", "link", "dangling", "socket", "way-out/secret", "folder/x"):
            reads: list[Callable[[str], Awaitable[object]]] = [
                h.get,
                lambda name: h.store.head(h.bucket, name),
                lambda name: h.store.copy(h.bucket, name, h.bucket, "copied"),
            ]
            for read in reads:
                try:
                    found = await read(key)
                except TroveError:
                    continue
                raise AssertionError(f"{key!r} was read: {found!r}")
        for key in ("folder", "fifo", "link", "dangling", "socket", "way-out/secret", "way-out/x"):
            try:
                await h.put(key, b"new")
            except (KeyConflictError, InvalidKeyError, UnsupportedError, PermissionDeniedError):
                continue
            assert await h.get(key) == b"new", f"{key!r} was put, and is not there"
        assert time.monotonic() - started < 10
        left = {path.name: path.read_bytes() for path in outside.iterdir()}
        assert left == {"secret": b"secret"}, f"written through a link: {left}"
    assert await h.get("k") == b"body"


@case("K248", "err_no_partial_after_error")
async def err_no_partial_after_error(h: Harness) -> None:
    """After each error that a call can end in, the object is old or new, whole."""
    kinds: list[Callable[[], TroveError]] = [
        lambda: PermissionDeniedError("no"),
        lambda: UnauthenticatedError("no"),
        lambda: ObjectNotFoundError("odd"),
        lambda: BucketExistsError("odd"),
        lambda: BucketNotEmptyError("odd"),
        lambda: NotModifiedError("odd"),
    ]
    place, driver = await faulty_place(h)
    store, bucket = place.store, place.bucket
    new = b"new" * 100_000
    for make in kinds:
        for after in (False, True):
            for verb in ("put", "copy", "delete"):
                await store.put(bucket, "k", b"old", metadata={"n": "old"})
                await store.put(bucket, "source", new, metadata={"n": "new"})
                driver.add(fail(verb, make, after=after))
                with h.raises(TroveError):
                    if verb == "put":
                        await store.put(bucket, "k", Source(new), metadata={"n": "new"})
                    elif verb == "copy":
                        await store.copy(bucket, "source", bucket, "k")
                        driver.faults.clear()
                        raise PermissionDeniedError("the copy was streamed")
                    else:
                        await store.delete(bucket, "k")
                driver.faults.clear()
                if not await store.exists(bucket, "k"):
                    assert verb == "delete" and after, f"lost, when {verb} failed"
                    continue
                found = (await place.get("k"), (await store.head(bucket, "k")).metadata["n"])
                assert found in ((b"old", "old"), (new, "new")), f"torn, when {verb} failed"
    await store.put(bucket, "k", b"old")
    for position in range(4):
        source = Source(new, 100_000, error=Deliberate("body"), fail_at=position)
        with h.raises(Deliberate):
            await store.put(bucket, "k", source)
        assert await place.get("k") == b"old"
        assert source.closed == 1
    assert await place.uploads() == []
