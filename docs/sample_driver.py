"""A whole driver: objects in an SQLite database in memory, where no call blocks."""

import builtins
import json
import sqlite3
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import trove_async as trove
from trove_async.driver.conditions import check_read, check_write
from trove_async.driver.listing import page_of

PIECE = 1024 * 1024
SCHEMA = """
CREATE TABLE bucket (name TEXT PRIMARY KEY);
CREATE TABLE object (bucket TEXT, key TEXT, etag TEXT, type TEXT, time TEXT, metadata TEXT,
                     data BLOB, PRIMARY KEY (bucket, key));
"""
ROW = "SELECT key, etag, type, time, metadata, length(data) FROM object WHERE bucket = ?"
DATA = "SELECT data FROM object WHERE bucket = ? AND key = ?"


class SQLiteDriver:
    name = "sqlite"
    in_memory = True  # bodies are: cases about memory do not apply
    features = trove.Features(
        listing_has_metadata=True, late_metadata=True, conditional=frozenset({"create", "match"})
    )

    _connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            self._connection.executescript(SCHEMA)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def ping(self) -> None:
        self._sql("SELECT 1")

    def _sql(self, text: str, *values: object) -> builtins.list[tuple[Any, ...]]:
        if self._connection is None:
            raise trove.DriverClosedError("the driver is not open")
        try:
            return self._connection.execute(text, values).fetchall()
        except sqlite3.Error as exc:
            raise trove.BackendError("the database refuses") from exc

    async def put(
        self, bucket: str, key: str, body: trove.Chunks, options: trove.PutOptions
    ) -> trove.ObjectInfo:
        if options.storage_class is not None:
            raise trove.UnsupportedError("there are no storage classes here")
        self._check(bucket, key, options.if_match, options.if_none_match)  # before the body moves
        data = b"".join([bytes(chunk) async for chunk in body])
        self._check(bucket, key, options.if_match, options.if_none_match)  # the one that counts
        metadata = {**options.metadata, **(options.late() if options.late is not None else {})}
        return self._publish(bucket, key, data, options.content_type, metadata)

    async def get(self, bucket: str, key: str, options: trove.GetOptions) -> trove.RawObject:
        info = self._info(bucket, key, options.version_id)
        check_read(options, info)
        start, stop = (options.range or trove.ByteRange(0)).resolve(info.size)
        data = memoryview(self._sql(DATA, bucket, key)[0][0])[start:stop]
        return trove.RawObject(info, _pieces(data), start, stop)

    async def head(self, bucket: str, key: str, options: trove.HeadOptions) -> trove.ObjectInfo:
        return self._info(bucket, key, options.version_id)

    async def delete(self, bucket: str, key: str, options: trove.DeleteOptions) -> None:
        self._allow(bucket, options.version_id)
        self._check(bucket, key, options.if_match, None)
        self._sql("DELETE FROM object WHERE bucket = ? AND key = ?", bucket, key)

    async def list(self, bucket: str, options: trove.ListOptions) -> trove.ObjectPage:
        self._allow(bucket)
        rows = self._sql(f"{ROW} AND key >= ? ORDER BY key", bucket, options.prefix)
        known = {row[0]: row for row in rows}
        keys, prefixes, cursor = page_of([*known], options)
        return trove.ObjectPage([_read(known[key]) for key in keys], prefixes, cursor)

    async def copy(
        self, source: trove.ObjectRef, target: trove.ObjectRef, options: trove.CopyOptions
    ) -> trove.ObjectInfo:
        info = self._info(source.bucket, source.key)
        if options.source_if_match not in (None, info.etag):
            raise trove.ObjectChangedError("the source has changed")
        self._check(target.bucket, target.key, None, options.if_none_match)
        metadata = dict(info.metadata if options.metadata is None else options.metadata)
        data, kind = self._sql(DATA, source.bucket, source.key)[0][0], options.content_type
        return self._publish(target.bucket, target.key, data, kind or info.content_type, metadata)

    async def create_bucket(self, name: str, options: trove.BucketOptions) -> None:
        if options.region is not None:
            raise trove.UnsupportedError("there are no regions here")
        if self._sql("SELECT 1 FROM bucket WHERE name = ?", name):
            raise trove.BucketExistsError("the bucket exists already", bucket=name)
        self._sql("INSERT INTO bucket VALUES (?)", name)

    async def delete_bucket(self, name: str) -> None:
        self._allow(name)
        if self._sql("SELECT 1 FROM object WHERE bucket = ? LIMIT 1", name):
            raise trove.BucketNotEmptyError("the bucket holds objects", bucket=name)
        self._sql("DELETE FROM bucket WHERE name = ?", name)

    async def list_buckets(self) -> builtins.list[trove.BucketInfo]:
        return [trove.BucketInfo(*row) for row in self._sql("SELECT * FROM bucket ORDER BY name")]

    def _allow(self, bucket: str, version_id: str | None = None) -> None:
        if version_id is not None:
            raise trove.UnsupportedError("no versions are kept here")
        if not self._sql("SELECT 1 FROM bucket WHERE name = ?", bucket):
            raise trove.BucketNotFoundError("no such bucket", bucket=bucket)

    def _info(self, bucket: str, key: str, version: str | None = None) -> trove.ObjectInfo:
        self._allow(bucket, version)
        if row := self._sql(f"{ROW} AND key = ?", bucket, key):
            return _read(row[0])
        raise trove.ObjectNotFoundError("no such object", bucket=bucket, key=key)

    def _check(self, bucket: str, key: str, match: str | None, none_match: str | None) -> None:
        self._allow(bucket)
        rows = self._sql(f"{ROW} AND key = ?", bucket, key)
        check_write(match, none_match, rows[0][1] if rows else None)

    def _publish(
        self, bucket: str, key: str, data: bytes, content_type: str, metadata: dict[str, str]
    ) -> trove.ObjectInfo:
        now, text = datetime.now(UTC).isoformat(), json.dumps(metadata)
        row = (bucket, key, uuid4().hex, content_type, now, text, data)
        self._sql("REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
        return self._info(bucket, key)


def _read(row: tuple[Any, ...]) -> trove.ObjectInfo:
    key, etag, kind, time, metadata, size = row
    when = datetime.fromisoformat(time)
    return trove.ObjectInfo(key, size, size, kind, etag, when, json.loads(metadata))


async def _pieces(data: memoryview) -> AsyncGenerator[memoryview, None]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]
