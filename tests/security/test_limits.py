"""S55 to S57, S59: what has a limit is refused one past it; plugins are loaded by name only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import trove_async
from tests.security.conftest import Walled
from trove_async import (
    CorruptMetadataError,
    InvalidDSNError,
    InvalidMetadataError,
    Trove,
    parse_dsn,
)
from trove_async.errors import InvalidInputError, InvalidKeyError


async def test_S57_metadata_tags_and_names_end_at_their_limit(
    walled: Walled, memory: Trove
) -> None:
    for store in (walled.store, memory):
        most = {"n": "v" * 2047}
        assert dict((await store.put("bucket", "m", b"x", metadata=most)).metadata) == most
        tags = {f"t{number}": "v" * 256 for number in range(10)}
        await store.put("bucket", "t", b"x", tags=tags)
        assert await store.get_tags("bucket", "t") == tags
        wrong: list[dict[str, dict[str, str]]] = [
            {"metadata": {"n": "v" * 2048}},
            {"metadata": {"n" * 129: "v"}},
            {"metadata": {f"name{number}": "v" * 10 for number in range(200)}},
            {"tags": {**tags, "more": "v"}},
            {"tags": {"n" * 129: "v"}},
            {"tags": {"n": "v" * 257}},
        ]
        for options in wrong:
            with pytest.raises(InvalidMetadataError):
                await store.put("bucket", "no", b"x", **options)  # type: ignore[arg-type]  # by name
        assert not await store.exists("bucket", "no")
        with pytest.raises(InvalidInputError):
            await store.put("bucket", "no", b"x", content_type="text/" + "x" * 251)
        with pytest.raises(InvalidInputError):
            await store.put("bucket", "no", b"x", storage_class="s" * 1025)


async def test_S57_a_key_and_its_segments_end_at_their_limit(walled: Walled, memory: Trove) -> None:
    await memory.put("bucket", "k" * 1024, b"x")
    with pytest.raises(InvalidKeyError):
        await memory.put("bucket", "k" * 1025, b"x")
    await walled.store.put("bucket", "k" * 255, b"x")
    deep = "/".join(["d" * 250] * 4)
    await walled.store.put("bucket", deep, b"x")
    assert await walled.store.get_bytes("bucket", deep) == b"x"
    for key in ("k" * 256, "a/" + "k" * 256, "/".join(["d" * 255] * 5)):
        with pytest.raises(InvalidKeyError):
            await walled.store.put("bucket", key, b"x")


def test_S57_a_DSN_ends_at_its_limit() -> None:
    parse_dsn("x://h/" + "p" * (16 * 1024 - 6))
    with pytest.raises(InvalidDSNError):
        parse_dsn("x://h/" + "p" * (16 * 1024 - 5))
    parse_dsn("x://h?" + "&".join(f"p{number}=1" for number in range(100)))
    with pytest.raises(InvalidDSNError):
        parse_dsn("x://h?" + "&".join(f"p{number}=1" for number in range(101)))


async def test_S57_a_forged_record_is_not_read_without_end(walled: Walled) -> None:
    """A sidecar of a gigabyte, planted by another program, is refused after its first MiB."""
    root = walled.root.parent / "sidecars"
    async with trove_async.open(f"file://{root}?metadata=sidecar&durability=none") as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "k", b"x")
        (record,) = [path for path in (root / ".trove" / "meta").rglob("*") if path.is_file()]
        with record.open("r+b") as file:
            file.truncate(1 << 30)
        with pytest.raises(CorruptMetadataError):
            await store.get_bytes("bucket", "k")
        with pytest.raises(CorruptMetadataError):
            await store.head("bucket", "k")


async def test_S57_a_batch_of_many_keys_is_bounded_work(walled: Walled, memory: Trove) -> None:
    keys = [f"k{number}" for number in range(3000)]
    for store in (walled.store, memory):
        for key in keys[:50]:
            await store.put("bucket", key, b"x")
        results = await store.delete_many("bucket", keys)
        assert [result.key for result in results] == keys
        assert not any(result.error for result in results)


async def test_S56_a_pinned_backend_sees_only_itself() -> None:
    async with trove_async.open(
        "mem://", backends={"a": "mem://", "b": "mem://"}, routes=[("a/*", "a"), ("b/*", "b")]
    ) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "a/x", b"of a")
        await store.put("bucket", "b/x", b"of b")
        pinned = store.backend("a")
        assert [info.key async for info in pinned.list("bucket")] == ["a/x"]  # type: ignore[union-attr]  # no groups
        assert not await pinned.exists("bucket", "b/x")
        with pytest.raises(trove_async.ObjectNotFoundError):
            await pinned.copy("bucket", "b/x", "bucket", "a/stolen")
        await pinned.delete("bucket", "b/x")
        assert await store.get_bytes("bucket", "b/x") == b"of b"


PLUGIN = """
import sys
sys.modules["loaded"] = sys  # a trace that this module was run
{body}
"""


def with_plugins(tmp_path: Path, plugins: dict[str, tuple[str, str]], code: str) -> str:
    """What ``code`` prints in a process where these entry points are installed."""
    for package, (scheme, body) in plugins.items():
        (tmp_path / f"{package}.py").write_text(PLUGIN.format(body=body))
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[trove_async.drivers]\n{scheme} = {package}:make\n"
        )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


GOOD = """
def make(dsn):
    from trove_async.drivers.memory import MemoryDriver
    return MemoryDriver()
"""


def test_S59_a_plugin_is_run_only_when_its_scheme_is_named(tmp_path: Path) -> None:
    out = with_plugins(
        tmp_path,
        {"good": ("good", GOOD), "broken": ("broken", "raise RuntimeError('broken')")},
        "import asyncio, trove_async as t\n"
        "print('good' in t.schemes(), 'broken' in t.schemes(), 'loaded' in sys.modules)\n"
        "async def main():\n"
        "    async with t.open('mem://') as s: await s.create_bucket('bucket')\n"
        "    print('loaded' in sys.modules)\n"
        "    async with t.open('good://') as s: await s.create_bucket('bucket')\n"
        "    print('loaded' in sys.modules, 'broken' in sys.modules)\n"
        "asyncio.run(main())\n",
    )
    assert out.splitlines() == ["True True False", "False", "True False"]


def test_S59_a_plugin_cannot_take_the_place_of_a_built_in(tmp_path: Path) -> None:
    out = with_plugins(
        tmp_path,
        {"evil": ("file", GOOD), "evil2": ("mem", GOOD)},
        "import trove_async as t\n"
        "print(type(t.lookup('file')(t.parse_dsn('file:///tmp/x'))).__name__)\n"
        "print('loaded' in sys.modules)\n",
    )
    assert out.splitlines() == ["LocalDriver", "False"]


def test_S59_two_plugins_of_one_name_are_an_error(tmp_path: Path) -> None:
    out = with_plugins(
        tmp_path,
        {"first": ("twice", GOOD), "second": ("twice", GOOD), "third": ("once", GOOD)},
        "import trove_async as t\n"
        "try: t.lookup('twice')\n"
        "except t.InvalidDSNError as exc: print('first' in str(exc), 'second' in str(exc))\n"
        "print('loaded' in sys.modules)\n"
        "print(t.lookup('once').__name__)\n",
    )
    assert out.splitlines() == ["True True", "False", "make"]
