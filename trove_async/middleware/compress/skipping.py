"""What is not worth a try: content that is compressed already, by its name or its type."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from trove_async._globs import glob

__all__ = ["SKIP_CONTENT_TYPES", "SKIP_EXTENSIONS", "Skips"]

SKIP_EXTENSIONS: Final = frozenset(
    (
        *("7z", "apk", "br", "bz2", "cab", "deb", "ear", "gz", "jar", "lz", "lz4", "lzma", "rar"),
        *("rpm", "sz", "tbz2", "tgz", "txz", "tzst", "war", "whl", "xz", "zip", "zst"),
        *("avif", "gif", "heic", "heif", "jpeg", "jpg", "jxl", "png", "webp"),
        *("aac", "flac", "m4a", "mp3", "oga", "ogg", "opus", "wma"),
        *("avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "webm", "wmv"),
        *("docx", "epub", "odp", "ods", "odt", "pptx", "xlsx", "woff", "woff2"),
    )
)
"""After the last dot of the key, in lower case."""

SKIP_CONTENT_TYPES: Final = frozenset(
    (
        *("application/gzip", "application/java-archive", "application/vnd.rar"),
        *("application/x-7z-compressed", "application/x-bzip2", "application/x-gzip"),
        *("application/x-rar-compressed", "application/x-xz", "application/zip"),
        *("application/zstd", "font/woff", "font/woff2"),
        *("image/avif", "image/gif", "image/heic", "image/heif", "image/jpeg", "image/jxl"),
        *("image/png", "image/webp"),
        *("audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/opus"),
        "video/*",
    )
)
"""Types or globs of them, without parameters."""


class Skips:
    __slots__ = ("_extensions", "_globs", "_types")

    def __init__(self, extensions: Collection[str], content_types: Collection[str]) -> None:
        if isinstance(extensions, str) or isinstance(content_types, str):
            raise TypeError("what to skip is a collection of names, not one string")
        self._extensions = frozenset(name.lstrip(".").lower() for name in extensions)
        types = {name.lower() for name in content_types}
        self._globs: list[Callable[[str], object]] = [
            glob(name) for name in sorted(types) if any(mark in name for mark in "*?[")
        ]
        self._types = frozenset(types)

    def match(self, key: str, content_type: str) -> bool:
        _, dot, extension = key.rpartition(".")
        if dot and extension.lower() in self._extensions:
            return True
        plain = content_type.partition(";")[0].strip().lower()
        if plain in self._types:
            return True
        return any(matches(plain) for matches in self._globs)
