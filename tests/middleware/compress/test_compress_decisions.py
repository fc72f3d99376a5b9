"""What is compressed and what is left alone; either way the bytes come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.middleware.compress.zst import every, noise, text, written
from trove_async import InvalidConfigError, Trove
from trove_async.middleware import Registration, keys
from trove_async.middleware.compress import SKIP_CONTENT_TYPES, SKIP_EXTENSIONS, Compress

MiB = 1 << 20


@pytest.fixture
async def store() -> AsyncIterator[Trove]:
    async with trove.open("mem://", middleware=[Compress()], default_bucket="box") as opened:
        await opened.create_bucket("box")
        yield opened


async def stored_bytes(store: Trove, key: str) -> bytes:
    async with store.get(None, key, raw=True) as reader:
        return await reader.read()


async def test_an_object_records_that_it_is_compressed(store: Trove) -> None:
    data = text(100_000)
    info = await store.put(None, "k", data)
    assert info.encodings == ("zstd",)
    assert info.size == 100_000
    assert info.stored_size < 50_000
    assert info.stored_size == len(await stored_bytes(store, "k"))
    head = await store.head(None, "k")
    assert (head.size, head.stored_size, head.encodings) == (100_000, info.stored_size, ("zstd",))
    async with store.get(None, "k", raw=True) as reader:
        assert reader.info.metadata["trovefmt"] == "1;zstd"
        assert reader.info.metadata["trovelen"] == "100000"
    assert await store.get_bytes(None, "k") == data


@pytest.mark.parametrize("key", ["a.jpg", "a.JPG", "x/y.tar.gz", ".zip", "a.b.7z", "film.mp4"])
async def test_keys_that_say_they_are_compressed_are_left_alone(store: Trove, key: str) -> None:
    info = await store.put(None, key, text(5000))
    assert info.encodings == ()
    assert await stored_bytes(store, key) == text(5000)
    assert await store.get_bytes(None, key) == text(5000)


@pytest.mark.parametrize("key", ["a.json", "jpg", "a.jpg/readme", "a.jpgx", "a.jpg.", "x.svg"])
async def test_other_keys_are_compressed(store: Trove, key: str) -> None:
    info = await store.put(None, key, text(5000))
    assert info.encodings == ("zstd",)
    assert await store.get_bytes(None, key) == text(5000)


@pytest.mark.parametrize(
    ("content_type", "is_applied"),
    [
        ("image/png", False),
        ("IMAGE/PNG", False),
        ("image/jpeg; q=1", False),
        ("video/anything", False),
        ("application/zip", False),
        ("image/svg+xml", True),
        ("image/bmp", True),
        ("application/json", True),
        ("text/html; charset=utf-8", True),
        ("application/octet-stream", True),
        ("video", True),
        ("", True),
    ],
)
async def test_types_that_say_they_are_compressed_are_left_alone(
    content_type: str, is_applied: bool
) -> None:
    found = await written(Compress(), text(5000), content_type=content_type)
    assert found.is_applied is is_applied
    assert (found.stored == text(5000)) is not is_applied


async def test_what_is_left_alone_can_be_chosen() -> None:
    layer = Compress(skip_extensions=[".LOG", "raw"], skip_content_types=["text/x-*"])
    for key, content_type, is_applied in [
        ("a.log", "text/plain", False),
        ("a.raw", "text/plain", False),
        ("a.jpg", "image/jpeg", True),
        ("a.txt", "text/x-python", False),
        ("a.txt", "text/plain", True),
    ]:
        found = await written(layer, text(5000), key=key, content_type=content_type)
        assert found.is_applied is is_applied, (key, content_type)
    nothing = Compress(skip_extensions=(), skip_content_types=())
    assert (await written(nothing, text(5000), key="a.jpg", content_type="image/jpeg")).is_applied


def test_the_defaults_are_lower_case_names_and_types() -> None:
    assert all(name == name.lower() and "." not in name for name in SKIP_EXTENSIONS)
    assert all(name == name.lower() and name.count("/") == 1 for name in SKIP_CONTENT_TYPES)


@pytest.mark.parametrize("is_sized", [True, False])
@pytest.mark.parametrize("cuts", [[], [1], [100]])
async def test_small_objects_are_left_alone(is_sized: bool, cuts: list[int]) -> None:
    for size, is_applied in [(0, False), (1, False), (1023, False), (1024, True)]:
        found = await written(Compress(), text(size), cuts, is_sized=is_sized)
        assert found.is_applied is is_applied
        if not is_applied:
            assert found.stored == text(size)


@pytest.mark.parametrize("size", [2000, 200_000, MiB, MiB + 1, 3 * MiB + 5])
@pytest.mark.parametrize("cuts", [[], [1000, 70_000]])
@pytest.mark.parametrize("is_sized", [True, False])
async def test_what_does_not_shrink_passes_unchanged(
    size: int, cuts: list[int], is_sized: bool
) -> None:
    data = noise(size)
    found = await written(Compress(), data, cuts, is_sized=is_sized)
    assert not found.is_applied
    assert found.stored == data
    assert found.context.stored_size == (size if is_sized else None)


async def test_noise_through_a_store_is_recorded_as_plain(store: Trove) -> None:
    for size in (2000, 2 * MiB):
        info = await store.put(None, "k", noise(size))
        assert info.encodings == ()
        assert info.stored_size == size
        assert await stored_bytes(store, "k") == noise(size)
        assert await store.get_bytes(None, "k") == noise(size)
        async with store.get(None, "k", raw=True) as reader:
            assert reader.info.metadata["trovefmt"] == "1"


async def test_the_first_frame_decides_for_the_whole() -> None:
    layer = Compress(frame_size=10_000)
    shrinks_late = noise(10_000) + bytes(100_000)
    assert not (await written(layer, shrinks_late)).is_applied
    shrinks_first = bytes(10_000) + noise(20_000)
    assert (await written(layer, shrinks_first)).is_applied


async def test_a_whole_object_is_only_compressed_when_it_ends_smaller() -> None:
    data = text(20) + noise(1004)  # the frame shrinks a little; the frames around it do not
    found = await written(Compress(min_saving=0.001), data)
    assert not found.is_applied
    for size in range(1024, 1400, 8):
        mixed = text(size // 5) + noise(size - size // 5)
        found = await written(Compress(), mixed)
        assert len(found.stored) <= len(mixed)
        assert found.is_applied is (len(found.stored) <= 0.97 * size)


async def test_everything_can_be_compressed() -> None:
    for data in (b"", b"x", noise(5000)):
        assert (await written(Compress(min_size=0, min_saving=None), data)).is_applied


async def test_two_of_them_compress_once() -> None:
    async with trove.open("mem://", middleware=[every(), every(level=9)]) as store:
        await store.create_bucket("box")
        info = await store.put("box", "k", text(10_000))
        assert info.encodings == ("zstd",)
        assert await store.get_bytes("box", "k") == text(10_000)


async def test_a_scope_chooses_on_writes_and_the_record_on_reads() -> None:
    scoped = Registration(Compress(), keys("logs/*"))
    async with trove.open("mem://", middleware=[scoped]) as store:
        await store.create_bucket("box")
        assert (await store.put("box", "logs/a", text(5000))).encodings == ("zstd",)
        assert (await store.put("box", "other", text(5000))).encodings == ()
        await store.move("box", "logs/a", "box", "moved")
        assert await store.get_bytes("box", "moved") == text(5000)


async def test_levels_trade_size_for_time() -> None:
    data = text(200_000)
    sizes = [len((await written(Compress(level=level), data)).stored) for level in (-7, 3, 19)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(
    "options",
    [
        {"level": 23},
        {"level": -8},
        {"frame_size": 0},
        {"frame_size": -1},
        {"frame_size": 64 * MiB},
        {"frame_size": 2 * MiB, "max_frame_size": MiB},
        {"max_frame_size": 1 << 31},
        {"min_size": -1},
        {"growth_after": -1},
        {"max_table_size": 0},
        {"min_saving": 1.5},
        {"max_ratio": 0.0},
        {"max_logical_size": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidConfigError):
        Compress(**options)  # type: ignore[arg-type]


def test_one_string_is_no_list_of_extensions() -> None:
    with pytest.raises(TypeError):
        Compress(skip_extensions="jpg")
    with pytest.raises(TypeError):
        Compress(skip_content_types="image/png")


async def test_a_writer_never_makes_what_its_own_limits_refuse() -> None:
    layer = every(frame_size=1, growth_after=0, max_table_size=1024)
    with pytest.raises(trove.FormatLimitError):
        await written(layer, text(400))
