"""What objects, names and stacks may look like, for hypothesis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from hypothesis import strategies as st

from tests.transforms import FRAME, Flip, Xor
from trove_async import Middleware

__all__ = [
    "STACKS",
    "bodies",
    "bucket_names",
    "chopped",
    "keys",
    "metadata",
    "sizes",
    "slices",
    "wanted_of",
]

STACKS: dict[str, Callable[[], list[Middleware]]] = {
    "none": list,
    "xor": lambda: [Xor()],
    "flip": lambda: [Flip()],
    "both": lambda: [Xor(), Flip()],
}

bucket_names = st.from_regex(r"[a-z0-9][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True)

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
keys = _text.filter(lambda key: 1 <= len(key.encode()) <= 1024)
"""Any key the contract allows."""

metadata = st.dictionaries(
    st.from_regex(r"[a-z0-9_.-]{1,12}", fullmatch=True).filter(lambda n: not n.startswith("trove")),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    max_size=4,
)

sizes = st.one_of(
    st.integers(0, 40),
    st.sampled_from([FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 10 * FRAME - 1]),
    st.integers(0, 12 * FRAME),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bytes that say their own offset, so that a wrong range is seen."""
    size = draw(sizes)
    salt = draw(st.integers(0, 255))
    return bytes((salt + i + (i >> 8)) & 0xFF for i in range(size))


@st.composite
def slices(draw: st.DrawFn) -> slice:
    """Every legal range: bounded, open-ended, suffix, empty; also past any end."""
    kind = draw(st.sampled_from(["bounded", "open", "suffix", "empty"]))
    start = draw(st.integers(0, 13 * FRAME))
    if kind == "open":
        return slice(start, None)
    if kind == "suffix":
        return slice(-draw(st.integers(1, 13 * FRAME)), None)
    if kind == "empty":
        return slice(start, start)
    return slice(start, start + draw(st.integers(0, 5 * FRAME)))


def chopped(data: bytes, cuts: Sequence[int]) -> AsyncGenerator[bytes, None]:
    """``data`` as an async iterable, in pieces of the lengths of ``cuts``, again and again."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        position, turn = 0, 0
        while position < len(data):
            length = max(1, cuts[turn % len(cuts)]) if cuts else len(data)
            yield data[position : position + length]
            position += length
            turn += 1

    return pieces()


def wanted_of(data: bytes, wanted: slice) -> bytes | None:
    """What a range gives by the rules of the interface; None: InvalidRangeError."""
    start, stop = wanted.start, wanted.stop
    if start < 0:
        return data[start:]
    if stop is not None and stop == start:
        return b""
    if start >= len(data) and not (start == 0 and not data):
        return None
    return data[start:stop]
