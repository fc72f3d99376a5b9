"""`trove cas`: content by its digest, from a shell."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from tests.cli.running import Cli

DATA = b"a cat named tom"
NAME = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def tom(tmp_path: Path) -> Path:
    file = tmp_path / "tom.txt"
    file.write_bytes(DATA)
    return file


def test_content_goes_in_and_comes_out(cli: Cli, store: str, tom: Path, tmp_path: Path) -> None:
    done = cli("cas", "put", store, str(tom), "--compress")
    assert (done.code, done.out, done.err) == (0, f"{NAME}  {tom}\n", "")
    (stored,) = map(json.loads, cli("cas", "put", store, str(tom), "--json").out.splitlines())
    assert stored == {"digest": NAME, "size": 15, "deduplicated": True, "file": str(tom)}
    assert cli("cas", "get", store, NAME).raw == DATA
    assert cli("cas", "get", store, NAME, "--range", "2-4").raw == b"cat"
    target = tmp_path / "out"
    assert cli("cas", "get", store, NAME, str(target)).code == 0
    assert target.read_bytes() == DATA
    (listed,) = map(json.loads, cli("cas", "ls", store, "--json").out.splitlines())
    assert (listed["digest"], listed["references"], listed["state"]) == (NAME, 2, "live")
    assert NAME in cli("cas", "ls", store).out
    assert cli("cas", "verify", store).out == "1 checked\n"


def test_what_is_released_is_collected_unless_it_is_pinned(cli: Cli, store: str, tom: Path) -> None:
    now = ("--grace", "0", "--settle", "0")
    assert cli("cas", "put", store, str(tom), "--owner", "ana").code == 0
    assert cli("cas", "release", store, NAME, "--owner", "ana").code == 0
    pin = cli("cas", "pin", store, NAME, "--reason", "kept", "--ttl", "2").out.strip()
    assert json.loads(cli("cas", "gc", store, *now, "--json").out)["deleted"] == 0
    assert cli("cas", "unpin", store, pin).out == "1 dropped\n"
    told = cli("cas", "gc", store, *now, "--dry-run")
    assert told.out == "1 known, 1 would be condemned, 1 would be deleted (15 B)\n"
    assert cli("cas", "get", store, NAME).raw == DATA
    assert json.loads(cli("cas", "gc", store, *now, "--json").out)["freed_bytes"] == 15
    gone = cli("cas", "get", store, NAME)
    assert gone.code == 1 and "no blob" in gone.err


def test_damage_and_a_lost_index_are_told(cli: Cli, store: str, tom: Path) -> None:
    root = Path(store.removeprefix("file://").partition("?")[0])
    assert cli("cas", "put", store, str(tom)).code == 0
    for left in (root / ".trove").glob("catalog.sqlite*"):
        left.unlink()
    collected = cli("cas", "gc", store)
    assert collected.code == 1 and "rebuild" in collected.err
    assert cli("cas", "rebuild", store).out == "1 found, 1 recovered and pinned\n"
    assert cli("cas", "gc", store).code == 0
    (blob,) = (root / "cas").rglob("*~0")
    blob.write_bytes(b"a dog named tom")
    told = cli("cas", "verify", store)
    assert (told.code, told.out) == (1, f"corrupt {NAME}\n1 checked\n")


def test_what_cannot_be_meant_is_refused(cli: Cli, store: str, tom: Path) -> None:
    assert cli("cas", "put", store, str(tom), "--algorithm", "xxh3").code == 2
    assert cli("cas", "put", store, str(tom) + ".missing").code == 1
    assert cli("cas", "get", store, "nothing").code != 0


def test_large_files_are_stored_in_chunks(cli: Cli, store: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(random.Random(1).randbytes(2_000_000))
    put = ("cas", "put", store, str(big))
    name = cli(*put, "--chunking", "fastcdc").out.split()[0]
    out = tmp_path / "out"
    assert cli("cas", "get", store, name, str(out)).code == 0
    assert out.read_bytes() == big.read_bytes()
    listed = [json.loads(line) for line in cli("cas", "ls", store, "--json").out.splitlines()]
    assert [info["digest"] for info in listed if info["chunked"]] == [name] and len(listed) > 4
    assert cli(*put, "--chunking", "rabin").code == 2
