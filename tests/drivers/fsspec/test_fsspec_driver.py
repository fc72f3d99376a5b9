"""What the conformance cases do not ask of the driver over fsspec."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

import trove_async as trove
from trove_async import Driver, InvalidDSNError, MissingDependencyError, Trove, lookup
from trove_async.drivers.fsspec import FsspecDriver


class Elsewhere(LocalFileSystem):  # type: ignore[misc]  # the library has no types
    """Local disk that nobody knows to be one: copies for renames, and no etags."""

    protocol = "elsewhere"


def unknown(root: Path) -> Driver:
    """A file system whose rename is a copy and a delete, and of which nothing is known."""
    return FsspecDriver(DirFileSystem(str(root), LocalFileSystem()), "objects")


async def test_objects_are_plain_files_and_plain_files_are_objects(tmp_path: Path) -> None:
    async with trove.open(f"fsspec+file://{tmp_path}") as store:
        await store.create_bucket("data")
        await store.put("data", "a/b.txt", b"hello", metadata={"x": "1"})
        assert (tmp_path / "data/a/b.txt").read_bytes() == b"hello"
        (tmp_path / "data/a/b.txt").write_bytes(b"other tool")
        info = await store.head("data", "a/b.txt")
        assert (info.size, dict(info.metadata)) == (10, {}), "a record of other bytes is used"
        (tmp_path / "data/foreign.json").write_bytes(b"{}")
        assert (await store.head("data", "foreign.json")).content_type == "application/json"


async def test_a_deleted_tree_leaves_no_folder_and_no_private_file(tmp_path: Path) -> None:
    async with trove.open(f"fsspec+file://{tmp_path}") as store:
        await store.create_bucket("data")
        for number in range(5):
            await store.put("data", "a/b/c", bytes(number))
        await store.delete("data", "a/b/c")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert [*(tmp_path / "data").iterdir()] == []


async def test_links_are_not_objects(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data/link").symlink_to(secret)
    async with trove.open(f"fsspec+file://{root}") as store:
        assert [entry async for entry in store.list("data")] == []
        assert not await store.exists("data", "link")


async def test_names_are_never_patterns(tmp_path: Path) -> None:
    async with Trove(unknown(tmp_path)) as store:
        await store.create_bucket("data")
        for key in ("a", "b", "[ab]", "*", "?"):
            await store.put("data", key, key.encode())
        await store.delete("data", "*")
        await store.move("data", "[ab]", "data", "{c}")
        found = [e.key async for e in store.list("data") if isinstance(e, trove.ObjectInfo)]
        assert found == ["?", "a", "b", "{c}"]
        assert await store.get_bytes("data", "{c}") == b"[ab]"


@pytest.mark.parametrize("publish", ["rename", "put"])
async def test_a_file_system_of_which_nothing_is_known(tmp_path: Path, publish: str) -> None:
    fs = DirFileSystem(str(tmp_path), LocalFileSystem(auto_mkdir=True))
    driver = FsspecDriver(fs, "objects", publish="put" if publish == "put" else "rename")
    async with Trove(driver) as store:
        assert not driver.features.atomic_overwrite and not driver.features.conditional
        await store.create_bucket("data")
        for number in range(3):
            await store.put("data", "a/k", bytes(100_000 + number), metadata={"n": str(number)})
        info = await store.head("data", "a/k")
        assert (info.size, dict(info.metadata)) == (100_002, {"n": "2"})
        assert await store.get_bytes("data", "a/k", range=slice(-10, None)) == bytes(10)
        with pytest.raises(trove.UnsupportedError):
            await store.put("data", "a/k", b"", if_none_match="*")
        await store.delete("data", "a/k")
        await store.delete_bucket("data")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_reader_of_an_unknown_file_system_sees_one_version(tmp_path: Path) -> None:
    async with Trove(unknown(tmp_path)) as store:
        await store.create_bucket("data")
        await store.put("data", "k", b"1" * (5 << 20))
        reader = await store.get("data", "k")
        assert (await reader.read(10)) == b"1" * 10
        await store.put("data", "k", b"2" * (5 << 20))
        with pytest.raises(trove.ObjectChangedError):
            await reader.read()
        await reader.aclose()


def test_addresses_that_cannot_be_meant() -> None:
    for text, match in (
        ("fsspec+nosuch://x", "no 'nosuch'"),
        ("fsspec+file:///x?colour=red", "unknown parameter colour"),
        ("fsspec+file:///x?publish=never", "publish is one of"),
        ("fsspec+memory://user@x", "takes no user"),
    ):
        with pytest.raises(InvalidDSNError, match=match):
            lookup("fsspec+any")(trove.parse_dsn(text))


async def test_a_store_of_trove_over_trove(tmp_path: Path) -> None:
    """Both directions at once: the driver over the file system over the driver over local."""
    inner = fsspec.filesystem("trove", target=f"mem://{uuid.uuid4().hex}", skip_instance_cache=True)
    inner.mkdir("outer")
    async with Trove(FsspecDriver(inner, "outer")) as store:
        await store.create_bucket("data")
        await store.put("data", "a/b", b"1" * 3_000_000, metadata={"x": "1"})
        assert len(await store.get_bytes("data", "a/b")) == 3_000_000
        assert (await store.head("data", "a/b")).metadata == {"x": "1"}
        assert [b.name for b in await store.list_buckets()] == ["data"]
    inner.close()


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [*sys.modules]:
        if name.startswith(("trove_async.drivers.fsspec", "trove_async.fsspec")):
            monkeypatch.delitem(sys.modules, name)
    for name in ("fsspec", "fsspec.asyn", "fsspec.callbacks"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"trove-async\[fsspec\]"):
        lookup("fsspec+memory")
    with pytest.raises(MissingDependencyError, match=r"trove-async\[fsspec\]"):
        import trove_async.fsspec  # noqa: F401
