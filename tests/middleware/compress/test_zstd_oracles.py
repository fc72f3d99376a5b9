"""Other programs read what we write, and we read what they write."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pyzstd
import zstandard

import trove_async as trove
from tests.middleware.compress.make_golden import FOLDER, NAMES, plain_of
from tests.middleware.compress.zst import (
    built,
    every,
    layout_of,
    noise,
    ranged,
    read,
    text,
    written,
)
from trove_async.middleware.compress import Compress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BODIES = {
    "empty": b"",
    "byte": b"x",
    "small": text(60),
    "frames": text(64 * 3),
    "grown": text(64 * 3 + 256 * 3 + 1024 * 2 + 7),
    "random": noise(700),
    "zeros": bytes(5000),
    "large": text(300_000),
}
OURS = [name for name in NAMES if name != "foreign"]

needs_zstd = pytest.mark.skipif(
    shutil.which("zstd") is None, reason="the zstd command is not installed (apt: zstd)"
)


async def stored_of(name: str) -> bytes:
    layer = every(frame_size=50_000) if name == "large" else every()
    return (await written(layer, BODIES[name], [37])).stored


@needs_zstd
@pytest.mark.parametrize("name", BODIES)
def test_the_zstd_command_reads_ours(name: str) -> None:
    stored = asyncio.run(stored_of(name))
    found = subprocess.run(["zstd", "-dc"], input=stored, capture_output=True, check=True)
    assert found.stdout == BODIES[name]
    subprocess.run(["zstd", "-t"], input=stored, capture_output=True, check=True)


@needs_zstd
def test_the_zstd_command_sees_a_flipped_bit_of_ours() -> None:
    stored = bytearray(asyncio.run(stored_of("random")))
    stored[40] ^= 1
    found = subprocess.run(["zstd", "-dc"], input=bytes(stored), capture_output=True, check=False)
    assert found.returncode != 0


@pytest.mark.parametrize("name", BODIES)
async def test_pyzstd_reads_and_seeks_in_ours(name: str) -> None:
    data = BODIES[name]
    with pyzstd.SeekableZstdFile(io.BytesIO(await stored_of(name)), "r") as file:
        assert file.read() == data
        for start in range(0, len(data), max(1, len(data) // 20)):
            file.seek(start)
            assert file.read(100) == data[start : start + 100]


@pytest.mark.parametrize("name", BODIES)
async def test_the_standard_library_reads_ours(name: str) -> None:
    stored = await stored_of(name)
    assert zstd.decompress(stored) == BODIES[name]
    with zstd.ZstdFile(io.BytesIO(stored)) as file:
        assert file.read() == BODIES[name]


@pytest.mark.parametrize("name", BODIES)
async def test_zstandard_reads_ours_as_a_stream(name: str) -> None:
    source = io.BytesIO(await stored_of(name))
    decoder = zstandard.ZstdDecompressor()
    with decoder.stream_reader(source, read_across_frames=True) as reader:
        assert reader.read() == BODIES[name]


@pytest.mark.parametrize("name", OURS)
async def test_golden_files_are_read_for_ever(name: str) -> None:
    stored, plain = (FOLDER / f"{name}.zst").read_bytes(), plain_of(name)
    assert await read(Compress(), stored) == plain
    assert await read(Compress(), stored, [11]) == plain
    layout = await layout_of(Compress(), stored)
    assert layout.size == len(plain)
    for start in range(0, len(plain), 17):
        stop = min(len(plain), start + 100)
        assert await ranged(layout, stored, start, stop) == plain[start:stop]
    if name != "checksums":  # its checksums are no checksums; we never look at them
        with pyzstd.SeekableZstdFile(io.BytesIO(stored), "r") as file:
            assert file.read() == plain


@pytest.mark.parametrize("name", NAMES)
async def test_a_golden_file_that_a_user_stores_comes_back_as_it_was(name: str) -> None:
    stored = (FOLDER / f"{name}.zst").read_bytes()
    async with trove.open("mem://", middleware=[Compress(min_size=0)]) as store:
        await store.create_bucket("box")
        for key in ("plain", "named.zst"):
            await store.put("box", key, stored)
            assert await store.get_bytes("box", key) == stored
            assert await store.get_bytes("box", key, range=slice(5, 20)) == stored[5:20]


async def test_entries_of_twelve_bytes_are_read() -> None:
    parts = [text(100, salt) for salt in range(5)]
    stored, plain = built(parts, checksums=True), b"".join(parts)
    assert len(stored) == len(built(parts)) + 4 * 7
    assert await read(Compress(), stored) == plain
    layout = await layout_of(Compress(), stored)
    assert layout.size == 500
    for start in range(0, 500, 33):
        assert await ranged(layout, stored, start, 500) == plain[start:]


async def test_frames_of_other_encoders_are_read_if_they_keep_the_rules() -> None:
    plain = text(3000)
    options = {int(zstd.CompressionParameter.checksum_flag): 1}
    encoder = zstd.ZstdCompressor(options=options)
    encoder.set_pledged_input_size(len(plain))
    blocks = [encoder.compress(plain[:1000], zstd.ZstdCompressor.FLUSH_BLOCK)]
    blocks.append(encoder.compress(plain[1000:], zstd.ZstdCompressor.FLUSH_FRAME))
    stored = built([plain], frames=[b"".join(blocks)])
    assert await read(Compress(), stored) == plain
    assert await read(Compress(), stored, [13]) == plain


def test_golden_files_are_small_and_all_there() -> None:
    files = {path.stem: path.stat().st_size for path in Path(FOLDER).glob("*.zst")}
    assert set(files) == set(NAMES)
    assert max(files.values()) < 4096
