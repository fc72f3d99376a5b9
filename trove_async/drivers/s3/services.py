"""Batch deletes, tags and lifecycle rules."""

from __future__ import annotations

import builtins
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trove_async.driver import DeleteOptions
from trove_async.drivers.s3.base import S3Base
from trove_async.drivers.s3.faults import Refusal, error_of
from trove_async.errors import InvalidKeyError, ObjectNotFoundError, TroveError, UnsupportedError
from trove_async.model import DeleteResult, LifecycleRule

__all__ = ["Services"]

_MOST: Final = 1000  # keys of one DeleteObjects
_NO_XML: Final = re.compile(r"[\x00-\x1f\ufffe\uffff]")  # cannot stand in its document


class Services(S3Base, ABC):
    @abstractmethod
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None: ...

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        """A request for each 1,000 keys; what XML cannot name is deleted one by one."""
        opened = self._now()
        errors: dict[str, TroveError] = {}
        plain: builtins.list[str] = []
        for key in dict.fromkeys(keys):
            try:
                opened.server.check_key(key)
                if _NO_XML.search(key) is None and not opened.server.has_folders:
                    plain.append(key)
                else:
                    await self.delete(bucket, key, DeleteOptions())
            except (InvalidKeyError, ObjectNotFoundError) as exc:
                if isinstance(exc, InvalidKeyError):
                    errors[key] = exc
        for start in range(0, len(plain), _MOST):
            group = [{"Key": key} for key in plain[start : start + _MOST]]
            answer = await opened.control(
                "delete_objects", bucket, Delete={"Objects": group, "Quiet": True}
            )
            for said in answer.get("Errors", ()):
                if said.get("Code") == "NoSuchKey":
                    continue
                refusal = Refusal(0, said.get("Code", ""), said.get("Message", ""), "")
                errors[said["Key"]] = error_of(refusal, bucket, said["Key"])
        return [DeleteResult(key, errors.get(key)) for key in keys]

    # -- tags ------------------------------------------------------------------------------

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        answer = await self._now().control("get_object_tagging", bucket, key)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        wanted = [{"Key": name, "Value": value} for name, value in tags.items()]
        await self._now().control("put_object_tagging", bucket, key, Tagging={"TagSet": wanted})

    # -- lifecycle -------------------------------------------------------------------------

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replaces all rules, those too that `get_lifecycle` cannot show."""
        opened = self._now()
        if not rules:
            await opened.control("delete_bucket_lifecycle", bucket)
            return
        wanted = [_written(rule) for rule in rules]
        await opened.control(
            "put_bucket_lifecycle_configuration",
            bucket,
            LifecycleConfiguration={"Rules": wanted},
        )

    async def get_lifecycle(self, bucket: str) -> builtins.list[LifecycleRule]:
        """Rules that do something else than expire or move objects by age are left out."""
        try:
            answer = await self._now().control("get_bucket_lifecycle_configuration", bucket)
        except TroveError as exc:
            cause = exc.__cause__
            if isinstance(cause, Refusal) and cause.code == "NoSuchLifecycleConfiguration":
                return []
            raise
        return [rule for entry in answer.get("Rules", ()) if (rule := _read(entry)) is not None]


def _written(rule: LifecycleRule) -> dict[str, Any]:
    if rule.expiration_days == 0:
        raise UnsupportedError("S3 expires objects after one day at the earliest", backend="s3")
    entry: dict[str, Any] = {
        "ID": rule.id,
        "Filter": {"Prefix": rule.prefix},
        "Status": "Enabled" if rule.enabled else "Disabled",
    }
    if rule.expiration_days is not None:
        entry["Expiration"] = {"Days": rule.expiration_days}
    if rule.transition_days is not None:
        entry["Transitions"] = [
            {"Days": rule.transition_days, "StorageClass": rule.transition_storage}
        ]
    return entry


def _read(entry: Mapping[str, Any]) -> LifecycleRule | None:
    transitions = entry.get("Transitions") or [{}]
    days = entry.get("Expiration", {}).get("Days")
    moved, storage = transitions[0].get("Days"), transitions[0].get("StorageClass")
    if days is None and moved is None:
        return None
    prefix = entry.get("Filter", {}).get("Prefix", entry.get("Prefix", ""))
    return LifecycleRule(
        entry.get("ID") or "unnamed",
        prefix,
        entry.get("Status") == "Enabled",
        days,
        moved,
        None if moved is None else storage,
    )
