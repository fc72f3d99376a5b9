"""What fsspec's own tests do not ask: old or new, transactions, options, processes."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from trove_async import InvalidConfigError, ObjectChangedError
from trove_async.fsspec import TroveFileSystem
from trove_async.middleware import Compress, Encrypt, Keyring

BIG = os.urandom(1 << 20) * 12


def layers() -> list[object]:
    return [Compress(), Encrypt(Keyring({"k": bytes(32)}, active="k"))]


@pytest.fixture
def fs(memory_fs: TroveFileSystem) -> Any:
    memory_fs.mkdir("data")
    return memory_fs


def test_the_protocol_is_known_by_its_entry_point() -> None:
    assert fsspec.get_filesystem_class("trove") is TroveFileSystem


@pytest.mark.parametrize("size", [10, len(BIG)])
def test_an_exception_in_the_block_leaves_what_was_there(fs: Any, size: int) -> None:
    fs.pipe("data/k", b"old")
    with pytest.raises(KeyError), fs.open("data/k", "wb") as file:
        file.write(BIG[:size])
        raise KeyError
    with pytest.raises(KeyError), fs.open("data/k", "w") as file:
        file.write("text")
        raise KeyError
    with pytest.raises(KeyError), fs.open("data/k", "w", compression="gzip") as file:
        file.write("text")
        raise KeyError
    assert fs.cat("data/k") == b"old"


@pytest.mark.parametrize("size", [10, len(BIG)])
def test_a_file_that_is_forgotten_is_not_written(fs: Any, size: int) -> None:
    file = fs.open("data/k", "wb")
    file.write(BIG[:size])
    with pytest.warns(ResourceWarning):
        del file
        gc.collect()
    assert not fs.exists("data/k")


@pytest.mark.parametrize("size", [10, len(BIG)])
def test_append_writes_the_whole_anew(fs: Any, size: int) -> None:
    fs.pipe("data/k", BIG)
    with fs.open("data/k", "ab") as file:
        assert file.tell() == len(BIG)
        file.write(BIG[:size])
    assert fs.cat("data/k") == BIG + BIG[:size]
    with fs.open("data/new", "ab") as file:
        file.write(b"1")
    assert fs.cat("data/new") == b"1"


def test_a_packed_text_is_read_back(fs: Any) -> None:
    with fs.open("data/k.gz", "wt", compression="infer") as file:
        file.write("hello")
    assert gzip.decompress(fs.cat("data/k.gz")) == b"hello"
    with fs.open("data/k.gz", "rt", compression="infer") as file:
        assert file.read() == "hello"


def test_a_transaction_publishes_all_or_none(fs: Any) -> None:
    def write() -> None:
        fs.pipe_file("data/a", b"1")
        for name in ("data/b", "data/c"):
            with fs.open(name, "wb") as file:
                file.write(BIG if name == "data/b" else b"3")
        assert fs.ls("data") == []

    with pytest.raises(KeyError), fs.transaction:
        write()
        raise KeyError
    assert fs.ls("data") == []
    with fs.transaction:
        write()
    assert {name: len(data) for name, data in fs.cat(fs.find("data")).items()} == {
        "data/a": 1,
        "data/b": len(BIG),
        "data/c": 1,
    }


def test_a_reader_never_mixes_two_versions(fs: Any) -> None:
    fs.pipe("data/k", BIG)
    with fs.open("data/k", "rb", block_size=1 << 20, cache_type="none") as file:
        assert file.read(100) == BIG[:100]
        fs.pipe("data/k", BIG[::-1])
        with pytest.raises(ObjectChangedError):
            file.read(100)


def test_ranges_are_those_of_slices(fs: Any) -> None:
    data = bytes(range(256))
    fs.pipe("data/k", data)
    bounds = [(None, None), (0, 10), (-5, None), (3, -3), (-9, -2), (200, 999), (300, 400), (9, 3)]
    for start, stop in bounds:
        assert fs.cat_file("data/k", start, stop) == data[start:stop], (start, stop)
    starts, ends = zip(*bounds, strict=True)
    got = fs.cat_ranges(["data/k"] * len(bounds), [*starts], [*ends])
    assert got == [data[start:stop] for start, stop in bounds]
    missing, found = fs.cat_ranges(["data/no", "data/k"], 0, 2)
    assert isinstance(missing, FileNotFoundError) and found == data[:2]


def test_move_onto_itself_changes_nothing(fs: Any) -> None:
    fs.pipe("data/k", b"1")
    fs.mv("data/k", "trove://data/k")
    assert fs.cat("data/k") == b"1"
    fs.mv("data/k", "data/l")
    assert fs.find("data") == ["data/l"]


def test_a_tree_is_moved_and_removed(fs: Any) -> None:
    fs.pipe({f"data/t/{n % 3}/{n:04}": b"" for n in range(1100)})
    fs.mv("data/t", "data/u", recursive=True)
    assert len(fs.find("data/u")) == 1100 and not fs.exists("data/t")
    with pytest.raises(IsADirectoryError):
        fs.rm("data/u")
    fs.rm("data/u", recursive=True)
    assert fs.find("data") == []
    with pytest.raises(FileNotFoundError):
        fs.rm("data/u", recursive=True)


def test_directories(fs: Any) -> None:
    fs.pipe("data/a/b", b"1")
    assert fs.isdir("data/a") and fs.isfile("data/a/b") and not fs.exists("No Bucket/x")
    with pytest.raises(FileExistsError):
        fs.mkdir("data")
    with pytest.raises(FileExistsError):
        fs.makedirs("data/a/b", exist_ok=True)
    for path in ("data", "data/a"):
        with pytest.raises(OSError, match="holds objects"):
            fs.rmdir(path)
    fs.makedirs("more/below", exist_ok=True)
    fs.rmdir("more")
    assert fs.ls("", detail=False) == ["data"]


def test_listings_are_kept_only_when_asked_for(tmp_path: Path) -> None:
    target = f"file://{tmp_path}?durability=none"
    fs, keeping = (
        fsspec.filesystem("trove", target=target, skip_instance_cache=True, use_listings_cache=use)
        for use in (False, True)
    )
    fs.mkdir("data")
    assert fs.ls("data") == keeping.ls("data") == []
    fs.pipe("data/x", b"1")
    assert fs.ls("data", detail=False) == ["data/x"]
    assert keeping.ls("data") == [] and keeping.ls("data", refresh=True, detail=False)
    keeping.pipe("data/y", b"")
    assert keeping.ls("data", detail=False) == ["data/x", "data/y"]
    fs.close()
    keeping.close()


def test_stores_with_other_keys_are_other_instances() -> None:
    ours, theirs = (Encrypt(Keyring({"k": bytes([n]) * 32}, active="k")) for n in (1, 2))
    first = fsspec.filesystem("trove", target="mem://keys", middleware=[ours])
    assert first is fsspec.filesystem("trove", target="mem://keys", middleware=[ours])
    assert first is not fsspec.filesystem("trove", target="mem://keys", middleware=[theirs])
    assert first.storage_options["middleware"] == [ours]


def test_sizes_are_those_that_a_read_gives(tmp_path: Path) -> None:
    fs = fsspec.filesystem("trove", target=f"file://{tmp_path}", middleware=layers())
    fs.mkdir("data")
    fs.pipe("data/k", b"1" * 100_000)
    [entry] = fs.ls("data")
    assert entry["size"] == 100_000 > entry["stored_size"]
    assert fs.du("data") == 100_000 == fs.find("data", detail=True)["data/k"]["size"]
    assert fs.modified("data/k") == fs.created("data/k") == entry["last_modified"]
    key = fs.ukey("data/k")
    assert fs.checksum("data/k") == int(entry["checksum"].partition(":")[2], 16)
    fs.pipe("data/k", b"2" * 100_000)
    assert fs.ukey("data/k") != key
    fs.close()


def test_instances_pickle_by_their_options(fs: Any) -> None:
    named = fsspec.filesystem(
        "trove", target="mem://pickled", middleware="tests.fsspec.test_fsspec_files:layers"
    )
    named.mkdir("data")
    named.pipe("data/k", b"1")
    again = pickle.loads(pickle.dumps(named))
    assert again is named
    with named.open("data/k") as file, pickle.loads(pickle.dumps(file)) as copy:
        assert copy.read() == b"1"


def test_a_store_is_named_in_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "trove.toml"
    config.write_text(
        'default = "one"\n[stores.one]\nurl = "mem://cfg-one"\n[stores.two]\nurl = "mem://cfg-two"\n'
    )
    for name in ("one", "two"):
        fs = fsspec.filesystem("trove", config=str(config), store=name)
        fs.makedirs(f"b-{name}", exist_ok=True)
        assert fs.ls("", detail=False) == [f"b-{name}"]
        assert fsspec.filesystem("trove", target=f"mem://cfg-{name}").exists(f"b-{name}")
    with pytest.raises(InvalidConfigError, match="no store named 'three'"):
        fsspec.filesystem("trove", config=str(config), store="three").ls("")
    with pytest.raises(InvalidConfigError):
        TroveFileSystem()
    with pytest.raises(TypeError, match="no option colour"):
        fsspec.filesystem("trove", target="mem://", colour="red")


async def test_coroutines_use_it_in_their_own_loop() -> None:
    fs = fsspec.filesystem("trove", target="mem://", asynchronous=True, skip_instance_cache=True)
    await fs._mkdir("data")
    async with await fs.open_async("data/k", "wb") as file:
        await file.write(BIG)
        await file.write(b"end")
    async with await fs.open_async("data/k") as file:
        assert await file.read(10) == BIG[:10]
        assert await file.read() == BIG[10:] + b"end"
    with pytest.raises(KeyError):
        async with await fs.open_async("data/k", "wb") as file:
            await file.write(BIG)
            raise KeyError
    assert (await fs._info("data/k"))["size"] == len(BIG) + 3
    assert await fs._cat_ranges(["data/k"] * 2, [0, 5], [5, 9]) == [BIG[:5], BIG[5:9]]
    await fs.aclose()
    assert len(asyncio.all_tasks()) == 1


def test_the_end_of_a_process_closes_the_store(tmp_path: Path) -> None:
    """Also after a fork, whose child has a file system of its own."""
    script = f"""
import os, fsspec
options = dict(target="file://{tmp_path}")
fs = fsspec.filesystem("trove", **options)
fs.mkdir("data"); fs.pipe("data/k", b"1")
pid = os.fork()
if pid == 0:
    try:
        fs.cat("data/k")
    except RuntimeError:
        assert fsspec.filesystem("trove", **options).cat("data/k") == b"1"
        raise SystemExit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert fs.cat("data/k") == b"1"
"""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            script,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((tmp_path / ".trove").rglob("*.part"))
