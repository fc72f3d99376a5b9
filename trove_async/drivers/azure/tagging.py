"""Tags; not in hierarchical namespaces."""

from __future__ import annotations

from collections.abc import Mapping

from trove_async.drivers.azure.base import AzureBase
from trove_async.drivers.azure.xml import read_tags, tag_set

__all__ = ["Tags"]


class Tags(AzureBase):
    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        opened = self._now()
        return read_tags((await opened.send(opened.blob("GET", bucket, key, "comp=tags"))).data)

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replaces all. At most 10: letters, digits, space and ``+ - . / : = _``."""
        opened = self._now()
        request = opened.blob("PUT", bucket, key, "comp=tags")
        data = tag_set(tags)
        request.pieces, request.size = [data], len(data)
        request.headers["Content-Type"] = "application/xml; charset=UTF-8"
        await opened.send(request)
