"""Events of a bucket, by way of an SQS queue."""

from __future__ import annotations

import asyncio
import json
import secrets
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote_plus

from trove_async.driver import ListOptions, WatchOptions
from trove_async.driver.events import EventQueue
from trove_async.driver.finishing import finished
from trove_async.drivers.s3.base import Opened, S3Base
from trove_async.drivers.s3.sdk import Control
from trove_async.errors import BucketNotFoundError, ObjectNotFoundError, TroveError
from trove_async.model import EventType, ObjectEvent, ObjectPage

__all__ = ["Watches"]

_KINDS: Final = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
_KNOWN: Final = 100_000
_REMEMBERED: Final = 10_000  # message ids: SQS may deliver twice
_WAIT: Final = 5  # seconds that SQS holds a request open
_PAUSE: Final = 1.0
_CLEAN_UP: Final = 15.0


class Watches(S3Base, ABC):
    @abstractmethod
    async def list(self, bucket: str, options: ListOptions) -> ObjectPage: ...

    async def watch(self, bucket: str, options: WatchOptions) -> Watch:
        """S3 does not say whether an object is new: the first 100,000 keys of the prefix are
        listed when the watch begins, past them an update may be told as a creation. AWS allows
        one watch per prefix of a bucket, but for those of a configured queue."""
        opened = self._now()
        try:
            await opened.control("head_bucket", bucket)
        except ObjectNotFoundError as exc:
            raise BucketNotFoundError("no such bucket", bucket=bucket) from exc.__cause__
        control = Control(
            await opened.connection.shared_client("sqs"),
            opened.connection.ring,
            opened.connection.limiter,
        )
        watch = Watch(opened, control, bucket, options, self.config.queue)
        try:
            await watch.begin()
            known: set[str] = set()
            cursor: str | None = None
            while len(known) < _KNOWN:
                page = await self.list(bucket, ListOptions(options.prefix, cursor=cursor))
                known.update(info.key for info in page.objects)
                cursor = page.cursor
                if cursor is None:
                    break
            watch.follow(known)
        except BaseException:
            await watch.aclose()
            raise
        return watch


class Watch:
    """An async iterator of events. `aclose` ends it and takes a queue of its own away."""

    def __init__(
        self,
        opened: Opened,
        sqs: Control,
        bucket: str,
        options: WatchOptions,
        queue: str | None,
    ) -> None:
        self._opened = opened
        self._sqs = sqs
        self._bucket = bucket
        self._options = options
        self._url = queue
        self._is_own = queue is None
        self._id = f"trove-{secrets.token_hex(8)}"
        self._events = EventQueue(bucket, options.buffer)
        self._known: set[str] = set()
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._closing: asyncio.Future[None] | None = None

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> ObjectEvent:
        try:
            return await self._events.__anext__()
        except StopAsyncIteration:
            if self._error is not None:
                raise self._error from None
            raise

    async def begin(self) -> None:
        """Returns once events go into the queue."""
        self._opened.watches.append(self)
        if not self._is_own:
            return
        made = await self._sqs("create_queue", QueueName=self._id)
        self._url = made["QueueUrl"]
        told = await self._sqs(
            "get_queue_attributes", QueueUrl=self._url, AttributeNames=["QueueArn"]
        )
        arn = told["Attributes"]["QueueArn"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "s3.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{self._bucket}"}},
                }
            ],
        }
        await self._sqs(
            "set_queue_attributes",
            QueueUrl=self._url,
            Attributes={"Policy": json.dumps(policy)},
        )
        entry: dict[str, Any] = {"Id": self._id, "QueueArn": arn, "Events": _KINDS}
        if self._options.prefix:
            rules = [{"Name": "prefix", "Value": self._options.prefix}]
            entry["Filter"] = {"Key": {"FilterRules": rules}}
        await self._configure(entry)

    async def _configure(self, added: dict[str, Any] | None) -> None:
        """S3 knows only whole configurations: read, changed, written, one after the other."""
        async with self._opened.configuring:
            control = self._opened.control
            now = await control("get_bucket_notification_configuration", self._bucket)
            now.pop("ResponseMetadata", None)
            queues = [q for q in now.get("QueueConfigurations", ()) if q.get("Id") != self._id]
            if added is not None:
                queues.append(added)
            now["QueueConfigurations"] = queues
            if not queues:
                del now["QueueConfigurations"]
            await control(
                "put_bucket_notification_configuration",
                self._bucket,
                NotificationConfiguration=now,
            )

    def follow(self, known: set[str]) -> None:
        self._known = known
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            while True:
                try:
                    got = await self._sqs(
                        "receive_message",
                        QueueUrl=self._url,
                        MaxNumberOfMessages=10,
                        WaitTimeSeconds=_WAIT,
                    )
                except TroveError as exc:
                    if not exc.retryable:
                        raise
                    await asyncio.sleep(_PAUSE)
                    continue
                messages = got.get("Messages", ())
                if not messages:
                    continue
                self._take(messages)
                entries = [
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages)
                ]
                await self._sqs("delete_message_batch", QueueUrl=self._url, Entries=entries)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # raised to whoever waits for the next event
            self._error = exc
        finally:
            self._events.close()

    def _take(self, messages: list[dict[str, Any]]) -> None:
        records: list[dict[str, Any]] = []
        for message in messages:
            if message["MessageId"] in self._seen:
                continue
            self._seen.append(message["MessageId"])
            try:
                body = json.loads(message["Body"])
                records += body.get("Records", ())
            except (ValueError, AttributeError, TypeError):
                continue  # the test message, or not ours
        records.sort(key=lambda record: str(record.get("eventTime", "")))
        for record in records:
            self._tell(record)

    def _tell(self, record: dict[str, Any]) -> None:
        try:
            name = str(record["eventName"]).removeprefix("s3:")
            bucket = record["s3"]["bucket"]["name"]
            key = unquote_plus(record["s3"]["object"]["key"])
        except (KeyError, TypeError):
            return
        if bucket != self._bucket or not key.startswith(self._options.prefix):
            return
        kind: EventType
        if name.startswith("ObjectRemoved:"):
            kind = "object.deleted"
            self._known.discard(key)
        elif name.startswith("ObjectCreated:"):
            kind = "object.updated" if key in self._known else "object.created"
            self._known.add(key)
        else:
            return
        if self._options.events is None or kind in self._options.events:
            self._events.push(kind, key, None)

    async def aclose(self) -> None:
        """Whoever comes second waits for the first."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._end())
        await finished(self._closing, grace=_CLEAN_UP, limit=2 * _CLEAN_UP)

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._events.aclose()
        if self in self._opened.watches:
            self._opened.watches.remove(self)
        if not self._is_own:
            return
        with suppress(TroveError):  # the bucket is gone, and its configuration with it
            await self._configure(None)
        if self._url is not None:
            with suppress(TroveError):
                await self._sqs("delete_queue", QueueUrl=self._url)
