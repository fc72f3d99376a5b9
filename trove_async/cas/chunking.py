"""Where content is cut into chunks: by what it holds, so that a change moves few cuts.

The only home of pyfastcdc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trove_async._chunks import Digest
from trove_async.checksum import digest_of
from trove_async.errors import InvalidConfigError, MissingDependencyError

if TYPE_CHECKING:
    import pyfastcdc

__all__ = ["LARGEST", "SMALLEST", "WINDOW", "Cutter", "FastCDC", "chunking_of"]

SMALLEST: Final = 64 * 1024
"""Bytes of a chunk, but for the last one of a content. Less content is not cut."""
AVERAGE: Final = 256 * 1024
LARGEST: Final = 1024 * 1024
NORMALIZATION: Final = 2
WINDOW: Final = 4 * 1024 * 1024
"""Bytes that are cut and hashed in one visit of a worker thread."""

PARAMETERS: Final = {
    "algorithm": "fastcdc-2020",
    "min": SMALLEST,
    "average": AVERAGE,
    "max": LARGEST,
    "normalization": NORMALIZATION,
    "seed": 0,
}
"""What a manifest records of how its chunks were cut. Nobody needs it to read."""


@dataclass(frozen=True, slots=True)
class FastCDC:
    """Content-defined chunking, chunks of 64 KiB to 1 MiB, by FastCDC 2020 with its published
    gear table."""

    reveal_lengths: bool = False
    """Also where a layer encrypts. Who can list the bucket then sees the lengths of the chunks,
    by which content that they have, too, can be told from other content."""


def chunking_of(chunking: str | FastCDC | None) -> FastCDC | None:
    """InvalidConfigError for what is no chunking, MissingDependencyError without its library."""
    if chunking is None:
        return None
    if chunking == "fastcdc":
        chunking = FastCDC()
    if not isinstance(chunking, FastCDC):
        raise InvalidConfigError(f"chunking is 'fastcdc', FastCDC(...) or None, not {chunking!r}")
    _load()
    return chunking


class Cutter:
    """Cuts one content. Cuts depend on its bytes alone: each is found with all the bytes in
    sight that it may depend on, whatever the windows are that they come in."""

    def __init__(self, algorithm: str) -> None:
        self._cdc = _load()(
            AVERAGE, min_size=SMALLEST, max_size=LARGEST, normalized_chunking=NORMALIZATION
        )
        self._algorithm = algorithm
        self._rest = b""
        self.whole = Digest(algorithm)
        """Of all that was fed."""

    def feed(self, window: bytes, *, is_last: bool) -> list[tuple[str, bytes]]:
        """(digest, bytes) of the chunks that end in it. For a worker thread."""
        self.whole.update(window)
        data = self._rest + window if self._rest else window
        found: list[tuple[str, bytes]] = []
        end = 0
        for chunk in self._cdc.cut_buf(data):
            if not is_last and chunk.offset + LARGEST > len(data):
                break  # it may end elsewhere once more is known
            end = chunk.offset + chunk.length
            piece = data[chunk.offset : end]
            found.append((digest_of(self._algorithm, piece), piece))
        self._rest = data[end:]
        return found


def _load() -> type[pyfastcdc.FastCDC]:
    try:
        import pyfastcdc
    except ImportError as exc:
        raise MissingDependencyError('pip install "trove-async[cdc]"') from exc
    return pyfastcdc.FastCDC
