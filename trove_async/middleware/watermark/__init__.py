"""Marks PNG, JPEG and PDF for whoever reads them; what is stored stays as it is.

The text becomes metadata of the file: a PNG text chunk, a JPEG comment, an entry of the
PDF's document information. Nothing visible changes. The mark is made of insertions, found
by a few bounded reads, so bodies stream, sizes are known and ranges work.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from trove_async._chunks import collect
from trove_async.errors import InvalidConfigError
from trove_async.middleware.base import Context, Direction, Edit, RangeSource, Stage
from trove_async.middleware.watermark import jpeg, pdf, png
from trove_async.middleware.watermark.spans import Locate, Place, Unfit

__all__ = ["Watermark"]

_log = logging.getLogger("trove_async.watermark")

_FORMATS: dict[str, Locate] = {
    "image/png": png.locate,
    "image/jpeg": jpeg.locate,
    "application/pdf": pdf.locate,
}


class Watermark:
    """A presenter: reads show ``text`` in the metadata of images and documents.

    ``text`` is the same for all, or made for each read by a function (plain or async) of its
    `Context`, called in the reader's task; an empty text is no watermark. It may hold any
    Unicode but control characters (tab and line feed are allowed), in UTF-8 at most 65,533
    bytes for a JPEG and 65,536 for the others; else the read is an InvalidInputError, before
    its first byte.

    Marked is what has one of ``types`` as its content type and is that by its bytes. All else
    passes untouched: other types, bodies that are not what they say or are cut short, and
    encrypted or damaged PDFs. The logger ``trove_async.watermark`` says why, at debug level.

    A mark is no protection: whoever has the file can remove it.
    """

    name = "watermark"
    direction = Direction.READ
    stage = Stage.PRESENT

    def __init__(
        self,
        text: str | Callable[[Context], str | Awaitable[str]],
        *,
        types: Sequence[str] = ("image/png", "image/jpeg", "application/pdf"),
    ) -> None:
        if not isinstance(text, str) and not callable(text):
            raise TypeError("a watermark's text is a str or a function that gives one")
        self._text = text
        self._formats: dict[str, Locate] = {}
        for name in [types] if isinstance(types, str) else types:
            if name not in _FORMATS:
                raise InvalidConfigError(f"no watermark for {name!r}: only for {[*_FORMATS]}")
            self._formats[name] = _FORMATS[name]

    async def edits(self, below: RangeSource, context: Context) -> Sequence[Edit]:
        locate = self._formats.get(context.content_type.partition(";")[0].strip().lower())
        if locate is None:
            return ()
        try:
            place = await _located(locate, below)
        except Unfit as exc:
            _log.debug("%r in %r gets no watermark: %s", context.key, context.bucket, exc)
            return ()
        text = await self._text_for(context)
        return (place.mark(text),) if text else ()

    async def _text_for(self, context: Context) -> str:
        if isinstance(self._text, str):
            return self._text
        made = self._text(context)
        text = await made if inspect.isawaitable(made) else made
        if not isinstance(text, str):
            raise TypeError(f"a watermark's text is a str, not {type(text).__name__}")
        return text


async def _located(locate: Locate, below: RangeSource) -> Place:
    steps = locate(below.size)
    try:
        span = next(steps)
        while True:
            async with aclosing(below.read(*span)) as chunks:
                data = await collect(chunks)
            span = steps.send(data)
    except StopIteration as done:
        place: Place = done.value
        return place
    finally:
        steps.close()
