"""Paths as keys: POSIX, cleaned without touching the store."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Protocol

from trove_async.errors import InvalidInputError, InvalidKeyError, IsDirectoryError

__all__ = ["AnyPath", "Posix", "below", "clean", "file_key", "is_name", "joined", "name_of"]


class Posix(Protocol):
    """A path object with slashes: `PurePosixPath`, `TrovePath`."""

    def as_posix(self) -> str: ...


AnyPath = str | Posix


def text_of(path: AnyPath) -> str:
    if isinstance(path, str):
        return path
    posix = getattr(path, "as_posix", None)
    if posix is None:
        raise TypeError(f"a path is a str or a PurePosixPath, not {type(path).__name__}")
    text = posix()
    if not isinstance(text, str):
        raise TypeError("as_posix gives a str")
    return text


def clean(path: AnyPath) -> str:
    """The path without its leading slash, ``.`` and ``..``; ``""`` is the root of the bucket.

    ``..`` is resolved by the text alone: there are no links. InvalidKeyError for one that would
    leave the bucket, for an empty part (``a//b`` is a key of its own, not ``a/b``), NUL, and
    lone surrogates."""
    text = text_of(path)
    if "\0" in text:
        raise InvalidKeyError("NUL in a path")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidKeyError("lone surrogate in a path") from None
    parts: list[str] = []
    given = text.removeprefix("/").removesuffix("/")
    if not given:
        if text in ("", "/"):
            return ""
        raise InvalidKeyError("an empty part in a path", key=text[:100])
    for part in given.split("/"):
        if not part:
            raise InvalidKeyError("an empty part in a path", key=text[:100])
        if part == "..":
            if not parts:
                raise InvalidKeyError("a path leaves its bucket", key=text[:100])
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def file_key(path: AnyPath) -> str:
    """The key of a path that is to be a file."""
    key = clean(path)
    if not key or text_of(path).endswith(("/", "/.", "/..")):
        raise IsDirectoryError("a directory is no file", key=key or "/")
    return key


def below(key: str) -> str:
    """What the keys below a directory begin with."""
    return f"{key}/" if key else ""


def joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def name_of(key: str) -> str:
    return key.rpartition("/")[2]


def is_name(part: str) -> bool:
    """Whether a part of a key can be a part of a path."""
    return part not in ("", ".", "..")


def ancestors(key: str) -> list[str]:
    """The directories above, the outermost first, without the root."""
    parts = key.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def refuse_inside(source: str, target: str) -> None:
    """InvalidInputError when a directory would go below itself."""
    if target.startswith(below(source)) and target != source:
        raise InvalidInputError("a directory cannot go below itself", key=source or "/")


def pure(path: AnyPath) -> PurePosixPath:
    return PurePosixPath(clean(path))
