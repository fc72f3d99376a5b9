"""What compatible servers cannot do, found out by asking when the driver opens."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trove_async.errors import InvalidKeyError

__all__ = ["AWS", "FOLDERS", "Server", "recognised"]


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    conditional: bool = True
    versions: bool = True
    lifecycle: bool = True
    tags: bool = True
    events: bool = True
    """SQS is served as well."""
    exact_copies: bool = True
    """CopyObject keeps, or replaces, the whole metadata map and honours its conditions."""
    max_metadata: int = 2048
    has_folders: bool = False
    """Keys are paths of files: ``a`` cannot stand beside ``a/b``."""

    def check_key(self, key: str) -> None:
        """InvalidKeyError for what such a server would store under another name or not at all."""
        if not self.has_folders:
            return
        for part in key.split("/"):
            if part in ("", ".", "..") or len(part.encode()) > 255:
                raise InvalidKeyError(f"{self.name} keeps keys as paths of files", key=key)
        if any(ord(c) < 0x20 or ord(c) == 0x7F for c in key) or "\ufffe" in key:
            raise InvalidKeyError(f"{self.name} refuses control characters", key=key)


AWS: Final = Server("S3")
COMPATIBLE: Final = Server("the server", events=False)
FOLDERS: Final = Server(
    "rclone",
    conditional=False,
    versions=False,
    lifecycle=False,
    tags=False,
    events=False,
    exact_copies=False,
    max_metadata=1536,  # it counts the request's own x-amz headers too
    has_folders=True,
)


def recognised(headers: Mapping[str, str]) -> Server:
    """By the answer to ListBuckets. gofakes3 (``rclone serve s3``) repeats its request id in
    x-amz-id-2."""
    request, host = headers.get("x-amz-request-id", ""), headers.get("x-amz-id-2", "")
    if request and len(host) >= 8:
        try:
            if base64.b64decode(host).startswith((request * 2).encode()):
                return FOLDERS
        except ValueError:
            pass
    return COMPATIBLE
