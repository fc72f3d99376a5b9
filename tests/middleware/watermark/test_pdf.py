from __future__ import annotations

import io
import re
import struct
import zlib

import pikepdf
import pypdf
import pytest

from tests.middleware.watermark.looking import edit_of, look, marked, reason
from tests.middleware.watermark.samples import (
    PDF_KINDS,
    TITLE,
    classic,
    hybrid,
    pdf,
    png,
    predicted,
    updated,
)
from trove_async.errors import InvalidInputError
from trove_async.middleware.watermark.pdf import MOST, locate

TEXTS = ["hello", "(a) \\ ((b\nc\t%>>", "é", "漢字 and 😀"]
ROOTED = b"<< /Size 5 /Root 1 0 R /Info 4 0 R >>"


def _information(data: bytes) -> dict[str, str]:
    """As two libraries read it, neither of which may have to repair anything."""
    with pikepdf.open(io.BytesIO(data), attempt_recovery=False) as document:
        assert document.check_pdf_syntax() == []
        assert document.get_warnings() == []
        theirs = {str(name): str(value) for name, value in document.docinfo.items()}
        pages = [[float(side) for side in page.MediaBox] for page in document.pages]
    reader = pypdf.PdfReader(io.BytesIO(data), strict=True)
    assert [[float(side) for side in page.mediabox] for page in reader.pages] == pages
    assert {name: str(value) for name, value in (reader.metadata or {}).items()} == theirs
    return theirs


def _pages(data: bytes) -> list[list[float]]:
    with pikepdf.open(io.BytesIO(data)) as document:
        return [[float(side) for side in page.MediaBox] for page in document.pages]


@pytest.mark.parametrize("kind", PDF_KINDS)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("info", [True, False], ids=["information", "none"])
def test_two_libraries_read_the_text_and_the_same_pages(kind: str, text: str, info: bool) -> None:
    source = pdf(kind, info=info)
    after = marked(locate, source, text)
    expected = {"/Watermark": text} | ({"/Title": TITLE} if info else {})
    assert _information(after) == expected
    assert _pages(after) == _pages(source)
    assert after.startswith(source)


def test_the_places_in_the_update_are_exact() -> None:
    source = classic(ROOTED)
    after = marked(locate, source, "x")
    at = int(re.findall(rb"startxref\n(\d+)\n", after)[-1])
    lines = re.match(rb"xref\n0 1\n0{10} 65535 f \n4 1\n(\d{10}) 00000 n \ntrailer\n", after[at:])
    assert lines is not None
    assert after[int(lines[1]) :].startswith(b"4 0 obj\n<< /Title (by hand) ")
    after = marked(locate, predicted(b"\2"), "x")
    at = int(re.findall(rb"startxref\n(\d+)\n", after)[-1])
    assert after[at:].startswith(b"6 0 obj\n")
    rows = after[at:].split(b"stream\n")[1][:22]
    kind, place, _, other, itself, _ = struct.unpack(">BQHBQH", rows)
    assert (kind, other, itself) == (1, 1, at)
    assert after[place:].startswith(b"4 0 obj\n")


@pytest.mark.parametrize("kind", PDF_KINDS)
@pytest.mark.parametrize("info", [True, False], ids=["information", "none"])
def test_a_large_document_is_not_read_whole(kind: str, info: bool) -> None:
    source = pdf(kind, pages=1_500, info=info)
    seen = look(locate, source)
    assert seen.reads <= 7
    assert seen.length < min(len(source) / 2, 100_000)
    assert _information(marked(locate, source, "x"))["/Watermark"] == "x"


@pytest.mark.parametrize("kind", PDF_KINDS)
def test_documents_that_were_updated_before(kind: str) -> None:
    found = _information(marked(locate, updated(kind), "mark"))
    assert found == {"/Watermark": "mark", "/Subject": "update 0", "/Title": TITLE}


@pytest.mark.parametrize("kind", PDF_KINDS)
def test_documents_that_were_updated_often(kind: str) -> None:
    # pypdf numbers each of its cross-reference streams alike, and then cannot read them itself.
    after = marked(locate, updated(kind, times=3), "mark")
    with pikepdf.open(io.BytesIO(after), attempt_recovery=False) as document:
        found = {str(name): str(value) for name, value in document.docinfo.items()}
    assert found == {"/Watermark": "mark", "/Subject": "update 2", "/Title": TITLE}
    assert _pages(after) == _pages(pdf(kind))


