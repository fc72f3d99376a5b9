"""Every verb of the store that takes a name, as calls on it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from trove_async import StreamDirection, Trove

Verb = Callable[[Trove, str, str], Awaitable[object]]
"""The call on (store, bucket, key)."""


async def drained(entries: AsyncIterator[Any]) -> list[object]:
    return [entry async for entry in entries]


async def _get(store: Trove, bucket: str, key: str) -> bytes:
    async with store.get(bucket, key) as reader:
        return await reader.read()


async def _list(store: Trove, bucket: str, key: str) -> list[object]:
    async with aclosing(store.list(bucket, prefix=key)) as entries:
        return await drained(entries)


async def _delete_many(store: Trove, bucket: str, key: str) -> object:
    (result,) = await store.delete_many(bucket, [key])
    if result.error is not None:
        raise result.error
    return result


async def _watch(store: Trove, bucket: str, key: str) -> object:
    watching = store.watch(bucket)
    try:
        return await anext(aiter(watching))
    finally:
        await watching.aclose()


async def _stream(store: Trove, bucket: str, key: str) -> object:
    async with store.stream(bucket, key, StreamDirection.UPLOAD) as stream:
        await stream.write(b"x")
    return stream.info


async def _session(store: Trove, bucket: str, key: str) -> object:
    session = await store.uploads.create(bucket, key)
    await session.abort()
    return session


async def _cas(store: Trove, bucket: str, key: str) -> object:
    return await store.cas(bucket).store(b"x")


async def _vfs(store: Trove, bucket: str, key: str) -> object:
    return await store.vfs(bucket).exists("there")


BY_KEY: Final[dict[str, Verb]] = {
    "put": lambda s, b, k: s.put(b, k, b"x"),
    "put raw": lambda s, b, k: s.put(b, k, b"x", raw=True),
    "put if_none_match": lambda s, b, k: s.put(b, k, b"x", if_none_match="*"),
    "get": _get,
    "get_bytes": lambda s, b, k: s.get_bytes(b, k),
    "get_ranges": lambda s, b, k: s.get_ranges(b, k, [slice(0, 1)]),
    "stream": _stream,
    "uploads create": _session,
    "head": lambda s, b, k: s.head(b, k),
    "exists": lambda s, b, k: s.exists(b, k),
    "delete": lambda s, b, k: s.delete(b, k),
    "delete_many": _delete_many,
    "copy from": lambda s, b, k: s.copy(b, k, "bucket", "copied"),
    "copy to": lambda s, b, k: s.copy("bucket", "there", b, k),
    "move from": lambda s, b, k: s.move(b, k, "bucket", "moved"),
    "move to": lambda s, b, k: s.move("bucket", "there", b, k),
    "presign_get": lambda s, b, k: s.presign_get(b, k),
    "presign_put": lambda s, b, k: s.presign_put(b, k),
    "versions": lambda s, b, k: s.versions(b, k),
    "restore": lambda s, b, k: s.restore(b, k, "v1"),
    "get_tags": lambda s, b, k: s.get_tags(b, k),
    "owned": lambda s, b, k: s.owned(b, k),
    "set_tags": lambda s, b, k: s.set_tags(b, k, {"a": "b"}),
}
BY_BUCKET: Final[dict[str, Verb]] = {
    "list": _list,
    "list_page": lambda s, b, k: s.list_page(b, prefix=k),
    "vfs": _vfs,
    "cas": _cas,  # makes the bucket that it is given: before those that remove it
    "create_bucket": lambda s, b, k: s.create_bucket(b),
    "delete_bucket": lambda s, b, k: s.delete_bucket(b),
    "delete_bucket force": lambda s, b, k: s.delete_bucket(b, force=True),
    "watch": _watch,
    "get_lifecycle": lambda s, b, k: s.get_lifecycle(b),
    "set_lifecycle": lambda s, b, k: s.set_lifecycle(b, []),
}
NAMELESS: Final = frozenset(
    {
        *("aopen", "aclose", "backend", "bucket", "driver", "list_buckets", "ping"),
        *("pool", "pools"),
        "features",  # what a key's backend can do: nothing is asked of the backend
        *("use", "remove", "registrations"),
    }
)
"""What takes neither a bucket to work on nor a key."""


def unlisted() -> set[str]:
    """Public names of the store that neither table calls: a new verb must be put into one."""
    called = {name.split()[0] for name in (*BY_KEY, *BY_BUCKET)}
    public = {name for name, _ in inspect.getmembers(Trove) if not name.startswith("_")}
    return public - called - NAMELESS


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, links not followed, and without the catalog of upload
    sessions: it is made when the first one is asked for, whatever becomes of that."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and not path.name.startswith("catalog.")
    }
