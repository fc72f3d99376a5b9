"""The bytes at rest are those of the format, one by one."""

from __future__ import annotations

import hashlib
import sys
from itertools import accumulate
from subprocess import run

import blake3
import pytest
import zstandard

from tests.middleware.compress.zst import (
    VECTOR,
    VECTOR_PLAIN,
    Below,
    every,
    layout_of,
    noise,
    parsed,
    ranged,
    read,
    text,
    written,
)
from trove_async.middleware.compress import Compress

MiB = 1 << 20


async def test_the_known_answer_is_read() -> None:
    assert await read(Compress(), VECTOR) == VECTOR_PLAIN
    layout = await layout_of(Compress(), VECTOR)
    assert layout.size == 60
    assert await ranged(layout, VECTOR, 6, 13) == b"hello h"


@pytest.mark.skipif(zstandard.ZSTD_VERSION != (1, 5, 7), reason="encoders differ by version")
async def test_the_known_answer_is_written() -> None:
    layer = every(frame_size=MiB, growth_after=0)
    found = await written(layer, VECTOR_PLAIN, algorithm="sha256")
    assert found.stored == VECTOR


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("is_sized", [True, False])
async def test_marker_frames_info_and_table_stand_in_their_places(
    size: int, is_sized: bool
) -> None:
    data = text(size)
    found = parsed((await written(every(), data, [7], is_sized=is_sized)).stored)
    assert found.size == size
    assert (found.algorithm, found.digest) == (2, blake3.blake3(data).digest())
    plain = b"".join(zstandard.ZstdDecompressor().decompress(frame) for frame in found.frames)
    assert plain == data


async def test_an_empty_object_has_no_data_frame() -> None:
    found = await written(every(), b"")
    assert found.is_applied
    assert parsed(found.stored).frames == []
    assert parsed(found.stored).digest == blake3.blake3(b"").digest()
    assert await read(Compress(), found.stored) == b""
    layout = await layout_of(Compress(), found.stored)
    assert layout.size == 0
    assert await ranged(layout, found.stored, 0, 0) == b""


@pytest.mark.parametrize("data", [text(700_000), noise(70_000), b"\0" * 3_000_000, b"x"])
@pytest.mark.parametrize("level", [-1, 1, 3, 10, 19])
async def test_every_frame_says_its_size_has_a_checksum_and_a_window_no_larger(
    data: bytes, level: int
) -> None:
    layer = every(frame_size=100_000, level=level)
    found = parsed((await written(layer, data[:200_000] if level == 19 else data)).stored)
    for frame, size in zip(found.frames, found.sizes, strict=True):
        header = zstandard.get_frame_parameters(frame)
        assert header.content_size == size
        assert header.has_checksum
        assert header.dict_id == 0
        assert header.window_size <= max(size, 1024)
        if not frame[4] & 0x20:
            assert header.window_size <= size


async def test_frames_grow_by_four_twice_and_the_marker_says_how_far() -> None:
    found = parsed((await written(every(), text(64 * (3 + 3 * 4 + 2 * 16) + 5))).stored)
    assert found.sizes == [*[64] * 3, *[256] * 3, *[1024] * 2, 5]
    assert found.largest == 1024


@pytest.mark.parametrize(
    ("options", "largest"),
    [
        ({}, 16 * MiB),
        ({"growth_after": 0}, MiB),
        ({"frame_size": 4 * MiB}, 16 * MiB),
        ({"frame_size": 32 * MiB}, 32 * MiB),
        ({"frame_size": 1000, "growth_after": 0}, 1000),
        ({"frame_size": 1000, "max_frame_size": 3000}, 3000),
    ],
)
async def test_the_marker_bounds_what_a_reader_will_need(
    options: dict[str, int], largest: int
) -> None:
    layer = every(**{"frame_size": MiB, "growth_after": 4096, **options})
    assert parsed((await written(layer, b"hello")).stored).largest == largest


async def test_the_default_schedule_is_the_one_of_the_format() -> None:
    growth = Compress()._encoder.growth
    sizes = [growth.size_of(i) for i in (0, 4095, 4096, 8191, 8192, 1 << 20)]
    assert sizes == [MiB, MiB, 4 * MiB, 4 * MiB, 16 * MiB, 16 * MiB]
    # 5 TB in some 3 * 10^5 frames
    steps = accumulate(growth.size_of(i) for i in range(400_000))
    assert next(i for i, total in enumerate(steps) if total > 5 * 10**12) < 310_000


@pytest.mark.parametrize("size", [700, 5000])
@pytest.mark.parametrize(
    ("algorithm", "number"), [("blake3", 2), ("sha256", 1), ("xxh3", 2), (None, 2)]
)
async def test_the_digest_is_the_operations_own_or_a_blake3(
    size: int, algorithm: str | None, number: int
) -> None:
    data = text(size)
    found = await written(every(frame_size=1024), data, [300], algorithm=algorithm)
    info = parsed(found.stored)
    expected = {1: hashlib.sha256(data).digest(), 2: blake3.blake3(data).digest()}
    assert (info.algorithm, info.digest) == (number, expected[number])


async def test_a_layer_behind_another_transform_hashes_what_it_gets() -> None:
    from contextlib import aclosing

    from tests.middleware.compress.zst import pieces_of
    from trove_async import Context
    from trove_async._chunks import Digest, collect

    data = text(500)
    context = Context("put", "box", "k")
    context.applied = ["other"]
    context.digest = Digest("sha256")  # of what the user gave, which we never see
    async with aclosing(pieces_of(data, [100])) as body:
        stored = await collect(await every().write(body, context))
    assert parsed(stored).digest == blake3.blake3(data).digest()


async def test_a_small_object_is_one_chunk_and_its_size_is_known_before() -> None:
    found = await written(Compress(), text(3000))
    assert found.chunks == [len(found.stored)]
    assert found.context.stored_size == len(found.stored)
    whole = await written(Compress(), text(MiB), [64 * 1024], is_sized=False)
    assert whole.chunks == [len(whole.stored)]
    assert whole.context.stored_size == len(whole.stored)
    long = await written(Compress(), text(MiB + 1), [64 * 1024])
    assert len(long.chunks) == 3
    assert long.context.stored_size is None


async def test_a_long_table_takes_one_more_read_and_no_more() -> None:
    data = text(90_000)
    stored = (await written(every(frame_size=10, growth_after=0), data)).stored
    below = Below(stored)
    layout = await layout_of(Compress(), below)
    assert len(below.asked) == 2
    assert below.asked[0] == (len(stored) - 65_536, len(stored))
    assert below.asked[1][1] == len(stored) - 65_536
    assert await ranged(layout, stored, 12_345, 12_399) == data[12_345:12_399]
    small = Below((await written(every(), text(1000))).stored)
    await layout_of(Compress(), small)
    assert small.asked == [(0, small.size)]


def test_knowing_the_format_loads_no_library() -> None:
    code = (
        "import sys, trove_async.middleware.compress.format as f;"
        "assert not {'zstandard', 'backports.zstd', 'pyzstd'} & set(sys.modules), sys.modules;"
        "print(f.MARKER_PREFIX.hex())"
    )
    found = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert bytes.fromhex(found.stdout.strip()) == VECTOR[:16]
