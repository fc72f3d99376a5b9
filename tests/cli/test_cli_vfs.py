"""tree, du and find."""

from __future__ import annotations

import json

import pytest

from tests.cli.running import Cli, filled

OBJECTS = {
    "a/b/one.txt": b"1" * 10,
    "a/b/two.jpg": b"2" * 2000,
    "a/three.txt": b"3" * 5,
    "empty/": b"",
    "top.txt": b"t",
    "a/b-/x": b"",
}


@pytest.fixture
def dsn() -> str:
    return filled(OBJECTS)


def test_tree_draws_directories(cli: Cli, dsn: str) -> None:
    done = cli("tree", dsn, "photos")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "photos\n"
        "├── a/\n"
        "│   ├── b-/\n"
        "│   │   └── x\n"
        "│   ├── b/\n"
        "│   │   ├── one.txt\n"
        "│   │   └── two.jpg\n"
        "│   └── three.txt\n"
        "├── empty/\n"
        "└── top.txt\n"
        "\n4 directories, 5 files\n"
    )
    assert cli("tree", dsn, "photos/a", "-L", "1", "-d").out == (
        "photos/a\n├── b-/\n└── b/\n\n2 directories\n"
    )
    lines = [json.loads(line) for line in cli("tree", dsn, "photos/a/b", "--json").out.splitlines()]
    assert [(line["path"], line["type"], line["size"]) for line in lines] == [
        ("a/b/one.txt", "file", 10),
        ("a/b/two.jpg", "file", 2000),
    ]


def test_du_adds_up_what_is_below(cli: Cli, dsn: str) -> None:
    done = cli("du", dsn, "photos", "--json")
    found = {line["path"]: line for line in map(json.loads, done.out.splitlines())}
    assert {path: (line["size"], line["files"]) for path, line in found.items()} == {
        "a/b-": (0, 1),
        "a/b": (2010, 2),
        "a": (2015, 4),
        "empty": (0, 0),
        "": (2016, 5),
    }
    assert list(found)[-1] == ""
    assert cli("du", dsn, "photos", "-L", "0", "--bytes").out.split() == ["2016", "photos"]
    assert cli("du", dsn, "photos/top.txt").out.split() == ["1", "B", "photos/top.txt"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["photos", "--name", "*.txt"], ["a/b/one.txt", "a/three.txt", "top.txt"]),
        (["photos/a/**/*.txt"], ["a/b/one.txt", "a/three.txt"]),
        (["photos/*/*.txt"], ["a/three.txt"]),
        (["photos", "--type", "d"], ["a/", "a/b-/", "a/b/", "empty/"]),
        (["photos", "--min-size", "6", "--max-size", "1000"], ["a/b/one.txt"]),
        (["photos/a/b"], ["a/b/one.txt", "a/b/two.jpg"]),
    ],
)
def test_find(cli: Cli, dsn: str, arguments: list[str], found: list[str]) -> None:
    done = cli("find", dsn, *arguments)
    assert (done.code, done.err) == (0, "")
    assert sorted(done.out.splitlines()) == sorted(f"photos/{path}" for path in found)


def test_what_is_not_there_and_what_is_not_meant(cli: Cli, dsn: str) -> None:
    for command in ("tree", "du", "find"):
        assert cli(command, dsn, "photos/none").code == 1
        assert "no such file or directory" in cli(command, dsn, "photos/none").err
        assert cli(command, dsn, "").code == 2
    assert cli("find", dsn, "photos", "--type", "x").code == 2
