"""Who works on something: told apart, and known to be dead only when that is certain."""

from __future__ import annotations

import os
import subprocess
import sys

from trove_async._store.claims import is_dead, new_owner

_NAME = "from trove_async._store.claims import new_owner; print(new_owner(), flush=True); input()"


def test_an_owner_lives_as_long_as_its_process() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    owner = child.stdout.readline().strip()
    assert not is_dead(owner)
    child.kill()
    child.communicate()
    assert is_dead(owner)


def test_owners_of_one_process_differ_and_live() -> None:
    assert new_owner() != new_owner()
    assert not is_dead(new_owner())


def test_a_number_that_was_used_again_is_another_process() -> None:
    machine, pid, started, word = new_owner().split(":")
    assert int(pid) == os.getpid()
    assert is_dead(f"{machine}:{pid}:{int(started) + 1}:{word}")


def test_what_cannot_be_known_is_alive() -> None:
    _, pid, started, word = new_owner().split(":")
    for owner in ("", "x", "other:1:2:3", f"elsewhere:{pid}:{started}0:{word}", "::::"):
        assert not is_dead(owner)
