"""Compression, encryption and keyrings from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Cli

BODY = b"day,visits\n" + b"2026-11-25,1234\n" * 20_000


@pytest.fixture
def place(cli: Cli, tmp_path: Path) -> tuple[str, Path, Path]:
    """A store with a bucket, a keyring, and a file."""
    store = f"file://{tmp_path}/store?durability=none"
    assert cli("mb", store, "box").code == 0
    ring = tmp_path / "keys.json"
    made = cli("keys", "generate", str(ring), "--id", "first")
    assert made.code == 0 and "first (active)" in made.out
    body = tmp_path / "visits.csv"
    body.write_bytes(BODY)
    return store, ring, body


def test_an_object_goes_in_compressed_and_encrypted_and_comes_back(
    cli: Cli, place: tuple[str, Path, Path], tmp_path: Path
) -> None:
    store, ring, body = place
    key = ("--encrypt-key", str(ring))
    assert cli("put", store, "box/", str(body), "--compress", *key).code == 0
    stored = (tmp_path / "store" / "box" / "visits.csv").read_bytes()
    assert b"visits" not in stored and len(stored) < len(BODY) // 20
    told = cli("stat", store, "box/visits.csv").out
    assert "zstd -> aws-esdk" in told and f"{len(stored):,} bytes stored" in told
    record = json.loads(cli("stat", store, "box/visits.csv", "--json").out)
    assert record["encodings"] == ["zstd", "aws-esdk"] and record["size"] == len(BODY)
    assert cli("cat", store, "box/visits.csv", "--range", "11-20", *key).raw == BODY[11:21]
    assert cli("get", store, "box/visits.csv", str(tmp_path / "back"), *key).code == 0
    assert (tmp_path / "back").read_bytes() == BODY
    without = cli("cat", store, "box/visits.csv")
    assert without.code == 1 and "first" in without.err and without.raw == b""


def test_with_a_key_plain_objects_are_read_only_when_that_is_asked_for(
    cli: Cli, place: tuple[str, Path, Path]
) -> None:
    store, ring, body = place
    assert cli("put", store, "box/", str(body)).code == 0
    refused = cli("cat", store, "box/visits.csv", "--encrypt-key", str(ring))
    assert refused.code == 1 and refused.raw == b""
    key = ("--encrypt-key", str(ring), "--allow-plain")
    assert cli("cat", store, "box/visits.csv", *key).raw == BODY
    assert cli("cat", store, "box/visits.csv", "--allow-plain").code == 2
    assert cli("cp", store, "box/visits.csv", "box/sealed.csv", "--compress", *key).code == 0
    told = json.loads(cli("stat", store, "box/sealed.csv", "--json").out)
    assert told["encodings"] == ["zstd", "aws-esdk"]


def test_a_key_is_rotated_and_proven_to_be_needed_no_more(
    cli: Cli, place: tuple[str, Path, Path], tmp_path: Path
) -> None:
    store, ring, body = place
    key = ("--encrypt-key", str(ring))
    for name in ("a", "b"):
        assert cli("put", store, f"box/{name}", str(body), *key).code == 0
    files = [tmp_path / "store" / "box" / name for name in ("a", "b")]
    before = [file.read_bytes() for file in files]
    assert cli("keys", "rotate", str(ring), "--id", "second").code == 0
    assert cli("keys", "ls", str(ring)).out.split() == ["inactive", "first", "active", "second"]
    early = cli("keys", "rewrap", store, "box/a", *key, "--verify")
    assert early.code == 0 and "1 rewrapped to second" in early.out
    done = cli("keys", "rewrap", store, "box", *key, "--verify")
    assert done.code == 0
    assert "1 rewrapped to second, 1 were already" in done.out
    assert "first: no longer needed" in done.out
    assert [file.read_bytes() for file in files] == before
    again = json.loads(cli("keys", "rewrap", store, "box", *key, "--verify", "--json").out)
    expected = {"rewrapped": 0, "skipped": 2, "plain": 0, "failed": 0, "needed": {"first": 0}}
    assert again == expected
    assert cli("cat", store, "box/b", *key).raw == BODY


def test_an_object_that_still_needs_an_old_key_makes_verify_fail(
    cli: Cli, place: tuple[str, Path, Path], tmp_path: Path
) -> None:
    store, ring, body = place
    key = ("--encrypt-key", str(ring))
    assert cli("put", store, "box/a", str(body), *key).code == 0
    assert cli("keys", "rotate", str(ring), "--id", "second").code == 0
    ran = cli("keys", "rewrap", store, "box", *key, "--to", "first", "--verify")
    assert ran.code == 0 and "second: no longer needed" in ran.out
    stored = tmp_path / "store" / "box" / "a"
    changed = bytearray(stored.read_bytes())
    changed[120] ^= 1  # in the wrapped data key
    stored.write_bytes(changed)
    ran = cli("keys", "rewrap", store, "box", *key, "--verify")
    assert ran.code == 1, ran.out + ran.err
    assert "1 failed" in ran.out and "first: 1 objects need it" in ran.out


def test_a_sealed_keyring_opens_with_its_passphrase_alone(
    cli: Cli, place: tuple[str, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, body = place
    ring = tmp_path / "sealed.json"
    assert cli("keys", "generate", str(ring), "--seal").code == 2
    assert not ring.exists()
    monkeypatch.setenv("TROVE_KEYRING_PASSPHRASE", "correct horse")
    assert cli("keys", "generate", str(ring), "--seal").code == 0
    assert cli("put", store, "box/a", str(body), "--encrypt-key", str(ring)).code == 0
    assert cli("keys", "rotate", str(ring)).code == 0
    monkeypatch.setenv("TROVE_KEYRING_PASSPHRASE", "wrong")
    assert cli("keys", "ls", str(ring)).code == 1
    monkeypatch.delenv("TROVE_KEYRING_PASSPHRASE")
    assert cli("cat", store, "box/a", "--encrypt-key", str(ring)).code in (1, 2)
    monkeypatch.setenv("TROVE_KEYRING_PASSPHRASE", "correct horse")
    assert cli("cat", store, "box/a", "--encrypt-key", str(ring)).raw == BODY


def test_a_keyring_is_never_replaced_and_never_shown(
    cli: Cli, place: tuple[str, Path, Path]
) -> None:
    _, ring, _ = place
    secret = json.loads(ring.read_text())
    again = cli("keys", "generate", str(ring))
    assert again.code == 2 and json.loads(ring.read_text()) == secret
    shown = cli("keys", "ls", str(ring))
    for text in (shown.out, shown.err, again.err):
        for value in _texts(secret):
            assert len(value) < 20 or value not in text


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
