"""The tables of the SQL catalog, and the steps that made them. A step is never changed once
released; a new one is added."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

__all__ = [
    "MIGRATIONS",
    "blobs",
    "orphans",
    "parts",
    "pins",
    "refs",
    "sessions",
    "uploads",
    "version",
]

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
    (
        """CREATE TABLE trove_cas_blob (
            space TEXT NOT NULL,
            digest TEXT NOT NULL,
            gen INTEGER NOT NULL,
            size BIGINT NOT NULL,
            stored_size BIGINT NOT NULL,
            state INTEGER NOT NULL CHECK (state IN (0, 1, 2, 3, 4)),
            refs BIGINT NOT NULL CHECK (refs >= 0),
            zero_since BIGINT,
            state_since BIGINT NOT NULL,
            writer_lease BIGINT,
            damaged INTEGER NOT NULL,
            PRIMARY KEY (space, digest)
        )""",
        "CREATE INDEX trove_cas_blob_size ON trove_cas_blob (space, size)",
        "CREATE INDEX trove_cas_blob_unwanted ON trove_cas_blob (space, digest) "
        "WHERE refs = 0 OR state <> 1",
        """CREATE TABLE trove_cas_ref (
            space TEXT NOT NULL,
            digest TEXT NOT NULL,
            owner TEXT NOT NULL,
            PRIMARY KEY (space, digest, owner)
        )""",
        """CREATE TABLE trove_cas_pin (
            id TEXT NOT NULL,
            space TEXT NOT NULL,
            digest TEXT NOT NULL,
            expires_at BIGINT,
            reason TEXT NOT NULL,
            PRIMARY KEY (space, id)
        )""",
        "CREATE INDEX trove_cas_pin_digest ON trove_cas_pin (space, digest)",
        """CREATE TABLE trove_cas_upload (
            id TEXT NOT NULL,
            space TEXT NOT NULL,
            tmp_key TEXT NOT NULL,
            lease_expires BIGINT NOT NULL,
            PRIMARY KEY (space, id)
        )""",
        "CREATE INDEX trove_cas_upload_key ON trove_cas_upload (space, tmp_key)",
        """CREATE TABLE trove_cas_orphan (
            space TEXT NOT NULL,
            object_key TEXT NOT NULL,
            first_seen BIGINT NOT NULL,
            last_seen BIGINT NOT NULL,
            PRIMARY KEY (space, object_key)
        )""",
    ),
    (
        "ALTER TABLE trove_cas_blob ADD COLUMN manifest TEXT",
        "CREATE INDEX trove_cas_ref_chunk ON trove_cas_ref (space, owner, digest) "
        "WHERE substr(owner, 1, 9) = 'manifest:'",
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

blobs = Table(
    "trove_cas_blob",
    _metadata,
    Column("space", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("gen", Integer),
    Column("size", BigInteger),
    Column("stored_size", BigInteger),
    Column("state", Integer),
    Column("refs", BigInteger),  # how many rows of `refs` there are; counted again by verify
    Column("zero_since", BigInteger),
    Column("state_since", BigInteger),
    Column("writer_lease", BigInteger),
    Column("damaged", Integer),
    Column("manifest", Text),
)

refs = Table(
    "trove_cas_ref",
    _metadata,
    Column("space", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
)

pins = Table(
    "trove_cas_pin",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("digest", Text),
    Column("expires_at", BigInteger),
    Column("reason", Text),
)

uploads = Table(
    "trove_cas_upload",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("space", Text, primary_key=True),
    Column("tmp_key", Text),
    Column("lease_expires", BigInteger),
)

orphans = Table(
    "trove_cas_orphan",
    _metadata,
    Column("space", Text, primary_key=True),
    Column("object_key", Text, primary_key=True),
    Column("first_seen", BigInteger),
    Column("last_seen", BigInteger),
)
