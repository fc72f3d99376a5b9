"""Who works on something that several processes may want: a name that tells whether its
process still lives."""

from __future__ import annotations

import os
from functools import lru_cache

__all__ = ["is_dead", "new_owner"]


@lru_cache(maxsize=1)
def _machine() -> str:
    """This boot of this machine, and this namespace of process ids; empty where unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in ticks since boot; None: there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def new_owner() -> str:
    pid = os.getpid()
    return f"{_machine()}:{pid}:{_started(pid) or ''}:{os.urandom(8).hex()}"


def is_dead(owner: str) -> bool:
    """True only where that is certain: a process of this machine that has ended. All others
    are waited for until their lease ends."""
    machine, _, rest = owner.partition(":")
    pid, _, rest = rest.partition(":")
    started = rest.partition(":")[0]
    if not machine or machine != _machine() or not pid.isdigit() or not started:
        return False
    return _started(int(pid)) != started
