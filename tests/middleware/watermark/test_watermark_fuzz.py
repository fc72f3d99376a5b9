"""Damaged and hostile files: never another error, never much work, never a broken document."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pikepdf
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.middleware.watermark.looking import look
from tests.middleware.watermark.samples import (
    PDF_KINDS,
    classic,
    hybrid,
    image,
    jpeg,
    pdf,
    png,
    predicted,
    updated,
)
from trove_async.errors import InvalidInputError
from trove_async.middleware.watermark import jpeg as jpegs
from trove_async.middleware.watermark import pdf as pdfs
from trove_async.middleware.watermark import png as pngs
from trove_async.middleware.watermark.spans import MOST_BYTES, MOST_READS, Locate, Unfit

DOCUMENTS = [
    *(pdf(kind) for kind in PDF_KINDS),
    *(updated(kind, times=2) for kind in PDF_KINDS),
    hybrid(),
    hybrid(is_hidden=False),
    predicted(b"\2"),
    classic(b"<< /Size 5 /Root 1 0 R /Info << /Title (inside) >> /ID [<00> (x)] >>"),
]
IMAGES = [jpeg(), jpeg(exif=9_000, xmp=70, comment=b"old"), jpeg(icc=70_000)]
LOCATES: dict[str, tuple[Locate, list[bytes]]] = {
    "png": (pngs.locate, [png()]),
    "jpeg": (jpegs.locate, IMAGES),
    "pdf": (pdfs.locate, DOCUMENTS),
}
TOKENS = [
    *(b"<< >> [ ] ( ) < > / % \\ R obj endobj stream endstream xref trailer startxref".split()),
    *(b"%%EOF null /Size /Root /Info /Prev /XRefStm /Encrypt /W /Index /Filter /N /First".split()),
    *(b"\xff \xff\xd8 \xff\xe1\xff\xff \xff\xfe\x00\x00 IHDR".split()),
    b"0000000000 65535 f \n",
    b"1 0 R",
    b"\0",
    b"\r\n",
]
NUMBERS = [b"0", b"-1", b"1", b"2", b"5", b"65535", b"65536", b"2147483647", b"9" * 15, b"9" * 40]
_NUMBER = re.compile(rb"[0-9]+")


@st.composite
def damaged(draw: st.DrawFn, samples: list[bytes], most: int = 4) -> bytes:
    """A sample with up to ``most`` damages."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, most))):
        if not data:
            break
        # Both ends matter more than the middle.
        at = draw(
            st.one_of(
                st.integers(0, min(200, len(data) - 1)),
                st.integers(max(0, len(data) - 700), len(data) - 1),
                st.integers(0, len(data) - 1),
            )
        )
        match draw(st.sampled_from(["byte", "token", "number", "number", "cut", "drop", "twice"])):
            case "byte":
                data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
            case "token":
                data = data[:at] + draw(st.sampled_from(TOKENS)) + data[at:]
            case "number":
                if found := _NUMBER.search(data, at):
                    number = draw(st.one_of(st.sampled_from(NUMBERS), st.just(b"%d" % at)))
                    data = data[: found.start()] + number + data[found.end() :]
            case "cut":
                data = data[:at]
            case "drop":
                data = data[:at] + data[at + draw(st.integers(1, 50)) :]
            case "twice":
                data = data[:at] + data[max(0, at - draw(st.integers(1, 2_000))) :]
    return data


def _check(locate: Locate, data: bytes, text: str) -> bytes | None:
    """The marked body, or None where it passes untouched. Anything but Unfit and
    InvalidInputError is a failure."""
    try:
        seen = look(locate, data)
    except Unfit:
        return None
    assert seen.reads <= MOST_READS
    assert seen.length <= MOST_BYTES
    try:
        edit = seen.place.mark(text)
    except InvalidInputError:
        return None
    assert 0 < edit.offset <= len(data)
    assert edit.data
    return data[: edit.offset] + edit.data + data[edit.offset :]


def _parser(name: str) -> Callable[[st.DataObject], None]:
    locate, samples = LOCATES[name]

    def check(draws: st.DataObject) -> None:
        _check(locate, draws.draw(damaged(samples)), draws.draw(st.text(max_size=20)))

    return check


_quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_few = settings(max_examples=200, deadline=None, suppress_health_check=_quiet)
_many = settings(max_examples=10_000, deadline=None, suppress_health_check=_quiet)


@pytest.mark.parametrize("name", LOCATES)
@_few
@given(draws=st.data())
def test_damaged_files_raise_nothing_else(name: str, draws: st.DataObject) -> None:
    _parser(name)(draws)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", LOCATES)
@_many
@given(draws=st.data())
def test_many_damaged_files_raise_nothing_else(name: str, draws: st.DataObject) -> None:
    _parser(name)(draws)


@pytest.mark.parametrize("name", LOCATES)
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), head=st.integers(0, 60), text=st.text(max_size=5))
def test_random_bytes_behind_a_real_start_raise_nothing_else(
    name: str, data: bytes, head: int, text: str
) -> None:
    locate, samples = LOCATES[name]
    _check(locate, samples[0][:head] + data, text)


def _pages(data: bytes) -> int | None:
    """None: qpdf has something against it."""
    try:
        with pikepdf.open(io.BytesIO(data), attempt_recovery=False) as document:
            count = len(document.pages)
            return None if document.get_warnings() else count
    except Exception:  # a fuzzed file: whatever the library raises, it cannot read it
        return None


def _refers_to_nothing(data: bytes, after: bytes) -> bool:
    """A reference to an object that is not there: it may get the number of one that is new."""
    new = re.findall(rb"\n([0-9]+) [0-9]+ obj", after[len(data) :])
    rest = re.sub(rb"/Info\s+[0-9]+ [0-9]+ R", b"", data)
    return any(re.search(rb"\b%b [0-9]+ R" % number, rest) for number in new)


def _still_opens(data: bytes) -> None:
    after = _check(pdfs.locate, data, "mark")
    if after is None or _refers_to_nothing(data, after):
        return
    if (before := _pages(data)) is not None:
        event("compared")
        assert _pages(after) == before
        with pikepdf.open(io.BytesIO(after), attempt_recovery=False) as document:
            values = [str(value) for value in document.docinfo.values()]
        assert "mark" in values


@_few
@given(data=damaged(DOCUMENTS, 1))
def test_a_document_that_opens_still_opens_with_its_mark(data: bytes) -> None:
    _still_opens(data)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@_many
@given(data=damaged(DOCUMENTS, 2))
def test_many_documents_that_open_still_open_with_their_mark(data: bytes) -> None:
    _still_opens(data)


def _pixels(data: bytes) -> bytes | None:
    """None: Pillow has something against it, or it has grown too large to compare."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return opened.tobytes() if opened.size == image().size else None
    except Exception:  # a fuzzed file: whatever the library raises, it cannot read it
        return None


@pytest.mark.parametrize("name", ["png", "jpeg"])
@_few
@given(draws=st.data())
def test_an_image_that_opens_shows_the_same_with_its_mark(name: str, draws: st.DataObject) -> None:
    locate, samples = LOCATES[name]
    data = draws.draw(damaged(samples, 1))
    after = _check(locate, data, "mark")
    if after is not None and (before := _pixels(data)) is not None:
        event("compared")
        assert _pixels(after) == before
