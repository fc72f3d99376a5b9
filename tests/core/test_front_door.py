"""What the package gives at its front door: the promised names, nothing by accident."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import trove_async
from trove_async import Bucket, Trove, driver, drivers, errors, middleware

PROMISED = [
    "open",
    "Trove",
    "Bucket",
    "Opening",
    "ObjectReader",
    "RouteFunction",
    "Uploads",
    "UploadSession",
    "RetryPolicy",
    "Timeouts",
    "DSN",
    "parse_dsn",
    "register",
    "lookup",
    "schemes",
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
    "capability",
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
    "Direction",
    "Stage",
    "Middleware",
    "WriteMiddleware",
    "ReadMiddleware",
    "Transform",
    "SeekableTransform",
    "RangeSource",
    "Layout",
    "Context",
    "Registration",
    "Interceptor",
    "Call",
    "everything",
    "buckets",
    "keys",
    "content_types",
    "when",
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
]


@pytest.mark.parametrize("name", PROMISED)
def test_each_promised_name_is_exported(name: str) -> None:
    assert name in trove_async.__all__
    assert getattr(trove_async, name) is not None


@pytest.mark.parametrize(
    "module", [trove_async, driver, middleware, errors], ids=lambda module: module.__name__
)
def test_all_names_each_name_once_and_nothing_else_is_public(module: ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        getattr(module, name)  # some are imported when they are first named
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    public -= {"annotations", "ClassVar", "TYPE_CHECKING"}
    assert public == set(module.__all__)


def test_a_star_import_gives_exactly_all() -> None:
    names: dict[str, object] = {}
    exec("from trove_async import *", names)
    assert set(names) - {"__builtins__"} == set(trove_async.__all__)


def test_the_drivers_are_named_in_their_modules() -> None:
    from trove_async.drivers.local import LocalConfig, LocalDriver
    from trove_async.drivers.memory import MemoryDriver

    assert callable(LocalDriver.from_dsn)
    assert callable(MemoryDriver.from_dsn)
    assert inspect.isclass(LocalConfig)
    assert drivers.__name__ == "trove_async.drivers"


VERBS = [
    "put",
    "get",
    "get_bytes",
    "get_ranges",
    "head",
    "exists",
    "delete",
    "delete_many",
    "list",
    "list_page",
    "copy",
    "move",
    "create_bucket",
    "delete_bucket",
    "versions",
    "restore",
    "get_tags",
    "set_tags",
    "get_lifecycle",
    "set_lifecycle",
    "presign_get",
    "presign_put",
    "watch",
]
STORE = [
    "list_buckets",
    "bucket",
    "backend",
    "driver",
    "use",
    "remove",
    "registrations",
    "ping",
    "aopen",
    "aclose",
]


@pytest.mark.parametrize("name", VERBS + STORE)
def test_the_store_has_each_verb(name: str) -> None:
    assert hasattr(Trove, name)


def parameters(function: object) -> dict[str, tuple[object, object]]:
    assert callable(function)
    found = inspect.signature(function).parameters
    return {name: (item.kind, item.default) for name, item in found.items()}


@pytest.mark.parametrize("name", VERBS)
def test_a_bucket_has_each_verb_of_the_store_without_its_bucket_argument(name: str) -> None:
    of_store, of_bucket = parameters(getattr(Trove, name)), parameters(getattr(Bucket, name))
    if name in ("copy", "move"):
        for ours, theirs in (("src_key", "key"), ("src_bucket", ""), ("dst_bucket", "")):
            kind = of_store.pop(ours)
            if theirs:
                of_store[theirs] = kind
        assert of_bucket.pop("dst_bucket") == (inspect.Parameter.KEYWORD_ONLY, None)
    else:
        of_store.pop("name" if "bucket" not in of_store else "bucket")
    assert of_bucket == of_store


OPTIONS = {
    "put": "content_type metadata tags storage_class size checksum if_none_match if_match raw"
    " part_size concurrency",
    "get": "range version_id if_match if_none_match if_modified_since raw",
    "get_bytes": "range version_id",
    "get_ranges": "coalesce concurrency",
    "head": "version_id",
    "delete": "version_id if_match",
    "list": "prefix delimiter start_after limit page_size resolve",
    "list_page": "prefix delimiter start_after page_size cursor",
    "copy": "metadata content_type if_none_match",
    "move": "metadata content_type if_none_match",
    "create_bucket": "region",
    "delete_bucket": "force",
    "presign_get": "expires content_type filename",
    "presign_put": "expires content_type size checksum",
    "watch": "prefix events poll",
    "use": "scope direction priority",
    "remove": "scope",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_verb_takes_the_promised_options_by_name(name: str) -> None:
    named = {
        option
        for option, (kind, _) in parameters(getattr(Trove, name)).items()
        if kind == inspect.Parameter.KEYWORD_ONLY
    }
    assert set(OPTIONS[name].split()) <= named


def test_open_and_the_store_take_the_same_options() -> None:
    of_open, of_store = parameters(trove_async.open), parameters(Trove.__init__)
    of_open.pop("target")
    of_store.pop("self")
    of_store.pop("driver")
    assert of_open == of_store


def test_every_public_thing_says_what_it_is() -> None:
    silent = [
        name
        for name in ("open", "Trove", "Bucket", "Opening", "ObjectReader", "RetryPolicy")
        if not (getattr(trove_async, name).__doc__ or "").strip()
    ]
    assert silent == []


HEAVY = [
    "typer",
    "rich",
    "aiohttp",
    "aioboto3",
    "boto3",
    "botocore",
    "gcloud",
    "azure",
    "asyncssh",
    "sqlalchemy",
    "cryptography",
    "zstandard",
    "starlette",
    "fsspec",
    "opentelemetry",
    "watchfiles",
    "aiofiles",
    "pytest",
    "hypothesis",
    "typeid",
    "importlib.metadata",
    "tomllib",
    "mimetypes.guess",
    "trove_async.drivers.local",
    "trove_async.testing",
]


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, trove_async; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "trove_async" in loaded
    assert sorted(loaded & set(HEAVY)) == []
