"""Pages of objects and of buckets.

https://cloud.google.com/storage/docs/json_api/v1/objects/list
"""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from tests.servers.fake_gcs.errors import bad
from tests.servers.fake_gcs.state import Bucket, Version

__all__ = ["listed", "token", "untoken"]

_MOST = 1000


def token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def untoken(text: str) -> str:
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise bad("Invalid argument.") from None


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise bad(f"Invalid value for {name}")
    return int(text)


def listed(bucket: Bucket, query: Mapping[str, str], root: str) -> dict[str, Any]:
    """Entries and prefixes together are at most maxResults. A group shows when an object in it
    passes the filters."""
    most = min(_number(query, "maxResults", _MOST), _MOST)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    start, end = query.get("startOffset", ""), query.get("endOffset", "")
    with_past = query.get("versions") == "true"
    kind, last, position = "", "", 0
    if query.get("pageToken"):
        kind, _, rest = untoken(query["pageToken"]).partition(":")
        if kind not in ("k", "p"):
            raise bad("Invalid argument.")
        number, _, last = rest.partition(":")
        position = int(number)
    at = bisect_left(bucket.names, max(prefix, start, last))
    items: list[dict[str, Any]] = []
    groups: list[str] = []
    marker = ""
    for name in bucket.names[at:]:
        if not name.startswith(prefix) or (end and name >= end):
            if name > prefix:
                break
            continue
        if kind == "p" and name.startswith(last):
            continue
        versions: list[Version] = list(bucket.past.get(name, [])) if with_past else []
        if name in bucket.live:
            versions.append(bucket.live[name])
        if not versions:
            continue
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        if cut >= 0:
            group = name[: cut + len(delimiter)]
            if groups and groups[-1] == group:
                continue
            if len(items) + len(groups) >= most:
                return _page(items, groups, marker)
            groups.append(group)
            marker = f"p:0:{group}"
            continue
        skipped = position if kind == "k" and name == last else 0
        for index, version in enumerate(versions[skipped:], skipped + 1):
            if len(items) + len(groups) >= most:
                return _page(items, groups, marker)
            items.append(version.resource(bucket.name, root))
            marker = f"k:{index}:{name}"
    return _page(items, groups, "")


def _page(items: list[dict[str, Any]], groups: list[str], marker: str) -> dict[str, Any]:
    page: dict[str, Any] = {"kind": "storage#objects"}
    if marker:
        page["nextPageToken"] = token(marker)
    if groups:
        page["prefixes"] = groups
    if items:
        page["items"] = items
    return page
