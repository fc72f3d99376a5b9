"""Images and documents as other tools write them, and PDFs that no tool here writes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from functools import cache

import pikepdf
import pypdf
from PIL import Image

__all__ = [
    "PDF_KINDS",
    "TITLE",
    "classic",
    "gif",
    "hybrid",
    "image",
    "jpeg",
    "pdf",
    "png",
    "predicted",
    "updated",
]

TITLE = "A (title) \\ with é and 漢"
PDF_KINDS = ("table", "stream", "linearized table", "linearized stream")


@cache
def image(size: tuple[int, int] = (64, 48)) -> Image.Image:
    width, height = size
    data = bytes((x * y + x) % 256 for y in range(height) for x in range(width * 3))
    return Image.frombytes("RGB", size, data)


def _saved(format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image().save(out, format, **options)
    return out.getvalue()


@cache
def png() -> bytes:
    return _saved("PNG")


@cache
def gif() -> bytes:
    return _saved("GIF")


@cache
def jpeg(*, exif: int = 0, xmp: int = 0, comment: bytes = b"", icc: int = 0) -> bytes:
    """With an Exif block of about that many bytes, and so on; 0: without."""
    options: dict[str, object] = {}
    if exif:
        block = Image.Exif()
        block[0x010E] = "d" * exif  # ImageDescription
        options["exif"] = block
    if xmp:
        options["xmp"] = b"<x:xmpmeta>" + b" " * xmp + b"</x:xmpmeta>"
    if comment:
        options["comment"] = comment
    if icc:
        options["icc_profile"] = b"i" * icc
    return _saved("JPEG", **options)


@cache
def pdf(kind: str = "table", *, pages: int = 3, info: bool = True, password: str = "") -> bytes:
    document = pikepdf.new()
    for number in range(pages):
        document.add_blank_page(page_size=(200 + number % 50, 300))
    if info:
        document.docinfo["/Title"] = TITLE
    mode = pikepdf.ObjectStreamMode
    out = io.BytesIO()
    document.save(
        out,
        static_id=True,
        linearize=kind.startswith("linearized"),
        object_stream_mode=mode.generate if kind.endswith("stream") else mode.disable,
        encryption=pikepdf.Encryption(owner=password, user=password) if password else None,
    )
    return out.getvalue()


@cache
def updated(kind: str = "table", *, times: int = 1) -> bytes:
    """Saved again by another tool, each time as an update behind the last bytes."""
    data = pdf(kind)
    for number in range(times):
        writer = pypdf.PdfWriter(io.BytesIO(data), incremental=True)
        writer.add_metadata({"/Subject": f"update {number}"})
        out = io.BytesIO()
        writer.write(out)
        data = out.getvalue()
    return data


_OBJECTS: dict[int, bytes] = {
    1: b"<< /Type /Catalog /Pages 2 0 R >>",
    2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 300] /Resources << >> >>",
    4: b"<< /Title (by hand) >>",
}


class _Written:
    """A document under construction, and where its objects begin."""

    def __init__(self, objects: Mapping[int, bytes]) -> None:
        self.data = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"
        self.offsets: dict[int, int] = {}
        for number, body in objects.items():
            self.add(number, body)

    def add(self, number: int, body: bytes) -> None:
        self.offsets[number] = len(self.data)
        self.data += b"%d 0 obj\n%b\nendobj\n" % (number, body)

    def stream(self, number: int, entries: bytes, body: bytes) -> None:
        head = b"<< %b /Length %d >>\nstream\n" % (entries, len(body))
        self.add(number, head + body + b"\nendstream")

    def table(self, size: int, trailer: bytes) -> bytes:
        """All of it with a table, where what has no offset is free."""
        at = len(self.data)
        lines = [b"0000000000 65535 f \n"] + [
            b"%010d 00000 n \n" % self.offsets[number]
            if number in self.offsets
            else b"0000000000 00000 f \n"
            for number in range(1, size)
        ]
        head = b"xref\n0 %d\n%btrailer\n" % (size, b"".join(lines))
        end = b"\nstartxref\n%d\n%%%%EOF\n" % at
        return self.data + head + trailer + end


def classic(trailer: bytes, objects: Mapping[int, bytes] = _OBJECTS, *, size: int = 5) -> bytes:
    return _Written(objects).table(size, trailer)


def _rows(entries: list[tuple[int, int, int]]) -> bytes:
    return b"".join(struct.pack(">BIB", *entry) for entry in entries)


def hybrid(*, is_hidden: bool = True) -> bytes:
    """A table for old readers and beside it a stream, which alone knows the information."""
    written = _Written({number: body for number, body in _OBJECTS.items() if number != 4})
    inner = b"4 0 " + _OBJECTS[4]
    written.stream(5, b"/Type /ObjStm /N 1 /First 4", inner)
    place = len(written.data)
    rows = _rows([(2, 5, 0), (1, written.offsets[5], 0)])
    written.stream(6, b"/Type /XRef /W [1 4 1] /Index [4 2] /Size 7", rows)
    del written.offsets[5]
    size = 7 if is_hidden else 4
    return written.table(size, b"<< /Size 7 /Root 1 0 R /Info 4 0 R /XRefStm %d >>" % place)


def predicted(tags: bytes, *, size: int = 6) -> bytes:
    """A document of 6 objects whose cross-reference rows are predicted with these PNG filters
    in turn."""
    written = _Written(_OBJECTS)
    at = len(written.data)
    rows = [(0, 0, 255), *((1, written.offsets[number], 0) for number in range(1, 5)), (1, at, 0)]
    packed, above = b"", bytes(6)
    for number, row in enumerate(rows):
        plain = _rows([row])
        tag = tags[number % len(tags)]
        left = b"\0" + plain[:-1]
        base = {0: bytes(6), 1: left, 2: above}[tag]
        packed += bytes([tag]) + bytes(
            (value - guess) & 0xFF for value, guess in zip(plain, base, strict=True)
        )
        above = plain
    written.stream(
        5,
        b"/Type /XRef /W [1 4 1] /Index [0 6] /Size %d /Root 1 0 R /Info 4 0 R"
        b" /Filter [/FlateDecode] /DecodeParms << /Predictor 12 /Columns 6 >>" % size,
        zlib.compress(packed),
    )
    return written.data + b"startxref\n%d\n%%%%EOF\n" % at
