"""Lifecycle rules.

A rule of GCS has neither a name nor a switch: names are kept in the bucket's labels, and a rule
that is off has a condition that no object meets.
https://cloud.google.com/storage/docs/lifecycle
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trove_async.drivers.gcs.base import GCSBase
from trove_async.errors import UnsupportedError
from trove_async.model import LifecycleRule

__all__ = ["Lifecycle"]

_LABEL: Final = "trove-lifecycle-"
_NEVER: Final = "1970-01-01"
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}")
_MOST: Final = 50  # a bucket has 64 labels


class Lifecycle(GCSBase):
    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replaces all rules, those too that `get_lifecycle` cannot show."""
        opened = self._now()
        target = f"/storage/v1/b/{bucket}"
        entries: builtins.list[dict[str, Any]] = []
        labels: dict[str, str | None] = {}
        for rule in rules:
            if _NAME.fullmatch(rule.id) is None:
                raise UnsupportedError(
                    "GCS keeps names of rules of 1 to 63 letters a-z, digits, _ and -",
                    backend="gcs",
                )
            for entry in _written(rule):
                labels[f"{_LABEL}{len(entries)}"] = rule.id
                entries.append(entry)
        if len(entries) > _MOST:
            raise UnsupportedError(f"at most {_MOST} rules have names", backend="gcs")
        found = await opened.client.json("GET", f"{target}?fields=labels", bucket)
        for name in found.get("labels") or {}:
            if name.startswith(_LABEL):
                labels.setdefault(name, None)
        patch: dict[str, Any] = {"lifecycle": {"rule": entries} if entries else None}
        if labels:
            patch["labels"] = labels
        body = json.dumps(patch).encode()
        await opened.client.json(
            "PATCH",
            f"{target}?fields=name",
            bucket,
            headers={"content-type": "application/json; charset=UTF-8"},
            pieces=[body],
            size=len(body),
        )

    async def get_lifecycle(self, bucket: str) -> builtins.list[LifecycleRule]:
        """Rules that do something else than expire or move objects by age are left out."""
        found = await self._now().client.json(
            "GET", f"/storage/v1/b/{bucket}?fields=lifecycle,labels", bucket
        )
        labels = found.get("labels") or {}
        rules: dict[str, LifecycleRule] = {}
        for number, entry in enumerate((found.get("lifecycle") or {}).get("rule") or ()):
            name = str(labels.get(f"{_LABEL}{number}") or f"rule-{number}")
            rule = _read(name, entry)
            if rule is not None:
                rules[name] = _joined(rules[name], rule) if name in rules else rule
        return [*rules.values()]


def _written(rule: LifecycleRule) -> builtins.list[dict[str, Any]]:
    actions: builtins.list[tuple[dict[str, str], int]] = []
    if rule.expiration_days is not None:
        actions.append(({"type": "Delete"}, rule.expiration_days))
    if rule.transition_days is not None and rule.transition_storage is not None:
        move = {"type": "SetStorageClass", "storageClass": rule.transition_storage}
        actions.append((move, rule.transition_days))
    entries = []
    for action, age in actions:
        condition: dict[str, Any] = {"age": age, "isLive": True}
        if rule.prefix:
            condition["matchesPrefix"] = [rule.prefix]
        if not rule.enabled:
            condition["createdBefore"] = _NEVER
        entries.append({"action": action, "condition": condition})
    return entries


def _read(name: str, entry: Mapping[str, Any]) -> LifecycleRule | None:
    action, condition = entry.get("action") or {}, entry.get("condition") or {}
    age = condition.get("age")
    prefixes = condition.get("matchesPrefix") or [""]
    known = {"age", "isLive", "matchesPrefix", "createdBefore"}
    enabled = condition.get("createdBefore") is None
    if not isinstance(age, int) or len(prefixes) != 1 or set(condition) - known:
        return None
    if condition.get("isLive") is False or condition.get("createdBefore") not in (None, _NEVER):
        return None
    if action.get("type") == "Delete":
        return LifecycleRule(name, prefixes[0], enabled, age)
    if action.get("type") == "SetStorageClass":
        return LifecycleRule(name, prefixes[0], enabled, None, age, action.get("storageClass"))
    return None


def _joined(one: LifecycleRule, other: LifecycleRule) -> LifecycleRule:
    """Two rules of GCS that are one of ours."""
    first = one if one.expiration_days is not None else other
    second = other if first is one else one
    return LifecycleRule(
        one.id,
        one.prefix,
        one.enabled,
        first.expiration_days,
        second.transition_days,
        second.transition_storage,
    )
