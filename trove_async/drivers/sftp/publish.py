"""The one rename that makes a staged file an object, and what may stand in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal

from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Lost
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link, attributes
from trove_async.drivers.sftp.record import Identity, identity_of
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import (
    BackendError,
    KeyConflictError,
    PreconditionFailedError,
    TroveError,
)

__all__ = ["publish", "replace_in_two_steps"]

_TRIES: Final = 6


async def publish(
    ground: Ground,
    link: Link,
    target: PathTarget,
    staged: bytes,
    identity: Identity,
    *,
    create_only: bool = False,
    keep_staged: bool = False,
    placed: Callable[[], None] | None = None,
    seen: Identity | Literal["look"] | None = "look",
) -> None:
    """Gives the sealed file ``staged`` the place of ``target``; its record is claimed.

    ``placed`` is called once it has that place, also when a cancel came meanwhile. ``seen``:
    what stood there just now; by default that is asked along with the rename.

    When this raises, record and file (but for ``keep_staged``) are taken away, unless it cannot
    be known whether they are published: then the record stays, for the sweep."""
    private = () if keep_staged else (staged,)
    try:
        replaced, interrupted = await _place(
            ground, link, target, staged, identity, create_only, seen
        )
    except (Lost, asyncio.CancelledError):
        ground.pool.clean(link, *private)  # no harm where it is an object by now
        raise
    except BaseException:
        ground.pool.clean(link, *private, ground.sidecar(target, identity))
        raise
    if create_only:
        ground.pool.clean(link, *private)
    if replaced is not None and replaced != identity and replaced.mtime < identity.mtime:
        ground.drop_record(link, target, replaced, deleted=False)
    if placed is not None:
        placed()
    if interrupted is not None:
        raise interrupted


async def _place(
    ground: Ground,
    link: Link,
    target: PathTarget,
    staged: bytes,
    identity: Identity,
    create_only: bool,
    seen: Identity | Literal["look"] | None,
) -> tuple[Identity | None, asyncio.CancelledError | None]:
    """(identity of what was replaced, if anything was; a cancel that came too late)."""
    path = ground.path(target)
    for _ in range(_TRIES):
        # Answered before the rename, next to which it stands.
        there = link.lstat(path) if seen == "look" else None
        if create_only:
            asked = link.link_to(staged, path)
        elif ground.can_replace:
            asked = link.rename(staged, path)
        else:
            asked = link.rename_new(staged, path)
        interrupted: asyncio.CancelledError | None = None
        try:
            placed = await asked
        except asyncio.CancelledError as exc:
            placed = asked.result()
            if placed is not None:
                raise
            interrupted = exc
        if isinstance(placed, Lost):
            if not await _recovered(ground, target, staged, identity, create_only, placed):
                raise PreconditionFailedError("the object exists already")
            return None, None
        if placed is None and seen != "look":
            return seen, interrupted
        found = await link.stat(path) if there is None else attributes(await there)
        if placed is None:
            is_object = found is not None and found.is_file
            return identity_of(found) if found and is_object else None, interrupted
        failure = placed if isinstance(placed, Failure) else Failure(wire.BAD_MESSAGE)
        if failure.code == wire.NO_SUCH_FILE:
            await ground.make_folders(link, target)
            continue
        if failure.code != wire.FAILURE:
            raise failure
        if found is None:
            await _say_what_is_in_the_way(ground, link, target)
            found = await link.stat(path)
        if found is None:
            continue  # it went just now
        if found.is_folder:
            if not await ground.prune_below(link, path):
                raise KeyConflictError(
                    "a folder is in the way", bucket=target.bucket, key=target.key
                )
            continue
        if create_only:
            raise PreconditionFailedError("the object exists already")
        if ground.can_replace:
            raise failure
        await replace_in_two_steps(ground, link, path, staged)
        return identity_of(found), None
    await _say_what_is_in_the_way(ground, link, target)
    raise BackendError("the folders of the key were removed again and again")


async def _recovered(
    ground: Ground,
    target: PathTarget,
    staged: bytes,
    identity: Identity,
    create_only: bool,
    lost: Lost,
) -> bool:
    """After the link was lost with the rename under way: asks over another whether it took
    place, and does it if not. False: something else is there, and only new was wanted."""
    if lost.why == "closed":
        raise lost
    path = ground.path(target)
    try:
        async with ground.pool.use() as link:
            answers = await link.all_of([link.lstat(path), link.lstat(staged)])
            there, waiting = attributes(answers[0]), attributes(answers[1])
            if there is not None and identity_of(there) == identity:
                return True  # nobody else has that identity
            if waiting is None:
                return True  # it was, and has been replaced since
            if create_only and there is not None:
                return False
            asked = link.link_to(staged, path) if create_only else link.rename(staged, path)
            placed = await asked
            if placed is None:
                return True
    except TroveError:
        pass  # no link comes about: it stays unknown
    raise lost


async def replace_in_two_steps(ground: Ground, link: Link, path: bytes, staged: bytes) -> None:
    """For a server without posix-rename: the old one aside, the new one in, or back again. For
    a moment nothing is there; `Features.atomic_overwrite` says so."""
    aside = ground.new_name()
    moves = [link.rename_new(path, aside), link.rename_new(staged, path)]
    answers = await link.all_of(moves)
    if answers[1] is None:
        ground.pool.clean(link, aside)
        return
    if answers[0] is None:
        await link.rename_new(aside, path)
    raise next(answer for answer in answers if isinstance(answer, Failure))


async def _say_what_is_in_the_way(ground: Ground, link: Link, target: PathTarget) -> None:
    """KeyConflictError when an object stands where a folder is needed."""
    paths = [ground.root + b"/" + folder for folder in target.folders]
    for answer in await link.all_of([link.lstat(path) for path in paths]):
        found = attributes(answer)
        if found is not None and not found.is_folder:
            raise KeyConflictError(
                "an object is in the way of a folder", bucket=target.bucket, key=target.key
            )
