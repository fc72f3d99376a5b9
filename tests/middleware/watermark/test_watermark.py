"""Watermarks as the readers of a store see them."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import trove_async as trove
from tests.middleware.watermark.samples import gif, jpeg, pdf, png
from tests.transforms import Flip
from trove_async import Chunks, Context, Middleware
from trove_async.errors import InvalidConfigError, InvalidInputError
from trove_async.middleware import (
    Compress,
    Encrypt,
    Keyring,
    Presenter,
    Watermark,
    everything,
    keys,
)

BODIES = {
    "a.png": png(),
    "a.jpg": jpeg(exif=9_000),
    "a.pdf": pdf("linearized stream"),
    "large.pdf": pdf(pages=400),
}
STACKS: dict[str, Callable[[], list[Middleware]]] = {
    "plain": list,
    "compressed": lambda: [Compress(frame_size=4096)],
    "encrypted": lambda: [Encrypt(Keyring.generate(), frame_size=4096)],
    "both": lambda: [Compress(frame_size=4096), Encrypt(Keyring.generate(), frame_size=4096)],
    "cannot seek": lambda: [Flip()],
}


async def _store(*layers: Middleware) -> trove.Trove:
    store = await trove.open("mem://", default_bucket="docs")
    await store.create_bucket("docs")
    for layer in layers:
        store.use(layer)
    return store


async def _read(store: trove.Trove, key: str, **options: Any) -> bytes:
    async with store.get(None, key, **options) as reader:
        return await reader.read()


def _text_of(key: str, data: bytes) -> str:
    if key.endswith(".png"):
        return str(Image.open(io.BytesIO(data)).info["Watermark"])
    if key.endswith(".jpg"):
        comment = Image.open(io.BytesIO(data)).info["comment"]
        assert isinstance(comment, bytes)
        return comment.decode()
    return str(_information(data)["/Watermark"])


def _information(data: bytes) -> Mapping[str, Any]:
    return pypdf.PdfReader(io.BytesIO(data), strict=True).metadata or {}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("key", BODIES)
async def test_readers_see_the_mark_and_the_size_with_it(stack: str, key: str) -> None:
    async with await _store(Watermark("for Ann"), *STACKS[stack]()) as store:
        put = await store.put(None, key, BODIES[key])
        async with store.get(None, key) as reader:
            data = await reader.read()
            assert reader.info.size == reader.length == len(data) > len(BODIES[key])
        assert _text_of(key, data) == "for Ann"
        # The object is what it was.
        assert put.size == (await store.head(None, key)).size == len(BODIES[key])
        listed = [entry async for entry in store.list(None)]
        assert [entry.size for entry in listed if isinstance(entry, trove.ObjectInfo)] == [
            len(BODIES[key])
        ]
        store.remove("watermark")
        assert await _read(store, key) == BODIES[key]


def _edges(size: int, plain: int) -> list[tuple[int, int]]:
    near = {0, 1, 2, 20, 33, 34, 60, plain - 1, plain, plain + 1, size - 1, size}
    return [(a, b) for a in sorted(near) for b in sorted(near) if a < b]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("key", BODIES)
async def test_ranges_are_slices_of_what_a_full_read_gives(stack: str, key: str) -> None:
    async with await _store(Watermark("for Ann"), *STACKS[stack]()) as store:
        await store.put(None, key, BODIES[key])
        full = await _read(store, key)
        for start, stop in _edges(len(full), len(BODIES[key])):
            async with store.get(None, key, range=slice(start, stop)) as reader:
                assert await reader.read() == full[start:stop], (start, stop)
                assert (reader.info.size, reader.length) == (len(full), stop - start)
        assert await _read(store, key, range=slice(-7, None)) == full[-7:]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("key", BODIES)
def test_many_ranges_at_once_are_slices_too(key: str, data: st.DataObject) -> None:
    async def check() -> None:
        async with await _store(Watermark("é" * 300), *STACKS["both"]()) as store:
            await store.put(None, key, BODIES[key])
            full = await _read(store, key)
            bounds = st.tuples(st.integers(0, len(full)), st.integers(0, len(full)))
            wanted = [slice(min(pair), max(pair)) for pair in data.draw(st.lists(bounds))]
            wanted = [part for part in wanted if part.start < part.stop]
            found = await store.get_ranges(None, key, wanted)
            assert [bytes(part) for part in found] == [full[part] for part in wanted]

    asyncio.run(check())


async def test_what_is_stored_copied_and_read_raw_has_no_mark() -> None:
    async with await _store(Watermark("for Ann")) as store:
        await store.put(None, "a.png", png())
        assert await _read(store, "a.png", raw=True) == png()
        await store.copy(None, "a.png", None, "b.png")
        await store.copy(None, "a.png", None, "c.png", content_type="image/png")
        await store.move(None, "b.png", None, "d.png")
        store.remove("watermark")
        for key in ("a.png", "c.png", "d.png"):
            assert await _read(store, key) == png()


async def test_an_object_written_by_somebody_else_is_marked_too() -> None:
    async with await _store(Watermark("for Ann")) as store:
        await store.driver.put(
            "docs", "a.png", _chunks(png()), trove.PutOptions(content_type="image/png")
        )
        data = await _read(store, "a.png")
        assert _text_of("a.png", data) == "for Ann"
        assert await _read(store, "a.png", range=slice(30, 90)) == data[30:90]


async def _chunks(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part


# -- what passes untouched -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/gif", gif()),
        ("image/gif", png()),
        ("text/plain", b"text"),
        ("application/octet-stream", png()),
        ("image/png", jpeg()),
        ("image/jpeg", png()),
        ("application/pdf", png()),
        ("image/png", b""),
        ("image/jpeg", b"\xff\xd8"),
        ("application/pdf", b"%PDF-1.4"),
        ("image/png", png()[:40]),
        ("application/pdf", pdf(password="secret")),
    ],
)
async def test_other_types_and_bodies_that_are_not_their_type(
    content_type: str, body: bytes
) -> None:
    def never(context: Context) -> str:
        raise AssertionError("asked for a text that is not used")

    async with await _store(Watermark(never)) as store:
        await store.put(None, "x", body, content_type=content_type)
        async with store.get(None, "x") as reader:
            assert (reader.info.size, await reader.read()) == (len(body), body)
        if body:
            assert await _read(store, "x", range=slice(1, 9)) == body[1:9]


@pytest.mark.parametrize("content_type", ["IMAGE/PNG", "image/png; name=x", "image/PNG ;a=b"])
async def test_a_type_counts_without_its_parameters_and_case(content_type: str) -> None:
    async with await _store(Watermark("x")) as store:
        await store.put(None, "x", png(), content_type=content_type)
        assert await _read(store, "x") != png()


async def test_only_the_types_asked_for_are_marked() -> None:
    async with await _store(Watermark("x", types=["image/jpeg"])) as store:
        for key, body in BODIES.items():
            await store.put(None, key, body)
            assert (await _read(store, key) == body) == (key != "a.jpg")


async def test_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trove_async.watermark")
    async with await _store(Watermark("x")) as store:
        await store.put(None, "a.pdf", png())
        await _read(store, "a.pdf")
    assert caplog.messages == ["'a.pdf' in 'docs' gets no watermark: not a PDF document"]


# -- the text --------------------------------------------------------------------------------


async def test_a_text_for_each_request() -> None:
    reader_of: ContextVar[str] = ContextVar("reader_of")

    def text(context: Context) -> str:
        return f"{reader_of.get()} {context.bucket}/{context.key} {context.metadata['no']}"

    async with await _store(Watermark(text)) as store:
        for key, body in BODIES.items():
            await store.put(None, key, body, metadata={"no": "7"})

        async def read(name: str, key: str) -> str:
            reader_of.set(name)
            return _text_of(key, await _read(store, key))

        wanted = [(name, key) for name in ("Ann", "Bob") for key in BODIES]
        found = await asyncio.gather(*(asyncio.create_task(read(*pair)) for pair in wanted))
        assert found == [f"{name} docs/{key} 7" for name, key in wanted]


async def test_a_text_may_take_its_time() -> None:
    async def text(context: Context) -> str:
        await asyncio.sleep(0)
        return "late"

    async with await _store(Watermark(text)) as store:
        await store.put(None, "a.png", png())
        assert _text_of("a.png", await _read(store, "a.png")) == "late"


async def test_an_empty_text_is_no_watermark() -> None:
    async with await _store(Watermark(lambda context: "")) as store:
        await store.put(None, "a.png", png())
        assert await _read(store, "a.png") == png()


@pytest.mark.parametrize("key", ["a.png", "a.jpg", "a.pdf"])
@pytest.mark.parametrize("text", ["x" * 70_000, "é" * 33_000, "a\0b", "a\x7fb", "a\rb", "\ud800"])
async def test_a_text_that_cannot_be_held_is_an_error_before_the_first_byte(
    key: str, text: str
) -> None:
    async with await _store(Watermark(text)) as store:
        await store.put(None, key, BODIES[key])
        with pytest.raises(InvalidInputError) as caught:
            await store.get(None, key)
        assert text not in str(caught.value)
        with pytest.raises(InvalidInputError):
            await store.get(None, key, range=slice(0, 4))
        await store.head(None, key)


async def test_an_error_of_the_text_function_is_the_readers_error() -> None:
    def nobody(context: Context) -> str:
        raise LookupError("nobody")

    async with await _store(Watermark(nobody)) as store:
        await store.put(None, "a.png", png())
        with pytest.raises(LookupError, match="nobody"):
            await store.get(None, "a.png")


async def test_a_text_is_a_str() -> None:
    with pytest.raises(TypeError):
        Watermark(b"bytes")  # type: ignore[arg-type]
    async with await _store(Watermark(lambda context: b"x")) as store:  # type: ignore[arg-type,return-value]
        await store.put(None, "a.png", png())
        with pytest.raises(TypeError, match="not bytes"):
            await store.get(None, "a.png")


def test_types_that_cannot_be_marked_are_refused() -> None:
    for types in (["image/gif"], "image", ["image/*"]):
        with pytest.raises(InvalidConfigError, match="image/png"):
            Watermark("x", types=types)
    Watermark("x", types="image/png")


# -- more than one ---------------------------------------------------------------------------


async def test_two_watermarks_are_two_marks() -> None:
    async with await _store(Watermark("one"), Watermark("two")) as store:
        for key, body in BODIES.items():
            await store.put(None, key, body)
            data = await _read(store, key)
            assert len(data) > len(body)
            assert b"one" in data
            assert b"two" in data
            assert await _read(store, key, range=slice(20, len(data) - 3)) == data[20:-3]
            if key.endswith(".pdf"):
                found = _information(data)
                assert {found["/Watermark"], found["/Watermark2"]} == {"one", "two"}
            elif key.endswith(".jpg"):
                image = Image.open(io.BytesIO(data))
                comments = [part for name, part in image.applist if name == "COM"]  # type: ignore[attr-defined]
                assert sorted(comments) == [b"one", b"two"]
            else:
                Image.open(io.BytesIO(data)).load()


async def test_scopes_choose_the_mark() -> None:
    async with await _store() as store:
        store.use(Watermark("inside"), scope=keys("in/*"))
        store.use(Watermark("outside"), scope=everything() & ~keys("in/*"))
        for key in ("in/a.png", "out/a.png"):
            await store.put(None, key, png())
        assert _text_of("a.png", await _read(store, "in/a.png")) == "inside"
        assert _text_of("a.png", await _read(store, "out/a.png")) == "outside"


# -- looking at a body -----------------------------------------------------------------------


LONG = pdf(pages=1_500)
"""A document that is looked at three times."""


class _Looked:
    """A body that counts what is opened and closed, and fails or waits at the read ``at``."""

    def __init__(self, data: bytes, at: int = -1, error: BaseException | None = None) -> None:
        self.size = len(data)
        self._data = data
        self._at = at
        self._error = error
        self.waiting = asyncio.Event()
        self.opened = self.closed = 0

    def read(self, start: int, stop: int) -> Chunks:
        self.opened += 1
        return _Read(self, self._read(start, stop, self.opened - 1))

    async def _read(self, start: int, stop: int, number: int) -> AsyncGenerator[bytes, None]:
        middle = (start + stop) // 2
        yield self._data[start:middle]
        if number == self._at:
            self.waiting.set()
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        yield self._data[middle:stop]


class _Read:
    """One read of a `_Looked` body, which counts its closing."""

    def __init__(self, body: _Looked, chunks: AsyncGenerator[bytes, None]) -> None:
        self._body = body
        self._chunks = chunks

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._chunks

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        self._body.closed += 1
        await self._chunks.aclose()


def _context(content_type: str = "application/pdf") -> Context:
    return Context("get", "docs", "a.pdf", content_type)


async def test_every_read_is_closed_when_the_place_is_found() -> None:
    body = _Looked(LONG)
    assert len(await Watermark("x").edits(body, _context())) == 1
    assert body.opened == body.closed == 3


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_read_that_fails_is_the_readers_error_and_closed(at: int) -> None:
    body = _Looked(LONG, at, OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        await Watermark("x").edits(body, _context())
    assert body.opened == body.closed == at + 1


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_cancelled_look_leaves_nothing_open(at: int) -> None:
    before = asyncio.all_tasks()
    body = _Looked(LONG, at)
    task = asyncio.create_task(_edits(body))
    await body.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body.opened == body.closed == at + 1
    assert asyncio.all_tasks() == before


async def _edits(body: _Looked) -> None:
    await Watermark("x").edits(body, _context())


async def test_a_type_that_is_not_marked_is_not_looked_at() -> None:
    body = _Looked(png())
    assert not await Watermark("x").edits(body, _context("image/gif"))
    assert body.opened == 0


async def test_a_reader_that_stops_early_closes_the_object() -> None:
    async with await _store(Watermark("x"), *STACKS["both"]()) as store:
        await store.put(None, "large.pdf", BODIES["large.pdf"])
        before = asyncio.all_tasks()
        async with store.get(None, "large.pdf") as reader:
            async for _ in reader:
                break
        assert asyncio.all_tasks() == before


def test_it_is_a_presenter() -> None:
    layer = Watermark("x")
    assert isinstance(layer, Presenter)
    assert (layer.name, layer.direction, layer.stage) == (
        "watermark",
        trove.Direction.READ,
        trove.Stage.PRESENT,
    )
