"""Blocks: their ids, their checksums, and sending one."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import md5
from typing import Final, Self
from urllib.parse import quote

from trove_async._threads import cpu_pool
from trove_async.driver.parallel import growing
from trove_async.driver.supply import Part
from trove_async.drivers.azure.base import Opened
from trove_async.drivers.azure.config import MOST_PART
from trove_async.errors import UploadIntegrityError

__all__ = ["BlockId", "digest_of", "send_block", "size_of_part"]

_LENGTH: Final = 46
"""Bytes, as in the ids of the SDK: all ids of one blob are equally long, left-overs too."""
_STEP: Final = 5000  # blocks after which they double
_INLINE: Final = 128 * 1024  # bytes hashed on the event loop


@dataclass(frozen=True, slots=True)
class BlockId:
    """Whose block it is, which, when it was sent, and its MD5: all that is known of a block
    that is not committed yet is its id and size."""

    token: bytes
    """16 bytes of the upload."""
    number: int
    stamp: int
    digest: bytes

    @classmethod
    def of(cls, token: bytes, number: int, digest: bytes) -> Self:
        return cls(token, number, time.time_ns(), digest)

    def pack(self) -> bytes:
        fixed = self.token + self.number.to_bytes(4, "big") + self.stamp.to_bytes(8, "big")
        return (fixed + self.digest).ljust(_LENGTH, b"\0")

    @classmethod
    def read(cls, text: str, token: bytes) -> Self | None:
        """None for a block of somebody else."""
        try:
            raw = b64decode(text, validate=True)
        except ValueError:
            return None
        if len(raw) != _LENGTH or raw[:16] != token:
            return None
        number, stamp = int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:28], "big")
        return cls(token, number, stamp, raw[28:44])


async def send_block(
    opened: Opened, bucket: str, key: str, token: bytes, number: int, part: Part
) -> BlockId:
    """The service compares the MD5 before it takes the block, and so do we afterwards."""
    block = BlockId.of(token, number, await digest_of(part))
    name = quote(b64encode(block.pack()), safe="")
    request = opened.upload(bucket, key, f"comp=block&blockid={name}")
    request.pieces, request.size = part.pieces, part.size
    md5 = b64encode(block.digest).decode()
    request.headers["Content-MD5"] = md5
    said = (await opened.send(request)).headers.get("Content-MD5")
    if said is not None and said != md5:
        raise UploadIntegrityError("the service got other bytes than were sent")
    return block


def size_of_part(number: int, first: int) -> int:
    """So that a body of unknown length fits into 50,000 blocks."""
    return growing(number, first, step=_STEP, most=MOST_PART)


def _md5(part: Part) -> bytes:
    hasher = md5(usedforsecurity=False)
    for piece in part.pieces:
        hasher.update(piece)
    return hasher.digest()


async def digest_of(part: Part) -> bytes:
    """Its MD5, which is what the service compares uploads by."""
    if part.size <= _INLINE:
        return _md5(part)
    return await asyncio.get_running_loop().run_in_executor(cpu_pool(), _md5, part)
