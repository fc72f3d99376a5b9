"""Parquet scans by pyarrow through ``trove://`` against other file systems, in turns.

    python benchmarks/fsspec_scan.py [--quick]

On local disk (tmpfs where there is one): pyarrow's built-in file system and fsspec's local one; on
S3 (`rclone serve s3` over tmpfs): s3fs, and pyarrow's own client for comparison. All read the very
same files; ours also reads a compressed and encrypted copy. A full scan, and one of two columns
with a filter.

Not named fsspec.py: the folder of a script is searched first, so the other benchmarks, whose
peers import the library, would find this file in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import fsspec
import numpy
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import s3fs
from _harness import MiB, Report, Side, compete
from _harness import arguments as parser_of

import trove_async
from tests.servers.s3 import KEY, SECRET, Server, running_rclone
from trove_async.middleware import Compress, Encrypt, Keyring

# The peers would compare the whole object's checksum, which rclone tells, with a range.
os.environ["AWS_RESPONSE_CHECKSUM_VALIDATION"] = "when_required"
COLUMNS = 16
FILES = 4
BUCKET = "lake"


def sealed() -> list[object]:
    return [Compress(), Encrypt(Keyring({"bench": bytes(range(32))}, active="bench"))]


def table(rows: int) -> pyarrow.Table:
    random = numpy.random.default_rng(1)
    columns = {f"c{n}": random.integers(0, 1 << 40, rows) for n in range(COLUMNS - 1)}
    return pyarrow.table({"n": numpy.arange(rows), **columns})


async def fill(target: str, rows: int, middleware: list[object]) -> int:
    """Writes the files; bytes of them all."""
    data = table(rows)
    async with trove_async.open(target, middleware=middleware) as store:
        await store.create_bucket(BUCKET)
        size = 0
        for number in range(FILES):
            sink = pyarrow.BufferOutputStream()
            pyarrow.parquet.write_table(data, sink, row_group_size=rows // 4)
            body = sink.getvalue()
            size += body.size
            await store.put(BUCKET, f"set/{number}.parquet", memoryview(body))
    return size


def full(path: str, filesystem: object) -> int:
    found = pyarrow.dataset.dataset(path, filesystem=filesystem, format="parquet")
    return found.to_table().num_rows


def part(path: str, filesystem: object) -> int:
    found = pyarrow.dataset.dataset(path, filesystem=filesystem, format="parquet")
    first = pyarrow.dataset.field("n") < 1000
    return found.to_table(columns=["n", "c3"], filter=first).num_rows


def side(
    name: str,
    kind: str,
    scan: Callable[[str, object], int],
    path: str,
    filesystem: object,
    rows: int,
) -> Side:
    async def run(count: int) -> None:
        for _ in range(count):
            found = await asyncio.to_thread(scan, path, filesystem)
            assert found == rows, f"{name} gave {found} rows of {rows}"

    return Side(name, run, kind)


async def contest(
    report: Report,
    where: str,
    sides: list[tuple[str, str, str, object]],
    rows: int,
    size: int,
    rounds: int,
) -> None:
    for question, scan, expected in (
        ("all columns", full, rows * FILES),
        ("2 of 16 columns, 1 of 4 row groups", part, 1000 * FILES),
    ):
        made = [side(name, kind, scan, path, fs, expected) for name, kind, path, fs in sides]
        await compete(made, 1, rounds, warm=1)
        whole = size if scan is full else 0
        report.table(
            f"{where}: {question}, {FILES} files of {size // FILES // MiB} MiB", made, whole
        )
        if where != "S3":
            continue  # there is nothing between its peers and the files, so no target
        report.versus(f"{where}: {question}", made, 1.0, "Python between pyarrow and the bytes")


async def on_local(report: Report, rows: int, rounds: int) -> None:
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="trove-bench-", dir=base) as folder:
        roots = [Path(folder, name) for name in ("plain", "sealed")]
        for root in roots:
            root.mkdir()
        plain, packed = (f"file://{root}" for root in roots)
        size = await fill(plain, rows, [])
        layers = sealed()
        await fill(packed, rows, layers)
        ours = fsspec.filesystem("trove", target=plain)
        through = fsspec.filesystem("trove", target=packed, middleware=layers)
        at = f"{roots[0]}/{BUCKET}/set"
        sides = [
            ("trove", "ours", f"{BUCKET}/set", ours),
            ("trove, zstd and encryption", "note", f"{BUCKET}/set", through),
            ("fsspec local", "peer", at, fsspec.filesystem("file")),
            ("pyarrow built-in", "note", at, pyarrow.fs.LocalFileSystem()),
        ]
        await contest(report, "local", sides, rows, size, rounds)
        ours.close()
        through.close()


async def on_s3(report: Report, server: Server, rows: int, rounds: int) -> None:
    target = server.dsn(BUCKET)
    size = await fill(target, rows, [])
    ours = fsspec.filesystem("trove", target=target)
    peer = s3fs.S3FileSystem(
        key=KEY,
        secret=SECRET,
        endpoint_url=server.endpoint,
        use_listings_cache=False,
    )
    own = pyarrow.fs.S3FileSystem(
        access_key=KEY,
        secret_key=SECRET,
        endpoint_override=server.endpoint.removeprefix("http://"),
        scheme="http",
        region="us-east-1",
    )
    sides = [
        ("trove", "ours", f"{BUCKET}/set", ours),
        ("s3fs", "peer", f"{BUCKET}/set", peer),
        ("pyarrow built-in", "note", f"{BUCKET}/set", own),
    ]
    await contest(report, "S3", sides, rows, size, rounds)
    ours.close()


async def run(arguments: argparse.Namespace) -> bool:
    rows, rounds = (20_000, 3) if arguments.quick else (500_000, 5)
    report = Report("fsspec")
    report.say(
        "All sides read the same files; pyarrow prefetches and decodes in its own threads. Ours "
        "compares the etag of each range with that of the file that was opened."
    )
    report.say()
    await on_local(report, rows, rounds)
    with running_rclone() as server:
        await on_s3(report, server, rows, rounds)
    met = report.finish()
    if not arguments.quick:
        report.save()
    return met


def main() -> None:
    asyncio.run(run(parser_of("Parquet scans through fsspec").parse_args()))


if __name__ == "__main__":
    main()
