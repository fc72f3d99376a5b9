"""The tables of the SQL catalog, and the steps that made them. A step is never changed once
released; a new one is added."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

__all__ = ["MIGRATIONS", "parts", "sessions", "version"]

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE trove_upload_sessions (
            id TEXT NOT NULL PRIMARY KEY,
            backend TEXT NOT NULL,
            bucket TEXT NOT NULL,
            object_key TEXT NOT NULL,
            fingerprint TEXT,
            plan TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            generation INTEGER NOT NULL,
            message TEXT,
            owner TEXT,
            leased_until BIGINT
        )""",
        "CREATE INDEX trove_upload_sessions_source ON trove_upload_sessions "
        "(bucket, object_key, fingerprint)",
        "CREATE INDEX trove_upload_sessions_expiry ON trove_upload_sessions (expires_at)",
        """CREATE TABLE trove_upload_parts (
            session TEXT NOT NULL,
            number INTEGER NOT NULL,
            digest TEXT NOT NULL,
            size BIGINT NOT NULL,
            etag TEXT,
            stored_size BIGINT NOT NULL,
            source BIGINT NOT NULL,
            source_digest TEXT NOT NULL,
            PRIMARY KEY (session, number)
        )""",
    ),
)
"""One tuple of statements per version, from version 1 on."""

_metadata = MetaData()

version = Table("trove_catalog", _metadata, Column("version", Integer))

sessions = Table(
    "trove_upload_sessions",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("backend", Text),
    Column("bucket", Text),
    Column("object_key", Text),
    Column("fingerprint", Text),
    Column("plan", Text),
    Column("created_at", BigInteger),  # microseconds since 1970, UTC, as all times here
    Column("expires_at", BigInteger),
    Column("generation", Integer),
    Column("message", Text),
    Column("owner", Text),
    Column("leased_until", BigInteger),
)

parts = Table(
    "trove_upload_parts",
    _metadata,
    Column("session", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", Text),
    Column("size", BigInteger),
    Column("etag", Text),
    Column("stored_size", BigInteger),
    Column("source", BigInteger),
    Column("source_digest", Text),
)
