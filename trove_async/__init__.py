"""Asyncio-native object storage: one API over memory, disk and the clouds."""

from typing import TYPE_CHECKING

from trove_async import errors as _errors
from trove_async._opening import Opening
from trove_async._router import RouteFunction
from trove_async._store.bucket import Bucket
from trove_async._store.reader import ObjectReader
from trove_async._trove import Trove, open
from trove_async.config import PoolConfig, RetryPolicy, Timeouts
from trove_async.driver import (
    DSN,
    BatchDeleteDriver,
    BucketOptions,
    ByteRange,
    Chunks,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    LifecycleDriver,
    ListOptions,
    MoveDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    PutOptions,
    RangeDriver,
    RawObject,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    WatchOptions,
    capability,
    lookup,
    parse_dsn,
    register,
    schemes,
)
from trove_async.errors import *  # noqa: F403 -- the whole tree, named by errors.__all__
from trove_async.ids import (
    new_bucket_id,
    new_chunk_id,
    new_download_id,
    new_object_id,
    new_pool_id,
    new_stream_id,
    new_upload_id,
    new_version_id,
    parse_bucket_id,
    parse_chunk_id,
    parse_download_id,
    parse_id,
    parse_object_id,
    parse_pool_id,
    parse_stream_id,
    parse_upload_id,
    parse_version_id,
)
from trove_async.middleware import (
    Call,
    Context,
    Direction,
    Interceptor,
    Layout,
    Middleware,
    RangeSource,
    ReadMiddleware,
    Registration,
    Scope,
    SeekableTransform,
    Stage,
    Transform,
    WriteMiddleware,
    buckets,
    content_types,
    everything,
    keys,
    when,
)
from trove_async.model import (
    BucketInfo,
    CommonPrefix,
    DeleteResult,
    Health,
    KiB,
    LifecycleRule,
    MiB,
    ObjectEvent,
    ObjectInfo,
    ObjectPage,
    ObjectRef,
    PartInfo,
    PresignedRequest,
    UploadInfo,
    VersionInfo,
)
from trove_async.stream.settings import Backpressure, StreamDirection, StreamState

if TYPE_CHECKING:
    from trove_async._transfers.session import UploadSession
    from trove_async._transfers.uploads import Uploads
    from trove_async.cas import (
        CAS,
        BlobInfo,
        FastCDC,
        GCResult,
        RebuildReport,
        StoredBlob,
        VerifyReport,
    )
    from trove_async.stream import (
        Chunk,
        ChunkPool,
        ChunkPoolStats,
        Pool,
        PoolMetrics,
        Progress,
        Stream,
        StreamMetrics,
        StreamResult,
    )
    from trove_async.vfs import File, FileInfo, FileSystem, TrovePath

_LATER = {  # loaded when they are first named: most who import this use no stream
    "CAS": "cas",
    "BlobInfo": "cas",
    "FastCDC": "cas",
    "GCResult": "cas",
    "RebuildReport": "cas",
    "StoredBlob": "cas",
    "VerifyReport": "cas",
    "Chunk": "stream",
    "ChunkPool": "stream",
    "ChunkPoolStats": "stream",
    "Pool": "stream",
    "PoolMetrics": "stream",
    "File": "vfs",
    "FileInfo": "vfs",
    "FileSystem": "vfs",
    "Progress": "stream",
    "Stream": "stream",
    "StreamMetrics": "stream",
    "StreamResult": "stream",
    "TrovePath": "vfs",
    "UploadSession": "_transfers.session",
    "Uploads": "_transfers.uploads",
}

__version__ = "0.1.0"

__all__ = [
    # opening a store
    "open",
    "Trove",
    "Bucket",
    "Opening",
    "ObjectReader",
    "RetryPolicy",
    "Timeouts",
    "RouteFunction",
    "Uploads",
    "UploadSession",
    # content by its digest
    "CAS",
    "FastCDC",
    "StoredBlob",
    "BlobInfo",
    "GCResult",
    "VerifyReport",
    "RebuildReport",
    # sizes in bytes
    "KiB",
    "MiB",
    # records
    "ObjectInfo",
    "ObjectPage",
    "CommonPrefix",
    "BucketInfo",
    "ObjectRef",
    "VersionInfo",
    "PartInfo",
    "UploadInfo",
    "ObjectEvent",
    "DeleteResult",
    "LifecycleRule",
    "PresignedRequest",
    "Health",
    # layers
    "Middleware",
    "WriteMiddleware",
    "ReadMiddleware",
    "Transform",
    "SeekableTransform",
    "Layout",
    "RangeSource",
    "Context",
    "Direction",
    "Stage",
    "Registration",
    "Scope",
    "everything",
    "buckets",
    "keys",
    "content_types",
    "when",
    "Interceptor",
    "Call",
    # paths
    "FileSystem",
    "File",
    "FileInfo",
    "TrovePath",
    # streams
    "Stream",
    "StreamDirection",
    "StreamState",
    "StreamMetrics",
    "StreamResult",
    "Backpressure",
    "Progress",
    "Chunk",
    "ChunkPool",
    "ChunkPoolStats",
    "Pool",
    "PoolConfig",
    "PoolMetrics",
    # drivers
    "Driver",
    "Chunks",
    "RawObject",
    "Features",
    "ByteRange",
    "PutOptions",
    "GetOptions",
    "HeadOptions",
    "DeleteOptions",
    "ListOptions",
    "CopyOptions",
    "BucketOptions",
    "WatchOptions",
    "MultipartDriver",
    "RangeDriver",
    "PresignDriver",
    "VersioningDriver",
    "NotificationDriver",
    "LifecycleDriver",
    "ServerCopyDriver",
    "MoveDriver",
    "BatchDeleteDriver",
    "TaggingDriver",
    "capability",
    "DSN",
    "parse_dsn",
    "register",
    "lookup",
    "schemes",
    # ids
    "new_object_id",
    "new_bucket_id",
    "new_upload_id",
    "new_download_id",
    "new_stream_id",
    "new_pool_id",
    "new_version_id",
    "new_chunk_id",
    "parse_id",
    "parse_object_id",
    "parse_bucket_id",
    "parse_upload_id",
    "parse_download_id",
    "parse_stream_id",
    "parse_pool_id",
    "parse_version_id",
    "parse_chunk_id",
    # errors
    *_errors.__all__,
]


def __getattr__(name: str) -> object:
    home = _LATER.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
