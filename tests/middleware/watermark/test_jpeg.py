from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, JpegImagePlugin

from tests.middleware.watermark.looking import edit_of, look, marked, reason
from tests.middleware.watermark.samples import gif, jpeg
from trove_async.errors import InvalidInputError
from trove_async.middleware.watermark.jpeg import MOST, locate

SAMPLES = {
    "jfif": jpeg(),
    "exif": jpeg(exif=20),
    "large exif": jpeg(exif=60_000),
    "exif and xmp": jpeg(exif=9_000, xmp=30_000),
    "comment": jpeg(comment=b"old"),
    "colour profile": jpeg(exif=20, icc=100_000),
}


def _open(data: bytes) -> JpegImagePlugin.JpegImageFile:
    opened = Image.open(io.BytesIO(data))
    assert isinstance(opened, JpegImagePlugin.JpegImageFile)
    opened.load()
    return opened


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    """Marker and content of what stands before the scan."""
    found = []
    at = 2
    while data[at + 1] != 0xDA:
        mark, marker, size = struct.unpack_from(">BBH", data, at)
        assert mark == 0xFF
        found.append((marker, data[at + 4 : at + 2 + size]))
        at += 2 + size
    return found


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("text", ["hello", "two\nlines", "é 漢 😀"])
def test_pillow_reads_the_comment_and_the_same_image(name: str, text: str) -> None:
    source = SAMPLES[name]
    before, after = _open(source), _open(marked(locate, source, text))
    assert ("COM", text.encode()) in after.applist
    assert after.tobytes() == before.tobytes()
    assert after.getexif() == before.getexif()
    unmarked = {key: value for key, value in after.info.items() if key != "comment"}
    assert unmarked == {key: value for key, value in before.info.items() if key != "comment"}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_application_segments_that_come_first_stay_first(name: str) -> None:
    before = _segments(SAMPLES[name])
    after = _segments(marked(locate, SAMPLES[name], "mark"))
    at = after.index((0xFE, b"mark"))
    assert after[:at] + after[at + 1 :] == before
    assert {marker for marker, _ in after[:at]} <= {0xE0, 0xE1}
    assert after[at + 1][0] not in (0xE0, 0xE1)


def test_a_comment_before_is_kept_and_two_marks_are_two() -> None:
    twice = marked(locate, marked(locate, SAMPLES["comment"], "one"), "two")
    comments = [content for marker, content in _segments(twice) if marker == 0xFE]
    assert comments == [b"two", b"one", b"old"]


def test_the_longest_text_is_held_and_one_byte_more_is_an_error() -> None:
    text = "é" * (MOST // 2) + "x"
    opened = _open(marked(locate, jpeg(), text))
    assert opened.info["comment"] == text.encode()
    for long in ("x" * (MOST + 1), "é" * (MOST // 2) + "xx", "x" * 1_000_000):
        with pytest.raises(InvalidInputError, match=f"{MOST} bytes"):
            edit_of(locate, jpeg(), long)


def test_fill_bytes_before_a_marker_are_allowed() -> None:
    data = jpeg(exif=20)
    app1 = data.index(b"\xff\xe1")
    filled = data[:app1] + b"\xff" * 5 + data[app1:]
    after = marked(locate, filled, "mark")
    assert after.index(b"\xff\xfe") > after.index(b"\xff\xe1")
    assert _open(after).getexif() == _open(data).getexif()


def test_a_long_extended_xmp_is_not_walked_to_its_end() -> None:
    part = b"\xff\xe1" + struct.pack(">H", 65_535) + b"http://ns.adobe.com/xmp/extension/\0"
    part += bytes(65_535 + 2 - len(part))
    data = jpeg(exif=20)
    app1 = data.index(b"\xff\xe1")
    after_exif = app1 + 2 + int.from_bytes(data[app1 + 2 : app1 + 4], "big")
    long = data[:after_exif] + part * 40 + data[after_exif:]
    assert look(locate, long).reads <= 26
    opened = _open(marked(locate, long, "mark"))
    assert ("COM", b"mark") in opened.applist
    assert opened.getexif() == _open(data).getexif()


def test_few_reads_find_the_place() -> None:
    assert look(locate, SAMPLES["jfif"]).reads == 1
    assert look(locate, SAMPLES["exif and xmp"]).reads == 3


def test_an_image_cut_short_before_its_place_is_left_alone() -> None:
    data = SAMPLES["exif"]
    place = edit_of(locate, data, "x").offset
    for size in range(place + 4):
        assert reason(locate, data[:size]) is not None, size
    assert edit_of(locate, data[: place + 4], "x").offset == place


@pytest.mark.parametrize(
    "data",
    [
        b"",
        gif(),
        b"\xff\xd8\xff\xd9",  # an image of nothing
        b"\xff\xd8\xff\xd9" + bytes(100),
        b"\xff\xd8" + b"\xff" * 200,
        b"\xff\xd8\xff\xe0\x00\x01" + bytes(100),  # a length that does not count itself
        b"\xff\xd8\xff\xe0\x00\x10" + bytes(100),  # a segment, and then no marker
        b"\xff\xd8\xff\x00" + bytes(100),
        b"\n" + jpeg(),
    ],
)
def test_what_is_no_jpeg_is_left_alone(data: bytes) -> None:
    assert reason(locate, data) is not None
