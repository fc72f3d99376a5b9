"""The parts of an upload as its completion lists them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5
from typing import Any, Final

from trove_async.driver.crc import crc_combined
from trove_async.driver.parallel import growing
from trove_async.drivers.s3.config import MOST_PART
from trove_async.drivers.s3.sums import Sums
from trove_async.drivers.s3.writing import base64_crc

__all__ = ["Sent", "crc_of_all", "etag_of", "listed", "size_of_part"]

Sent = Mapping[int, tuple[str, Sums]]
"""Etag and sums of parts by their numbers."""
_STEP: Final = 1000  # parts after which they double: 5 TiB fit whatever the first size was


def size_of_part(number: int, first: int) -> int:
    """So that a body of unknown length fits into 10,000 parts."""
    return growing(number, first, step=_STEP, most=MOST_PART)


def crc_of_all(sent: Sent) -> str:
    """Of the whole body, as S3 writes it."""
    crc = 0
    for _, (_, sums) in sorted(sent.items()):
        crc = crc_combined(crc, sums.crc, sums.size)
    return base64_crc(crc)


def listed(sent: Sent, with_crc: bool) -> list[dict[str, Any]]:
    """As CompleteMultipartUpload wants them."""
    return [
        {
            "PartNumber": number,
            "ETag": f'"{etag}"',
            **({"ChecksumCRC32": base64_crc(sums.crc)} if with_crc else {}),
        }
        for number, (etag, sums) in sorted(sent.items())
    ]


def etag_of(parts: list[dict[str, Any]]) -> str | None:
    """What S3 calls an object of these parts, when their etags are MD5s."""
    hasher = md5(usedforsecurity=False)
    try:
        for part in parts:
            hasher.update(bytes.fromhex(part["ETag"].strip('"')))
    except ValueError:
        return None
    return f"{hasher.hexdigest()}-{len(parts)}"
