"""Writes the golden files beside it; run by hand, only when the format gains a feature.

    .venv/bin/python -m tests.middleware.compress.make_golden

The files are there to be read for ever: what an encoder makes of the same bytes varies with
the version of its library.
"""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pyzstd

from tests.middleware.compress.zst import built, every, noise, text, written

FOLDER = Path(__file__).parent / "golden"


def plain_of(name: str) -> bytes:
    """What each golden file holds."""
    return {
        "empty": b"",
        "byte": b"x",
        "text": text(1500),
        "frames": text(700, 1),
        "noise": noise(300),
        "sha256": text(400, 2),
        "checksums": text(300, 3),
        "foreign": text(900, 4),
    }[name]


async def stored_of(name: str) -> bytes:
    plain = plain_of(name)
    if name == "checksums":
        return built([plain[:100], plain[100:]], checksums=True)
    if name == "foreign":  # a seekable file of another program, with no marker of ours
        file = io.BytesIO()
        with pyzstd.SeekableZstdFile(file, "w", max_frame_content_size=256) as writer:
            writer.write(plain)
        return file.getvalue()
    layer = every(frame_size=2048) if name == "text" else every()
    algorithm = "sha256" if name == "sha256" else "blake3"
    return (await written(layer, plain, algorithm=algorithm)).stored


NAMES = ("empty", "byte", "text", "frames", "noise", "sha256", "checksums", "foreign")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        (FOLDER / f"{name}.zst").write_bytes(asyncio.run(stored_of(name)))


if __name__ == "__main__":
    main()
