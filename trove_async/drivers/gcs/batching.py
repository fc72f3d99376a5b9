"""Many deletes in one request.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import builtins
import re
import secrets
from collections.abc import Sequence
from typing import Final

from trove_async._together import side_by_side
from trove_async.drivers.gcs.base import GCSBase, Opened
from trove_async.drivers.gcs.faults import error_of, refusal_of
from trove_async.drivers.gcs.info import check_key, json_path
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    InvalidKeyError,
    ObjectNotFoundError,
    TroveError,
)
from trove_async.model import DeleteResult

__all__ = ["Batches"]

_MOST: Final = 100  # calls of one batch
_BOUNDARY: Final = re.compile(r'boundary="?([^";]{1,200})"?')
_NUMBER: Final = re.compile(rb"(?im)^content-id:\s*<response-(\d{1,4})>")
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")


class Batches(GCSBase):
    async def delete_many(self, bucket: str, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        """A request for each 100 keys, ``concurrency`` of them at once."""
        opened = self._now()
        errors: dict[str, TroveError] = {}
        wanted: builtins.list[str] = []
        for key in dict.fromkeys(keys):
            try:
                check_key(bucket, key)
            except InvalidKeyError as exc:
                errors[key] = exc
            else:
                wanted.append(key)
        targets = [(key, json_path(bucket, key)) for key in wanted]
        errors.update(await self._batched(opened, bucket, targets))
        return [DeleteResult(key, errors.get(key)) for key in keys]

    async def _batched(
        self, opened: Opened, bucket: str, targets: Sequence[tuple[str, str]]
    ) -> dict[str, TroveError]:
        """Deletes (key, path and query) each; the errors by key. What is not there is none."""
        errors: dict[str, TroveError] = {}

        async def one(group: Sequence[tuple[str, str]]) -> None:
            errors.update(await self._batch(opened, bucket, group))

        groups = [targets[at : at + _MOST] for at in range(0, len(targets), _MOST)]
        await side_by_side(groups, one, self.config.concurrency)
        return errors

    async def _batch(
        self, opened: Opened, bucket: str, targets: Sequence[tuple[str, str]]
    ) -> dict[str, TroveError]:
        mark = f"batch_{secrets.token_hex(8)}"
        body = "".join(
            f"--{mark}\r\nContent-Type: application/http\r\nContent-ID: <{number}>\r\n\r\n"
            f"DELETE {target} HTTP/1.1\r\n\r\n\r\n"
            for number, (_, target) in enumerate(targets)
        )
        data = f"{body}--{mark}--\r\n".encode()
        response = await opened.client.open(
            "POST",
            "/batch/storage/v1",
            bucket,
            headers={"content-type": f"multipart/mixed; boundary={mark}"},
            pieces=[data],
            size=len(data),
        )
        kind = response.headers.get("content-type", "")
        answers = _answers(kind, await opened.client.read(response, bucket, ""))
        errors: dict[str, TroveError] = {}
        for number, (key, _) in enumerate(targets):
            if number not in answers:
                raise BackendError("a batch was answered in part", bucket=bucket)
            status, document = answers[number]
            if status < 300:
                continue
            error = error_of(refusal_of(status, document, "", None), bucket, key)
            if isinstance(error, BucketNotFoundError):
                raise error
            if not isinstance(error, ObjectNotFoundError):
                errors[key] = error
        return errors


def _answers(content_type: str, body: bytes) -> dict[int, tuple[int, bytes]]:
    """Number of a call -> (status, document)."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BackendError("a batch was answered in another form")
    answers: dict[int, tuple[int, bytes]] = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + found[1].encode())[1:-1]:
        number, status = _NUMBER.search(piece), _STATUS.search(piece)
        if number is None or status is None:
            raise BackendError("a batch was answered in another form")
        answers[int(number[1])] = int(status[1]), piece.rpartition(b"\r\n\r\n")[2]
    return answers
