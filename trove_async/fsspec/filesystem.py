"""`TroveFileSystem`: a store as fsspec sees it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Final, Unpack, cast

from trove_async import Driver, MiB, UnsupportedError
from trove_async.fsspec.changing import Changing
from trove_async.fsspec.entries import split
from trove_async.fsspec.files import AsyncTroveFile, PackedFile, TextFile, TroveFile, start_writing
from trove_async.fsspec.holding import Holder
from trove_async.fsspec.identity import Identified, plain
from trove_async.fsspec.options import Layers, Opener, OpenOptions
from trove_async.fsspec.sdk import sync, sync_wrapper, tokenize
from trove_async.fsspec.transfer import Transfer
from trove_async.fsspec.writing import PutArguments, Writing

__all__ = ["TroveFileSystem"]

_TEXT: Final[tuple[str, ...]] = ("encoding", "errors", "newline")


class TroveFileSystem(Transfer, Changing, metaclass=Identified):
    """``trove://bucket/key`` over any store.

    ``target``: a connection string, a ``trove.toml`` or a driver; or ``config``, a
    ``trove.toml``, and ``store``, one of its names. ``middleware``: layers, a function that
    gives them, or its name ``"package.module:function"``. The other options are those of
    `trove_async.open`, and of fsspec: ``asynchronous``, ``loop``, ``batch_size``,
    ``use_listings_cache``, ``listings_expiry_time``, ``max_paths``, ``skip_instance_cache``.

    The store is opened on first use, in fsspec's loop (``asynchronous``: in the caller's, who
    then awaits `aclose`), and closed when the process ends. Instances pickle as their options
    and open a store of their own; one from before a fork is a RuntimeError in the child.

    Listings are not kept unless ``use_listings_cache`` or ``listings_expiry_time`` (seconds)
    asks for it: others may write too. ``resolve``: whether sizes in listings cost a request per
    object where a backend lists only stored sizes; by default when the store has transforms.
    """

    protocol = "trove"
    root_marker = ""
    blocksize = 4 * MiB

    def __init__(
        self,
        target: str | os.PathLike[str] | Driver | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        store: str | None = None,
        middleware: Layers = (),
        resolve: bool | None = None,
        asynchronous: bool = False,
        loop: object = None,
        batch_size: int | None = None,
        use_listings_cache: bool = False,
        listings_expiry_time: float | None = None,
        max_paths: int | None = None,
        **options: Unpack[OpenOptions],
    ) -> None:
        given = {name: plain(value) for name, value in options.items()}
        opener = Opener(
            cast("str | os.PathLike[str] | Driver | None", plain(target)),
            cast("str | os.PathLike[str] | None", plain(config)),
            store,
            cast("Layers", plain(middleware)),
            cast("OpenOptions", given),
        )
        super().__init__(
            asynchronous=asynchronous,
            loop=plain(loop),
            batch_size=batch_size,
            use_listings_cache=use_listings_cache or listings_expiry_time is not None,
            listings_expiry_time=listings_expiry_time,
            max_paths=max_paths,
        )
        self._resolve = resolve
        self._holder = Holder(opener)
        self._holder.end_with(self)

    async def aclose(self) -> None:
        """Closes the store; the next use opens it anew."""
        await self._holder.aclose()

    def close(self) -> None:
        """As `aclose`, for callers outside of the loop."""
        if not self.asynchronous:
            sync(self.loop, self._holder.aclose)

    def _forget(self, writing: Writing) -> None:
        self._holder.later(writing.abort)

    @classmethod
    def _strip_protocol(cls, path: object) -> object:
        stripped = super()._strip_protocol(path)
        return stripped.lstrip("/") if isinstance(stripped, str) else stripped

    # -- files -----------------------------------------------------------------------------

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Mapping[str, object] | None = None,
        compression: str | None = None,
        **kwargs: object,
    ) -> IO[bytes] | IO[str]:
        """As fsspec's. Written files are published by a clean close; an exception in the
        ``with`` block leaves what was there."""
        if "r" in mode or (compression is None and "b" in mode):
            file = super().open(path, mode, block_size, cache_options, compression, **kwargs)
            return cast("IO[bytes] | IO[str]", file)
        text = {name: cast("str", kwargs.pop(name)) for name in _TEXT if name in kwargs}
        binary = mode.replace("t", "").replace("b", "") + "b"
        file = super().open(path, binary, block_size, cache_options, **kwargs)
        if compression is not None:
            file = _packed(file, path, compression)
        return (
            file
            if "b" in mode
            else TextFile(file, text.get("encoding"), text.get("errors"), text.get("newline"))
        )

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_type: str = "readahead",
        cache_options: Mapping[str, object] | None = None,
        size: int | None = None,
        **put: Unpack[PutArguments],
    ) -> TroveFile:
        _check_mode(mode, put)
        if mode == "xb" and self.exists(path):
            raise FileExistsError(path)
        return TroveFile(
            self,
            path,
            mode,
            put,
            block_size=block_size,
            autocommit=autocommit,
            cache_type=cache_type,
            cache_options=None if cache_options is None else dict(cache_options),
            size=size,
        )

    async def open_async(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        **put: Unpack[PutArguments],
    ) -> AsyncTroveFile:
        path = cast("str", self._strip_protocol(path))
        _check_mode(mode, put)
        if mode == "rb":
            entry = await self._info(path)
            if entry["type"] == "directory":
                raise IsADirectoryError(path)
            etag = str(entry["etag"])
            return AsyncTroveFile(
                self, path, mode, etag, None, block_size=block_size, size=entry["size"]
            )
        if mode == "xb":
            raise ValueError("open_async has no mode xb; use pipe_file(mode='create')")
        writing = await start_writing(self, path, mode, put)
        return AsyncTroveFile(self, path, mode, "", writing, block_size=block_size)

    # -- what is known of a path -----------------------------------------------------------

    def modified(self, path: str) -> datetime:
        return cast("datetime", self.info(path)["last_modified"])

    def created(self, path: str) -> datetime:
        """When it was last written: an object is made anew each time."""
        return self.modified(path)

    def ukey(self, path: str) -> str:
        """Changes with every write."""
        entry = self.info(path, refresh=True)
        return cast("str", tokenize(entry["name"], entry.get("etag"), entry["size"]))

    def checksum(self, path: str) -> int:
        """The recorded digest of the bytes as a number, else one that changes with them."""
        digest = self.info(path, refresh=True).get("checksum")
        return int(digest.partition(":")[2] if digest else self.ukey(path), 16)

    async def _sign(self, path: str, expiration: float = 100, **kwargs: str) -> str:
        """A URL for a plain GET; NotImplementedError where the backend makes none.
        ``content_type``, ``filename``: of the answer."""
        bucket, key = split(cast("str", self._strip_protocol(path)))
        store = await self._store()
        try:
            request = await store.presign_get(bucket, key, expires=expiration, **kwargs)
        except UnsupportedError as exc:
            raise NotImplementedError(str(exc)) from exc  # as AbstractFileSystem.sign
        return request.url

    sign = sync_wrapper(_sign)
    rmdir = sync_wrapper(Changing._rmdir)


def _check_mode(mode: str, put: PutArguments) -> None:
    if mode not in ("rb", "wb", "ab", "xb"):
        raise ValueError(f"no mode {mode!r}; there are rb, wb, ab and xb")
    unknown = sorted(set(put) - (PutArguments.__optional_keys__ if mode != "rb" else set()))
    if unknown:
        raise TypeError(f"open(mode={mode!r}) has no option {', '.join(unknown)}")


def _packed(file: TroveFile, path: str, compression: str) -> TroveFile | PackedFile:
    from fsspec.compression import compr
    from fsspec.core import get_compression

    name = get_compression(path, compression)  # "infer" may say that there is none
    return file if name is None else PackedFile(compr[name](file, mode="w"), file)
