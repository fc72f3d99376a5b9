"""The commands on one store: what they print, what they leave, how they exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import trove_async as trove
from tests.cli.running import Cli, filled
from trove_async.cli.address import UsageError, byte_range, metadata_of


@pytest.fixture
def tom(tmp_path: Path) -> Path:
    file = tmp_path / "tom.txt"
    file.write_bytes(b"a cat named tom")
    return file


def test_an_object_goes_in_and_comes_out(cli: Cli, store: str, tom: Path, tmp_path: Path) -> None:
    assert cli("mb", store, "photos").code == 0
    done = cli("put", store, "photos/cats/tom.txt", str(tom), "-m", "owner=ana")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("put photos/cats/tom.txt")
    assert cli("cat", store, "photos/cats/tom.txt").raw == b"a cat named tom"
    target = tmp_path / "out.txt"
    assert cli("get", store, "photos/cats/tom.txt", str(target)).code == 0
    assert target.read_bytes() == b"a cat named tom"
    record = json.loads(cli("stat", store, "photos/cats/tom.txt", "--json").out)
    assert record["size"] == 15
    assert record["metadata"] == {"owner": "ana"}
    assert record["checksum"].startswith("blake3:")
    assert "owner=ana" in cli("stat", store, "photos/cats/tom.txt").out


def test_a_path_that_ends_in_a_slash_takes_the_name_of_the_file(
    cli: Cli, store: str, tom: Path
) -> None:
    cli("mb", store, "photos")
    assert cli("put", store, "photos/cats/", str(tom)).code == 0
    assert cli("put", store, "photos", str(tom)).code == 0
    assert cli("ls", store, "photos", "-R").out == "cats/tom.txt\ntom.txt\n"


def test_ls_shows_buckets_then_one_level_then_all(cli: Cli) -> None:
    store = filled({"a.txt": b"1", "cats/b.txt": b"22", "cats/c/d.txt": b"333"})
    assert cli("ls", store).out == "photos/\n"
    assert cli("ls", store, "photos").out == "a.txt\ncats/\n"
    assert cli("ls", store, "photos/cats/").out == "cats/b.txt\ncats/c/\n"
    assert cli("ls", store, "photos/cats", "-R").out == "cats/b.txt\ncats/c/d.txt\n"
    assert cli("ls", store, "photos", "-R", "--limit", "1").out == "a.txt\n"
    row = cli("ls", store, "photos", "-l").out.splitlines()[0]
    assert row.split()[0] == "1"
    assert row.endswith("a.txt")


def test_ls_json_is_one_object_per_line(cli: Cli) -> None:
    store = filled({"a.txt": b"1", "cats/b.txt": b"22"})
    buckets = [json.loads(line) for line in cli("ls", store, "--json").out.splitlines()]
    assert [record["bucket"] for record in buckets] == ["photos"]
    entries = [json.loads(line) for line in cli("ls", store, "photos", "--json").out.splitlines()]
    assert entries[0]["key"] == "a.txt"
    assert entries[0]["size"] == 1
    assert entries[1] == {"bucket": "photos", "prefix": "cats/"}


def test_with_a_bucket_option_the_path_is_the_key(cli: Cli) -> None:
    store = filled({"photos/a": b"inside"})
    assert cli("cat", store, "photos/a", "-b", "photos").raw == b"inside"
    assert cli("cat", store, "photos/photos/a").raw == b"inside"


@pytest.mark.parametrize(
    ("part", "wanted"), [("0-3", b"0123"), ("7-", b"789"), ("-2", b"89"), ("4-4", b"4")]
)
def test_cat_reads_a_range_with_both_ends(cli: Cli, part: str, wanted: bytes) -> None:
    store = filled({"digits": b"0123456789"})
    assert cli("cat", store, "photos/digits", "--range", part).raw == wanted


@pytest.mark.parametrize("text", ["", "-", "5", "5-1", "a-b", "--5", "1-2-3", "٣-٤"])
def test_a_range_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        byte_range(text)


def test_metadata_is_a_name_and_a_value() -> None:
    assert metadata_of(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for wrong in ("a", "=1"):
        with pytest.raises(UsageError):
            metadata_of([wrong])


def test_cp_keeps_the_body_and_the_metadata(cli: Cli, store: str, tom: Path) -> None:
    cli("mb", store, "photos")
    cli("put", store, "photos/a.txt", str(tom), "-m", "owner=ana", "--content-type", "x/y")
    assert cli("cp", store, "photos/a.txt", "photos/b.txt").code == 0
    other = filled({}, "attic")
    assert cli("cp", store, "photos/a.txt", "attic/deep/", "--to", other).code == 0
    for where, path in ((store, "photos/b.txt"), (other, "attic/deep/a.txt")):
        assert cli("cat", where, path).raw == b"a cat named tom"
        record = json.loads(cli("stat", where, path, "--json").out)
        assert record["metadata"] == {"owner": "ana"}
        assert record["content_type"] == "x/y"


def test_recursive_cp_and_rm_mean_the_folder_not_the_prefix(cli: Cli) -> None:
    store = filled({"log/1": b"1", "log/2": b"2", "logs-2024": b"3"})
    assert cli("cp", store, "photos/log", "photos/copy", "-r").code == 0
    assert cli("ls", store, "photos", "-R").out.split() == [
        *("copy/1", "copy/2", "log/1", "log/2", "logs-2024")
    ]
    assert cli("rm", store, "photos/log", "-r", "-q").out == ""
    assert cli("ls", store, "photos", "-R").out.split() == ["copy/1", "copy/2", "logs-2024"]


def test_cp_into_itself_is_refused(cli: Cli) -> None:
    store = filled({"log/1": b"1"})
    assert cli("cp", store, "photos/log", "photos/log/again", "-r").code == 2
    assert cli("ls", store, "photos", "-R").out == "log/1\n"


def test_rm_counts_a_missing_key_as_removed(cli: Cli) -> None:
    store = filled({"a": b"1", "b": b"2"})
    ran = cli("rm", store, "photos/a", "photos/never", "--json")
    assert ran.code == 0
    assert [json.loads(line)["key"] for line in ran.out.splitlines()] == ["a", "never"]
    assert cli("ls", store, "photos").out == "b\n"


def test_rb_wants_an_empty_bucket_or_force(cli: Cli) -> None:
    store = filled({"a": b"1"})
    assert cli("rb", store, "photos").code == 1
    assert cli("rb", store, "photos", "--force").code == 0
    assert cli("ls", store).out == ""


def test_conditions_reach_the_store(cli: Cli, store: str, tom: Path) -> None:
    cli("mb", store, "photos")
    put = ("put", store, "photos/a", str(tom))
    etag = json.loads(cli(*put, "--create-only", "--json").out)["etag"]
    assert cli(*put, "--create-only").code == 1
    assert cli(*put, "--if-match", "another").code == 1
    assert cli(*put, "--if-match", etag).code == 0


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ("ls", "nope://x")),
        (2, ("ls", "mem://x?colour=red")),
        (2, ("ls", "mem://", "Not_A_Bucket")),
        (2, ("cat", "mem://", "bucket")),
        (2, ("cat", "mem://", "bucket/key", "--range", "9-1")),
        (2, ("rm", "mem://", "bucket")),
        (2, ("put", "mem://", "bucket", "-")),
        (2, ("ls",)),
        (2, ("no-such-command",)),
        (1, ("ls", "mem://", "missing")),
        (1, ("cat", "mem://", "missing/key")),
        (1, ("put", "mem://", "missing/key", __file__)),
        (1, ("put", "mem://", "missing/key", "/nowhere/at/all")),
    ],
)
def test_a_failure_is_a_line_on_stderr_and_a_code(
    cli: Cli, code: int, arguments: tuple[str, ...]
) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert "Traceback" not in ran.err
    if not ran.err.startswith("Usage"):
        assert ran.err.startswith("trove: ")
        assert ran.err.count("\n") == 1


def test_debug_shows_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    from trove_async.cli.app import app

    with pytest.raises(trove.InvalidDSNError):
        app(["ls", "nope://x", "--debug"], prog_name="trove")


def test_a_secret_in_the_dsn_is_never_printed(cli: Cli) -> None:
    for dsn in ("mem://u:hunter2@x", "file://u:hunter2@host/x", "nope://u:hunter2@x?token=hunter2"):
        ran = cli("ls", dsn)
        assert ran.code != 0
        assert "hunter2" not in ran.out + ran.err


NASTY = "a\x1b[31mred\n\u202eevil\x07\u2028.txt"


def test_S07_terminal_escapes_in_keys_are_escaped(cli: Cli, tmp_path: Path) -> None:
    store = filled({NASTY: b"1", f"dir{NASTY}/x": b"2"})
    ran = cli("ls", store, "photos")
    told = (
        ran.out + cli("ls", store, "photos", "-l").out + cli("stat", store, f"photos/{NASTY}").out
    )
    told += cli("get", store, "photos", str(tmp_path / "out"), "-r").out
    told += cli("cat", store, f"photos/{NASTY}-missing").err
    told += cli("rm", store, "photos", "-r").out
    assert "\\x1b[31mred\\n\\u202eevil" in told
    assert not [c for c in told if not c.isprintable() and c != "\n"]
    assert ran.out.count("\n") == 2


def test_S07_json_holds_the_exact_key_in_printable_ascii(cli: Cli) -> None:
    store = filled({NASTY: b"1"})
    out = cli("ls", store, "photos", "--json").out
    assert out.isascii()
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert json.loads(out)["key"] == NASTY
