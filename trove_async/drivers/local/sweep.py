"""Removal of sidecars that no file refers to: left by kills, and by other tools' deletes."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import Final

from trove_async.driver.records import unseal
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.names import Target
from trove_async.drivers.local.room import DIRECTORY
from trove_async.errors import TroveError

__all__ = ["sweep_sidecars"]

_BUDGET: Final = 0.2
"""Seconds one sweep takes at most; it begins at another place each time."""


def sweep_sidecars(ground: Ground) -> None:
    fs = ground.fs
    deadline = time.monotonic() + _BUDGET
    home = fs.open(b"meta", DIRECTORY, at=ground.state)
    try:
        shards = [os.fsencode(e.name) for e in fs.scandir(home) if e.is_dir(follow_symlinks=False)]
    finally:
        fs.close(home)
    random.shuffle(shards)
    for shard in shards:
        fd = fs.open_beneath(ground.state, b"meta/" + shard, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = [os.fsencode(entry.name) for entry in fs.scandir(fd)]
        finally:
            fs.close(fd)
        for name in names:
            if time.monotonic() > deadline:
                return
            with suppress(OSError, TroveError):  # what cannot be judged stays
                _judge(ground, b"meta/" + shard + b"/" + name)


def _judge(ground: Ground, name: bytes) -> None:
    raw = ground.read_state(name)
    if raw is None:
        return
    fields = unseal(raw)
    target = Target(str(fields["b"]), str(fields["o"]))
    if target.sidecar(int(fields["s"]), int(fields["t"])) != name:
        return
    with ground.locks.hold(target.stripe):  # no put of the key is between claim and rename
        if not _is_used(ground, target, int(fields["s"]), int(fields["t"])):
            with suppress(FileNotFoundError):
                ground.fs.unlink(name, ground.state)


def _is_used(ground: Ground, target: Target, size: int, mtime: int) -> bool:
    try:
        folder = ground.open_folder(target.folder)
    except (NotADirectoryError, TroveError):
        return False
    if folder is None:
        return False
    try:
        status = ground.fs.stat(target.leaf, folder)
    except FileNotFoundError:
        return False
    finally:
        ground.fs.close(folder)
    return status.st_size == size and status.st_mtime_ns == mtime
