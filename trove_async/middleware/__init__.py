"""Layers over object bodies: what they are, where they apply, how they are composed."""

from trove_async.middleware.base import (
    Call,
    Direction,
    Interceptor,
    Layout,
    Middleware,
    RangeSource,
    ReadMiddleware,
    Registration,
    SeekableTransform,
    Stage,
    Transform,
    WriteMiddleware,
)
from trove_async.middleware.context import Context
from trove_async.middleware.scope import Scope, buckets, content_types, everything, keys, when

__all__ = [
    "Call",
    "Context",
    "Direction",
    "Interceptor",
    "Layout",
    "Middleware",
    "RangeSource",
    "ReadMiddleware",
    "Registration",
    "Scope",
    "SeekableTransform",
    "Stage",
    "Transform",
    "WriteMiddleware",
    "buckets",
    "content_types",
    "everything",
    "keys",
    "when",
]
