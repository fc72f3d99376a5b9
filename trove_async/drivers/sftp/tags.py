"""Tags are a part of the record of an object."""

from __future__ import annotations

from collections.abc import Mapping

from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.publish import replace_in_two_steps
from trove_async.drivers.sftp.reader import look
from trove_async.drivers.sftp.record import Record, foreign_info
from trove_async.errors import ObjectChangedError

__all__ = ["get_tags", "set_tags"]


async def get_tags(ground: Ground, link: Link, target: PathTarget) -> dict[str, str]:
    identity = await look(ground, link, target)
    record = await ground.read_record(link, target, identity)
    return dict(record.tags or {}) if record is not None else {}


async def set_tags(ground: Ground, link: Link, target: PathTarget, tags: Mapping[str, str]) -> None:
    """Puts another record in the place of the object's; the object keeps its identity."""
    identity = await look(ground, link, target)
    record = await ground.read_record(link, target, identity)
    is_recorded = record is not None
    if record is None:
        info = foreign_info(target.key, identity)
        record = Record(info.content_type, {})
    record = record._replace(tags=dict(tags))
    sidecar = ground.sidecar(target, identity)
    name = ground.new_name()
    try:
        await ground.write_record(link, name, record.encode(target, identity))
        if not is_recorded:
            await ground.make_shard(link, sidecar)
            await ground.check(link, [await link.rename_new(name, sidecar)])
        elif ground.can_replace:
            await ground.check(link, [await link.rename(name, sidecar)])
        else:
            await replace_in_two_steps(ground, link, sidecar, name)
    finally:
        ground.pool.clean(link, name)
    if await look(ground, link, target) != identity:
        ground.pool.clean(link, sidecar)
        raise ObjectChangedError("the object was replaced meanwhile")