@pytest.mark.parametrize("kind", PDF_KINDS)
def test_three_of_the_longest_marks_are_held(kind: str) -> None:
    texts = ["é" * (MOST // 2), "(" * MOST, "x\\" * (MOST // 2)]
    data = pdf(kind)
    for text in texts:
        data = marked(locate, data, text)
    found = _information(data)
    assert [found[name] for name in ("/Watermark", "/Watermark2", "/Watermark3")] == texts


@pytest.mark.parametrize("kind", PDF_KINDS)
@pytest.mark.parametrize("info", [True, False], ids=["information", "none"])
def test_a_mark_on_a_marked_document_hides_no_other(kind: str, info: bool) -> None:
    data = pdf(kind, info=info)
    for text in ("one", "two", "three"):
        data = marked(locate, data, text)
    found = _information(data)
    found.pop("/Title", None)
    assert found == {"/Watermark": "one", "/Watermark2": "two", "/Watermark3": "three"}


@pytest.mark.parametrize("hidden", [True, False], ids=["called free", "not in the table"])
def test_a_hybrid_file_whose_information_only_the_stream_knows(hidden: bool) -> None:
    after = marked(locate, hybrid(is_hidden=hidden), "mark")
    assert b"XRefStm" not in after[len(hybrid(is_hidden=hidden)) :]
    with pikepdf.open(io.BytesIO(after), attempt_recovery=False) as document:
        assert str(document.docinfo["/Watermark"]) == "mark"
        assert str(document.docinfo["/Title"]) == "by hand"
        assert len(document.pages) == 1


@pytest.mark.parametrize("tags", [b"\2", b"\0", b"\0\2", b"\2\0\2\2"])
def test_rows_with_the_usual_predictors(tags: bytes) -> None:
    assert _information(marked(locate, predicted(tags), "mark")) == {
        "/Title": "by hand",
        "/Watermark": "mark",
    }


def test_rows_with_another_predictor_are_left_alone() -> None:
    assert reason(locate, predicted(b"\1")) == "a PDF with an unusual predictor"


def test_the_rest_of_the_trailer_is_kept_as_it_is() -> None:
    trailer = (
        b"<< /Size 5 /Root 1 0 R /Info 4 0 R\n"
        b"/ID [<00ff> (a\\)b)] % a comment\n /Odd#20Name << /A [1 2 (x)] >> /Other true >>"
    )
    edit = edit_of(locate, classic(trailer), "x")
    for kept in (b"/ID [<00ff> (a\\)b)]", b"/Odd#20Name << /A [1 2 (x)] >>", b"/Root 1 0 R"):
        assert kept in edit.data
    assert edit.data.count(b"/Size") == edit.data.count(b"/Info") == 1
    assert _information(marked(locate, classic(trailer), "x"))["/Watermark"] == "x"


@pytest.mark.parametrize(
    "trailer",
    [
        b"<< /Size 5 /Root 1 0 R >>",
        b"<< /Size 5 /Root 1 0 R /Info null >>",
        b"<< /Size 5 /Root 1 0 R /Info 7 0 R >>",  # no such object
    ],
)
def test_without_information_there_is_some_afterwards(trailer: bytes) -> None:
    after = marked(locate, classic(trailer), "x")
    assert _information(after) == {"/Watermark": "x"}
    assert b"\n5 0 obj\n" in after


@pytest.mark.parametrize("odd", [b"/Info 0 0 R", b"/Info 7 0 R /Prev 0", b"/Info 4 0 R /Prev 0"])
def test_what_readers_forgive_in_a_trailer(odd: bytes) -> None:
    after = marked(locate, classic(b"<< /Size 5 /Root 1 0 R %b >>" % odd), "x")
    reader = pypdf.PdfReader(io.BytesIO(after))
    assert reader.metadata is not None
    assert str(reader.metadata["/Watermark"]) == "x"
    assert len(reader.pages) == len(_pages(after)) == 1


def test_information_in_the_trailer_itself_is_kept() -> None:
    trailer = b"<< /Size 5 /Root 1 0 R /Info << /Title (inside) >> >>"
    after = marked(locate, classic(trailer), "x")
    assert _information(after) == {"/Title": "inside", "/Watermark": "x"}


def test_a_size_that_is_too_small_costs_no_object_its_number() -> None:
    after = marked(locate, classic(b"<< /Size 2 /Root 1 0 R >>"), "x")
    assert b"\n5 0 obj\n" in after[len(classic(b"<< /Size 2 /Root 1 0 R >>")) - 1 :]
    assert len(_pages(after)) == 1


@pytest.mark.parametrize(
    "source",
    [classic(b"<< /Size 6789 /Root 1 0 R >>"), predicted(b"\2", size=6789)],
    ids=["table", "stream"],
)
def test_a_size_that_is_much_too_large_is_not_counted_from(source: bytes) -> None:
    after = marked(locate, source, "x")
    assert b"\n6789 0 obj" not in after
    with pikepdf.open(io.BytesIO(after), attempt_recovery=False) as document:
        assert str(document.docinfo["/Watermark"]) == "x"


def test_a_catalog_named_as_information_stays_a_catalog() -> None:
    after = marked(locate, classic(b"<< /Size 5 /Root 1 0 R /Info 1 0 R >>"), "x")
    assert len(_pages(after)) == 1


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n" + b"\0" * 1_000, b"\n<html>" * 100])
def test_what_stands_behind_the_end_does_not_matter(end: bytes) -> None:
    source = pdf().rstrip(b"\n") + end
    after = marked(locate, source, "x")
    assert pypdf.PdfReader(io.BytesIO(after)).metadata == {"/Title": TITLE, "/Watermark": "x"}
    assert _information(after)["/Watermark"] == "x"


@pytest.mark.parametrize("kind", PDF_KINDS)
def test_encrypted_documents_are_left_alone(kind: str) -> None:
    assert reason(locate, pdf(kind, password="secret")) == "an encrypted PDF"


def test_the_longest_text_is_held_and_one_byte_more_is_an_error() -> None:
    text = "é" * (MOST // 2)
    assert _information(marked(locate, pdf(), text))["/Watermark"] == text
    with pytest.raises(InvalidInputError, match=f"{MOST} bytes"):
        edit_of(locate, pdf(), text + "x")


@pytest.mark.parametrize("kind", PDF_KINDS)
def test_a_document_cut_short_is_left_alone(kind: str) -> None:
    data = pdf(kind)
    end = len(data.rstrip(b"\n"))
    for size in range(end):
        try:
            after = marked(locate, data[:size], "x")
        except Exception as exc:
            assert type(exc).__name__ == "Unfit", size
        else:  # a linearized one ends twice
            assert data[:size].rstrip(b"\n").endswith(b"%%EOF"), size
            assert after.startswith(data[:size])


# -- what cannot be understood, or not in time ---------------------------------------------


def _table(data: bytes) -> int:
    return int(re.findall(rb"startxref\n(\d+)", data)[-1])


def _many_updates(count: int) -> bytes:
    data = classic(b"<< /Size 5 /Root 1 0 R /Info 4 0 R >>")
    for _ in range(count):
        previous, at = _table(data), len(data)
        data += b"xref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 5 /Root 1 0 R /Info 4 0 R"
        data += b" /Prev %d >>\n%b\nstartxref\n%d\n%%%%EOF\n" % (previous, b"%" * 80_000, at)
    return data


def _stream_of(body: bytes, entries: bytes = b"") -> bytes:
    head = b"%PDF-1.5\n" + b"%" * 70_000 + b"\n"
    stream = (
        b"9 0 obj\n<< /Type /XRef /W [1 4 1] /Size 2000000 /Root 1 0 R /Info 1999999 0 R %b"
        b" /Length %d >>\nstream\n" % (entries, len(body))
    )
    end = b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % len(head)
    return head + stream + body + end


HOSTILE = {
    "no document": png(),
    "nothing": b"",
    "junk before the header": b"\n" + pdf(),
    "no version": b"%PDF-x.y" + pdf()[8:],
    "no end": pdf().replace(b"%%EOF", b"%%EOR"),
    "junk behind the end": pdf() + b"\n" * 3_000,
    "startxref 0": re.sub(rb"startxref\n\d+", b"startxref\n0", pdf()),
    "startxref at itself": classic(ROOTED).replace(
        b"startxref\n%d" % _table(classic(ROOTED)),
        b"startxref\n%d" % classic(ROOTED).index(b"startxref"),
    ),
    "startxref beyond": re.sub(rb"startxref\n\d+", b"startxref\n999999999999999", pdf()),
    "startxref of many digits": re.sub(rb"startxref\n\d+", b"startxref\n" + b"9" * 500, pdf()),
    "a circle": classic(
        b"<< /Size 5 /Root 1 0 R /Info 9 0 R /Prev %d >>" % _table(classic(ROOTED))
    ),
    "a negative place": classic(b"<< /Size 5 /Root 1 0 R /Prev -1 >>"),
    "a place of many digits": classic(b"<< /Size 5 /Root 1 0 R /Prev %b >>" % (b"9" * 5_000)),
    "a hidden section that is a table": classic(
        b"<< /Size 5 /Root 1 0 R /XRefStm %d >>" % _table(classic(ROOTED))
    ),
    "an endless table": classic(ROOTED).replace(b"xref\n0 5", b"xref\n0 9999999999"),
    "a table in too many pieces": classic(ROOTED).replace(
        b"trailer", b"0 0\n" * 5_000 + b"trailer"
    ),
    "a table with damaged lines": classic(ROOTED).replace(b" n \n", b" n\n"),
    "no root": classic(b"<< /Size 5 /Info 4 0 R >>"),
    "a root in the trailer": classic(b"<< /Size 5 /Root << /Type /Catalog >> >>"),
    "no size": classic(b"<< /Root 1 0 R >>"),
    "a huge size": classic(b"<< /Size 99999999999 /Root 1 0 R >>"),
    "a trailer without an end": classic(b"<< /Size 5 /Root 1 0 R"),
    "a trailer of 2 MB": classic(b"<< /Size 5 /Root 1 0 R /A (" + b"x" * 2_000_000 + b") >>"),
    "a trailer that says it twice": classic(b"<< /Size 5 /Size 5 /Root 1 0 R >>"),
    "a trailer nested deeply": classic(b"<< /A %b /Root 1 0 R /Size 5 >>" % (b"[" * 20_000)),
    "a trailer of open strings": classic(b"<< /A %b /Root 1 0 R /Size 5 >>" % (b"(" * 90_000)),
    "a trailer of closed strings": classic(
        b"<< /A %b%b /Root 1 0 R /Size 5 >>" % (b"(" * 30_000, b")" * 30_000)
    ),
    "a trailer of many values": classic(b"<< /A [%b] /Root 1 0 R /Size 5 >>" % (b"1 () " * 30_000)),
    "a trailer that ends in a comment": classic(b"<< /Size 5 /Root 1 0 R %" + b"x" * 70_000),
    "brackets that do not match": classic(b"<< /Size 5 /Root 1 0 R /A [>>] >>"),
    "information elsewhere": classic(b"<< /Size 5 /Root 1 0 R /Info 4 1 R >>"),
    "information that is an array": classic(
        ROOTED, {1: b"<< >>", 2: b"<< >>", 3: b"<< >>", 4: b"[1]"}
    ),
    "information that is a stream": classic(
        ROOTED,
        {1: b"<<>>", 2: b"<<>>", 3: b"<<>>", 4: b"<< /Length 1 >>\nstream\nx\nendstream"},
    ),
    "information at another's place": classic(ROOTED).replace(b"4 0 obj", b"3 0 obj"),
    "information without an end": classic(ROOTED).replace(b"(by hand) >>\nendobj", b"(by hand) >>"),
    "an object stream that holds another": hybrid().replace(b"\n4 0 <<", b"\n9 0 <<"),
    "too many updates": _many_updates(70),
    "rows that inflate too far": _stream_of(
        zlib.compress(bytes(12_000_000), 9), b"/Filter /FlateDecode"
    ),
    "rows that end too soon": _stream_of(zlib.compress(bytes(60)), b"/Filter /FlateDecode"),
    "rows that are damaged": _stream_of(b"\x78\x9c" + b"\xff" * 100, b"/Filter /FlateDecode"),
    "rows with another filter": _stream_of(b"", b"/Filter /LZWDecode"),
    "rows with two filters": _stream_of(b"", b"/Filter [/FlateDecode /FlateDecode]"),
    "rows without bytes": _stream_of(b"").replace(b"[1 4 1]", b"[0 0 0]"),
    "rows of too many bytes": _stream_of(b"").replace(b"[1 4 1]", b"[1 999999999999 1]"),
    "rows of a strange range": _stream_of(b"", b"/Index [0 5 7]"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_understood_is_left_alone(name: str) -> None:
    assert reason(locate, HOSTILE[name]) is not None


def test_a_circle_is_seen_as_one() -> None:
    found = reason(locate, HOSTILE["a circle"])
    assert found == "a PDF whose cross-reference sections run in a circle"


def test_a_document_of_fifty_updates_is_still_read() -> None:
    data = _many_updates(50)
    seen = look(locate, data)
    assert seen.reads <= 64
    assert seen.length <= 4 * 1024 * 1024
    found = pypdf.PdfReader(io.BytesIO(marked(locate, data, "x"))).metadata
    assert found == {"/Title": "by hand", "/Watermark": "x"}
