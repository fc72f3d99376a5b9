"""Folders in and out: nothing half-written, nothing outside the target."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.running import Cli, filled
from trove_async.cli.files import Folder, Refused, files_below, writing


def everything(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_tree_goes_in_and_comes_out_the_same(cli: Cli, store: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("a.txt", "b/c.txt", "b/d/ü ö.txt", "empty"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() if name != "empty" else b"")
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    cli("mb", store, "photos")
    assert cli("put", store, "photos/in/", str(source), "-r").code == 0
    target = tmp_path / "target"
    assert cli("get", store, "photos/in", str(target), "-r").code == 0
    wanted = everything(source)
    del source
    assert everything(target) == {k: v for k, v in wanted.items() if k != "link"}
    assert not (target / "link").exists()


@pytest.mark.parametrize(
    "key",
    ["../../x", "/etc/x", "a/../../x", "..", ".", "a//b", "C:\\x", "a\\..\\..\\x", "C:x", "a/./b"],
)
def test_S06_a_key_without_a_safe_place_is_refused_and_listed(
    cli: Cli, tmp_path: Path, key: str
) -> None:
    store = filled({key: b"evil", "zz-good": b"good"})
    target = tmp_path / "deep" / "deeper" / "target"
    ran = cli("get", store, "photos", str(target), "-r")
    assert ran.code == 1
    assert f"trove: photos/{key}: " in ran.err
    assert everything(tmp_path) == {"deep/deeper/target/zz-good": b"good"}


def test_S06_a_single_key_never_names_its_own_place(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    store = filled({"../../x": b"1", "a/..": b"2"})
    assert cli("get", store, "photos/../../x").code == 0
    assert cli("get", store, "photos/a/..").code == 1
    assert everything(tmp_path) == {"here/x": b"1"}


def test_S06_a_planted_link_is_never_followed(cli: Cli, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "dir").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    store = filled({"dir/x": b"evil", "file": b"evil", "good": b"good"})
    ran = cli("get", store, "photos", str(target), "-r")
    assert ran.code == 1
    assert ran.err.count("in the way") == 2
    assert everything(outside) == {}
    assert everything(target) == {"good": b"good"}


def test_S06_a_key_beside_its_own_folder_is_refused(cli: Cli, tmp_path: Path) -> None:
    store = filled({"a": b"1", "a/b": b"2"})
    ran = cli("get", store, "photos", str(tmp_path / "t"), "-r")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert len(everything(tmp_path / "t")) == 1


def test_S06_a_name_that_the_file_system_takes_for_another_is_refused(tmp_path: Path) -> None:
    """A folding file system is played by giving both names the same file."""
    folder = Folder(tmp_path)
    try:
        with folder.writing("Readme") as stream:
            stream.write(b"first")
        os.link(tmp_path / "Readme", tmp_path / "README")
        with pytest.raises(Refused, match="Readme"), folder.writing("README") as stream:
            stream.write(b"second")
        assert (tmp_path / "Readme").read_bytes() == b"first"
        with folder.writing("readme") as stream:
            stream.write(b"third")  # this file system tells them apart
        assert (tmp_path / "readme").read_bytes() == b"third"
        assert (tmp_path / "Readme").read_bytes() == b"first"
    finally:
        folder.close()


def test_the_mark_of_an_empty_folder_becomes_a_folder(cli: Cli, tmp_path: Path) -> None:
    store = filled({"in/": b"", "in/empty/": b""})
    assert cli("get", store, "photos/in", str(tmp_path / "t"), "-r").code == 0
    assert (tmp_path / "t" / "empty").is_dir()


@pytest.mark.parametrize("whole", [True, False])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, whole: bool) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    folder = Folder(tmp_path)
    try:
        opened = writing(target) if whole else folder.writing("file")
        with pytest.raises(ZeroDivisionError), opened as stream:
            stream.write(b"half of the new")
            stream.flush()
            raise ZeroDivisionError
    finally:
        folder.close()
    assert everything(tmp_path) == {"file": b"old"}


def test_get_into_a_pipe_or_device_writes_to_it_and_leaves_it(cli: Cli, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli("get", filled({"a": b"through"}), "photos/a", str(pipe)).code == 0
        assert stat.S_ISFIFO(pipe.lstat().st_mode)
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)


def test_get_through_a_link_that_the_user_names_writes_its_target(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    assert cli("get", filled({"a": b"new"}), "photos/a", str(tmp_path / "link")).code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_fetched_file_has_the_mode_of_any_new_file(cli: Cli, tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        assert cli("get", filled({"a": b"1"}), "photos/a", str(tmp_path / "a")).code == 0
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_name_that_is_not_utf8_is_told_and_skipped(cli: Cli, store: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "good").write_bytes(b"1")
    Path(os.fsdecode(os.fsencode(source) + b"/b\xffd")).write_bytes(b"2")
    assert [found.relative for found in files_below(source)] == [None, "good"]
    cli("mb", store, "photos")
    ran = cli("put", store, "photos/", str(source), "-r")
    assert ran.code == 1
    assert "not UTF-8" in ran.err
    assert cli("ls", store, "photos").out == "good\n"
