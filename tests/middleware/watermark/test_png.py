from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from tests.middleware.watermark.looking import edit_of, look, marked, reason
from tests.middleware.watermark.samples import gif, image, png
from trove_async.errors import InvalidInputError
from trove_async.middleware.watermark.png import MOST, locate


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and content of each chunk; every checksum is right."""
    found = []
    at = 8
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + size]
        (crc,) = struct.unpack_from(">I", data, at + 8 + size)
        assert crc == zlib.crc32(name + content), name
        found.append((name, content))
        at += 12 + size
    return found


@pytest.mark.parametrize("text", ["hello", "two\nlines\tand a tab", "é ÿ \xa0", "漢字 and 😀"])
def test_pillow_reads_the_text_and_the_same_pixels(text: str) -> None:
    opened = Image.open(io.BytesIO(marked(locate, png(), text)))
    opened.load()
    assert opened.info["Watermark"] == text
    assert opened.convert("RGB").tobytes() == image().tobytes()


@pytest.mark.parametrize(
    ("text", "name", "content"),
    [
        ("é", b"tEXt", b"Watermark\0\xe9"),
        ("\u20ac", b"iTXt", b"Watermark\0\0\0\0\0\xe2\x82\xac"),
        ("漢", b"iTXt", b"Watermark\0\0\0\0\0\xe6\xbc\xa2"),
    ],
)
def test_latin_1_is_a_text_chunk_and_all_else_an_international_one(
    text: str, name: bytes, content: bytes
) -> None:
    chunks = _chunks(marked(locate, png(), text))
    assert chunks[0][0] == b"IHDR"
    assert chunks[1] == (name, content)
    assert [chunks[0], *chunks[2:]] == _chunks(png())


def test_two_marks_are_two_chunks() -> None:
    twice = marked(locate, marked(locate, png(), "one"), "two")
    contents = [content for name, content in _chunks(twice) if name == b"tEXt"]
    assert contents == [b"Watermark\0two", b"Watermark\0one"]


def test_a_few_bytes_of_the_start_are_enough() -> None:
    seen = look(locate, png() + bytes(100_000))
    assert (seen.reads, seen.length) == (1, 4096)


def test_the_longest_text_is_held_and_one_byte_more_is_an_error() -> None:
    opened = Image.open(io.BytesIO(marked(locate, png(), "x" * MOST)))
    assert opened.info["Watermark"] == "x" * MOST
    with pytest.raises(InvalidInputError, match=f"{MOST} bytes"):
        edit_of(locate, png(), "x" * (MOST + 1))
    with pytest.raises(InvalidInputError, match=f"{MOST} bytes"):
        edit_of(locate, png(), "é" * (MOST // 2) + "x")


@pytest.mark.parametrize("size", range(41))
def test_an_image_cut_short_is_left_alone(size: int) -> None:
    assert reason(locate, png()[:size]) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        gif(),
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x04CgBI" + png()[8:],  # Apple's own kind
        png()[:20] + b"\xff" + png()[21:],  # its header does not match its checksum
        png()[:37] + b"\0\0\0\0" + png()[41:],  # no chunk follows
        b"\r\n" + png(),
    ],
)
def test_what_is_no_png_is_left_alone(data: bytes) -> None:
    assert reason(locate, data) is not None
