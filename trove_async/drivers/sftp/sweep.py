"""Removal of what interrupted writers left; by age, for there are no locks over SFTP."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final

from trove_async.driver.paths import PathTarget
from trove_async.driver.records import unseal
from trove_async.drivers.sftp.gathering import gathered
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.multipart import Uploads
from trove_async.drivers.sftp.record import Identity, identity_of
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import TroveError

__all__ = ["sweep"]

_GIVEN: Final = re.compile(rb"[0-9a-f]+-[0-9a-f]+-([0-9a-f]{1,12})")
_RECORDS: Final = 100
"""Records looked at by one sweep, of one folder of many; the next takes another."""
_SETTLED: Final = 3600
"""Seconds after which a record that no file has is nobody's: no write takes so long between
claiming it and its rename."""


async def sweep(ground: Ground, link: Link, uploads: Uploads) -> None:
    """What cannot be judged stays."""
    parts = (
        lambda: _sweep_staging(ground, link),
        lambda: _sweep_records(ground, link),
        lambda: uploads.sweep(link),
    )
    await gathered([_tried(part) for part in parts])


async def _tried(part: Callable[[], Coroutine[None, None, None]]) -> None:
    with suppress(Failure):
        await part()


async def _sweep_staging(ground: Ground, link: Link) -> None:
    limit = ground.now() - int(ground.config.staging_ttl.total_seconds())
    for name, attributes in await link.entries(ground.staging[:-1]) or ():
        given = _GIVEN.fullmatch(name)
        # A file that is moved has an old mtime, one that is long written an old name.
        age = max(attributes.mtime, int(given[1], 16) if given else 0)
        if not attributes.is_folder and age < limit:
            link.forget(ground.staging + name)


async def _sweep_records(ground: Ground, link: Link) -> None:
    home = ground.state + b"/meta"
    shards = [one.name for one in await link.entries(home) or () if one.attributes.is_folder]
    if not shards:
        return
    shard = home + b"/" + random.choice(shards)
    limit = ground.now() - _SETTLED
    old = [
        one.name
        for one in await link.entries(shard) or ()
        if not one.attributes.is_folder and one.attributes.mtime < limit
    ]
    for name in random.sample(old, min(_RECORDS, len(old))):
        with suppress(TroveError, KeyError, ValueError, TypeError):
            if not await _is_used(ground, link, shard + b"/" + name):
                link.forget(shard + b"/" + name)


async def _is_used(ground: Ground, link: Link, path: bytes) -> bool:
    data = await ground.read_private(link, path)
    if not data:
        return False  # claimed, and never written
    fields = unseal(data)
    target = PathTarget(str(fields["b"]), str(fields["o"]))
    identity = Identity(int(fields["s"]), int(fields["t"]))
    if ground.sidecar(target, identity) != path:
        return True  # not one of ours
    there = await link.stat(ground.path(target))
    return there is not None and identity_of(there) == identity
