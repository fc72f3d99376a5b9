"""The contract that drivers implement; the names a driver author needs."""

from trove_async.driver.base import Bytes, Chunks, Driver, Features, RawObject
from trove_async.driver.capabilities import (
    BatchDeleteDriver,
    Events,
    LifecycleDriver,
    MoveDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    capability,
)
from trove_async.driver.dsn import DSN, parse_dsn
from trove_async.driver.options import (
    BucketOptions,
    ByteRange,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
    WatchOptions,
)
from trove_async.driver.registry import lookup, register, schemes

__all__ = [
    "DSN",
    "BatchDeleteDriver",
    "BucketOptions",
    "ByteRange",
    "Bytes",
    "Chunks",
    "CopyOptions",
    "DeleteOptions",
    "Driver",
    "Events",
    "Features",
    "GetOptions",
    "HeadOptions",
    "LifecycleDriver",
    "ListOptions",
    "MoveDriver",
    "MultipartDriver",
    "NotificationDriver",
    "PresignDriver",
    "PutOptions",
    "RangeDriver",
    "RawObject",
    "ServerCopyDriver",
    "TaggingDriver",
    "VersioningDriver",
    "WatchOptions",
    "capability",
    "lookup",
    "parse_dsn",
    "register",
    "schemes",
]
