"""Encryption as a layer: one message per object, one new data key per message."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async._chunks import OneChunk, collect
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import (
    CorruptMetadataError,
    DowngradeError,
    FormatLimitError,
    InvalidConfigError,
    PolicyError,
    TrailingDataError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.middleware.base import Direction, Layout, RangeSource, Stage
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt.envelope import (
    METADATA_NAME,
    location_of,
    wrap_data_key,
    wrap_record,
)
from trove_async.middleware.encrypt.frames import FrameReader, open_whole
from trove_async.middleware.encrypt.layout import MessageLayout
from trove_async.middleware.encrypt.message import (
    CONTEXT_NAME,
    ENCODING,
    LARGEST_FRAME,
    LOCATION_NAME,
    MOST_FRAMES,
    MOST_HEADER,
    MOST_RECIPIENTS,
    SMALLEST_FRAME,
    Header,
    Limits,
    MoreBytes,
    context_value,
    encode_context,
    encode_header,
    location_text,
    message_size,
    parse_header,
)
from trove_async.middleware.encrypt.opening import Opened, open_message, wrapping_key
from trove_async.middleware.encrypt.provider import KeyProvider
from trove_async.middleware.encrypt.streams import Sealed, SealedParts, opened
from trove_async.middleware.encrypt.suite import derive, header_tag
from trove_async.middleware.scope import Scope

__all__ = ["Encrypt"]

KiB: Final = 1024
_FIRST_LOOK: Final = 4 * KiB
"""Bytes read for a header of unknown length; one with one key has about 200."""
_LARGEST_GRAIN: Final = 1024 * KiB

Pairs = Mapping[str, str] | Callable[[Context], Mapping[str, str]]


class Encrypt:
    """Bodies become AWS Encryption SDK messages (AES-256-GCM, key commitment), which stock
    SDKs read. Ranges cost the frames they touch.

    ``keyring`` gives the keys; it is asked for every object and told the operation, so it may
    give each tenant its own. ``recipients``: up to seven more providers whose active key opens
    new objects too (a recovery key, another team's).

    ``frame_size``: plaintext bytes per frame, a multiple of 128 up to 16 MiB; an object has at
    most 2^32 - 1 of them, 256 TiB at the default.

    ``bind="key"``: an object opens only under the key it was written to, or was copied to by
    this package; ``expected_key`` gives the key that counts, where a store is mounted at
    another root. Neither way tells an old version of an object from the newest.
    ``require_bound`` refuses objects that are bound to no key.

    ``require_encrypted``: where this layer's scope matches, reads refuse objects that are not
    encrypted and raw puts are refused, but for ``allow_plain``: scopes that may still hold
    plain objects, for a migration.

    ``pairs``: more text that is bound to the object and readable by anyone; names beginning
    with ``trove`` or ``aws-crypto`` are taken. ``verify_length``: a range also reads the last
    frame once per object, which proves that the object is complete.

    ``max_header``, ``max_frame``, ``max_keys``: what is refused in objects that are read."""

    name: str = "encrypt"
    direction: Direction = Direction.READ_WRITE
    stage: Stage = Stage.ENCRYPT
    encoding: str = ENCODING
    head: int = 512
    tail: int = 0

    def __init__(
        self,
        keyring: KeyProvider,
        *,
        frame_size: int = 64 * KiB,
        bind: Literal["none", "key"] = "none",
        require_encrypted: bool = True,
        allow_plain: Sequence[Scope] = (),
        recipients: Sequence[KeyProvider] = (),
        require_bound: bool = False,
        expected_key: Callable[[Context], str] | None = None,
        pairs: Pairs | None = None,
        verify_length: bool = False,
        max_header: int = MOST_HEADER,
        max_frame: int = LARGEST_FRAME,
        max_keys: int = MOST_RECIPIENTS,
    ) -> None:
        if not SMALLEST_FRAME <= frame_size <= LARGEST_FRAME or frame_size % SMALLEST_FRAME:
            raise InvalidConfigError(
                f"frame_size is a multiple of {SMALLEST_FRAME} up to {LARGEST_FRAME}"
            )
        if bind not in ("none", "key"):
            raise InvalidConfigError(f'bind is "none" or "key", not {bind!r}')
        if len(recipients) >= MOST_RECIPIENTS:
            raise InvalidConfigError(f"at most {MOST_RECIPIENTS - 1} recipients")
        if not (
            0 < max_header <= MOST_HEADER
            and SMALLEST_FRAME <= max_frame <= LARGEST_FRAME
            and 1 <= max_keys <= MOST_RECIPIENTS
        ):
            raise InvalidConfigError("max_header, max_frame and max_keys only go down")
        self._keyring = keyring
        self._recipients = tuple(recipients)
        self._providers = (keyring, *recipients)
        self._frame_size = frame_size
        self._is_bound = bind == "key"
        self._require_encrypted = require_encrypted
        self._allow_plain = tuple(allow_plain)
        self._require_bound = require_bound
        self._expected_key = expected_key
        self._pairs = pairs
        self._verify_length = verify_length
        self._limits = Limits(max_header, max_keys, max_frame)
        self._contexts: dict[tuple[str, ...], bytes] = {}
        self.grain = min(frame_size, _LARGEST_GRAIN) + 128
        """Bytes read besides those asked for: whole frames."""

    @property
    def providers(self) -> tuple[KeyProvider, ...]:
        """The keyring, then the recipients; for what changes the envelopes of stored objects."""
        return self._providers

    def place_of(self, context: Context) -> str:
        """The key that counts when an object is bound to its place."""
        return self._key(context)

    def __repr__(self) -> str:
        bind = "key" if self._is_bound else "none"
        return f"<Encrypt frame_size={self._frame_size} bind={bind!r}>"

    # -- writing -----------------------------------------------------------------------------

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        """A new data key and message id each time, also for a retry: what was sealed under
        one is never sealed differently under it."""
        header, cipher, message_id = await self._begin(context)
        return Sealed(chunks, header, cipher, message_id, self._frame_size)

    async def begin(self, context: Context) -> SealedParts:
        """As `write`, for a message that is sealed in parts."""
        header, cipher, message_id = await self._begin(context)
        return SealedParts(header, cipher, message_id, self._frame_size)

    async def continued(self, header: bytes, context: Context) -> SealedParts:
        """The message with this header again. CorruptMetadataError where its plaintext is
        another than what the layers before this one give; the errors of reads where it does
        not open here."""
        parsed = parse_header(header, self._limits)
        found = await self._opened(parsed, context)
        if parsed.inner != tuple(context.applied):
            raise CorruptMetadataError("the message is not of what the layers give now")
        context.hints["h"] = str(parsed.length)
        context.hints["f"] = str(parsed.frame_size)
        if context.stored_size is not None:
            context.stored_size = message_size(
                context.stored_size, parsed.length, parsed.frame_size
            )
        return SealedParts(header, found.cipher, parsed.message_id, parsed.frame_size)

    async def _begin(self, context: Context) -> tuple[bytes, AESGCM, bytes]:
        inner = context.stored_size
        if inner is not None and inner > MOST_FRAMES * self._frame_size:
            raise FormatLimitError(
                f"{inner} bytes need more than {MOST_FRAMES} frames of {self._frame_size} bytes"
            )
        random = _random()
        data_key, message_id = random[:32], random[32:]
        bound = self._location(context) if self._is_bound else None
        aad = self._context(tuple(context.applied), bound, context)
        key_id, kek = await wrapping_key(self._keyring, context)
        keys = [wrap_data_key(kek, key_id, data_key, aad).encode()]
        for recipient in self._recipients:
            key_id, kek = await wrapping_key(recipient, context)
            keys.append(wrap_data_key(kek, key_id, data_key, aad).encode())
        key, commitment = derive(data_key, message_id)
        cipher = AESGCM(key)
        header = encode_header(message_id, aad, keys, self._frame_size, commitment)
        header += header_tag(cipher, header)
        if len(header) > MOST_HEADER:
            raise InvalidConfigError(
                f"the header would have {len(header)} bytes; at most {MOST_HEADER}: "
                "fewer recipients or pairs"
            )
        context.hints["h"] = str(len(header))
        context.hints["f"] = str(self._frame_size)
        if inner is not None:
            context.stored_size = message_size(inner, len(header), self._frame_size)
        return header, cipher, message_id

    def _location(self, context: Context) -> bytes:
        return location_of(self._key(context))

    def _key(self, context: Context) -> str:
        return context.key if self._expected_key is None else self._expected_key(context)

    def _context(self, inner: tuple[str, ...], bound: bytes | None, context: Context) -> bytes:
        """The serialised encryption context; the usual ones are made once."""
        if bound is None and self._pairs is None:
            known = self._contexts.get(inner)
            if known is None:
                known = encode_context({CONTEXT_NAME: context_value(inner)})
                self._contexts[inner] = known
            return known
        given = self._pairs(context) if callable(self._pairs) else self._pairs or {}
        if any(name.startswith(("trove", "aws-crypto")) for name in given):
            raise InvalidConfigError("pairs: names beginning with trove or aws-crypto are taken")
        pairs = {**given, CONTEXT_NAME: context_value(inner)}
        if bound is not None:
            pairs[LOCATION_NAME] = location_text(bound)
        try:
            return encode_context(pairs)
        except ValueError as exc:
            raise InvalidConfigError(f"pairs: {exc}") from exc

    # -- reading -----------------------------------------------------------------------------

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        first, header = await self._header_of(chunks)
        found = await self._opened(header, context)
        frames = memoryview(first)[header.length :]
        whole = open_whole(found.cipher, header, frames)
        if whole is not None:
            async for more in chunks:
                if more:
                    raise TrailingDataError("the message goes on after its last frame")
            return OneChunk(whole)
        return opened(FrameReader(found.cipher, header), header.frame_size, frames, chunks)

    async def _header_of(self, chunks: Chunks) -> tuple[Bytes, Header]:
        """The start of the stream, as much as has come, and the header in it."""
        data: Bytes | None = await anext(chunks, None)
        if data is None:
            raise TruncatedError("an empty body is no message")
        while True:
            try:
                return data, parse_header(data, self._limits)
            except MoreBytes as more:
                parts = [bytes(data)]
                missing = more.needed - len(data)
            while missing > 0:
                chunk = await anext(chunks, None)
                if chunk is None:
                    raise TruncatedError("the message ends inside its header")
                parts.append(bytes(chunk))
                missing -= len(chunk)
            data = b"".join(parts)

    async def _opened(self, header: Header, context: Context) -> Opened:
        applied = tuple(context.applied)
        try:
            inner = header.inner
        except UnsupportedFormatError:
            inner = None  # told below, once the header is known to be genuine
        levels = [level for level, name in enumerate(applied) if name == ENCODING]
        # A message inside another one: hints and re-wrap record are not its own.
        is_nested = len(levels) > 1 and applied[:-1] != inner and inner is not None
        found = await open_message(
            header,
            self._providers,
            context,
            key=self._key(context),
            use_record=not is_nested,
            require_bound=self._require_bound,
            usual=lambda: self._usual(levels, context),
        )
        if inner is None:
            inner = header.inner
        if levels and not any(applied[:level] == inner for level in levels):
            raise CorruptMetadataError(
                f"the header says {context_value(inner)!r}, the object's record {applied!r}"
            )
        if not is_nested:
            _compare(context.hints, "h", header.length)
            _compare(context.hints, "f", header.frame_size)
        return found

    def _usual(self, levels: Sequence[int], context: Context) -> list[bytes]:
        """Contexts that this layer would have written here."""
        inners = [tuple(context.applied[:level]) for level in levels] or [()]
        places = (None, self._location(context))
        return [self._context(inner, place, context) for inner in inners for place in places]

    # -- ranges ------------------------------------------------------------------------------

    async def layout(self, below: RangeSource, context: Context) -> Layout:
        header = await self._header_at(below, context)
        found = await self._opened(header, context)
        layout = MessageLayout(found, below.size)
        if self._verify_length:
            await layout.prove(below)
        return layout

    async def _header_at(self, below: RangeSource, context: Context) -> Header:
        """One read where the record says how long the header is, or it is a usual one."""
        hint = context.hints.get("h", "")
        wanted = int(hint) if hint.isascii() and hint.isdigit() and len(hint) < 6 else 0
        data = b""
        stop = wanted if 0 < wanted <= self._limits.header else _FIRST_LOOK
        while True:
            stop = min(stop, below.size)
            async with aclosing(below.read(len(data), stop)) as chunks:
                data += await collect(chunks)
            try:
                return parse_header(data, self._limits)
            except MoreBytes as more:
                if len(data) >= below.size:
                    raise TruncatedError("the message ends inside its header") from more
                stop = self._limits.header

    # -- rules -------------------------------------------------------------------------------

    def admit(self, context: Context, encodings: Sequence[str]) -> None:
        if self._require_encrypted and ENCODING not in encodings and not self._allows(context):
            raise DowngradeError("the object is not encrypted, where only encrypted ones are read")

    def admit_raw(self, context: Context) -> None:
        if self._require_encrypted and not self._allows(context):
            raise PolicyError("stored bytes cannot be put here: only encrypted objects are kept")

    def _allows(self, context: Context) -> bool:
        return any(scope.matches(context) for scope in self._allow_plain)

    async def relocated(
        self, stored: RangeSource, source: Context, target: Context
    ) -> Mapping[str, str] | None:
        """A record that binds the object to its new place, under the active key. The body,
        header included, stays as it is."""
        header = await self._header_at(stored, source)
        if header.location is None and METADATA_NAME not in source.metadata:
            return None
        found = await self._opened(header, source)
        if found.location is None:
            return None
        key_id, kek = await wrapping_key(self._keyring, target)
        record = wrap_record(
            kek,
            key_id,
            found.data_key,
            header.message_id,
            header.commitment,
            loc=self._location(target),
        )
        return {METADATA_NAME: record.encode()}


def _random() -> bytes:
    """A data key and a message id: 64 bytes that are used once."""
    return os.urandom(64)


def _compare(hints: Mapping[str, str], name: str, found: int) -> None:
    hint = hints.get(name)
    if hint is not None and hint != str(found):
        raise CorruptMetadataError(f"the record has {name}={hint[:20]!r}, the header {found}")
