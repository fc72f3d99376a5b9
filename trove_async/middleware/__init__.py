"""Layers over object bodies: what they are, where they apply, how they are composed.

The ready-made ones are imported when they are first named, so that nobody pays for a
compressor or a cipher that is not used.
"""

from typing import TYPE_CHECKING

from trove_async.middleware.base import (
    Call,
    Direction,
    Edit,
    Guard,
    Interceptor,
    Layout,
    Middleware,
    Presenter,
    RangeSource,
    ReadMiddleware,
    Registration,
    Relocating,
    SeekableTransform,
    Stage,
    Transform,
    WriteMiddleware,
)
from trove_async.middleware.context import Context
from trove_async.middleware.scope import Scope, buckets, content_types, everything, keys, when

if TYPE_CHECKING:
    from trove_async.middleware.compress import Compress
    from trove_async.middleware.encrypt import (
        CachedKeyProvider,
        Encrypt,
        KeyProvider,
        Keyring,
        RewrapReport,
        key_usage,
        rebind,
        rewrap,
        rewrap_bucket,
    )
    from trove_async.middleware.scan import ClamAV, Scan, Scanner
    from trove_async.middleware.watermark import Watermark

_READY_MADE = {
    "CachedKeyProvider": "encrypt",
    "ClamAV": "scan",
    "Compress": "compress",
    "Encrypt": "encrypt",
    "KeyProvider": "encrypt",
    "Keyring": "encrypt",
    "RewrapReport": "encrypt",
    "Scan": "scan",
    "Scanner": "scan",
    "Watermark": "watermark",
    "key_usage": "encrypt",
    "rebind": "encrypt",
    "rewrap": "encrypt",
    "rewrap_bucket": "encrypt",
}

__all__ = [
    "CachedKeyProvider",
    "Call",
    "ClamAV",
    "Compress",
    "Context",
    "Direction",
    "Edit",
    "Encrypt",
    "Guard",
    "Interceptor",
    "KeyProvider",
    "Keyring",
    "Layout",
    "Middleware",
    "Presenter",
    "RangeSource",
    "ReadMiddleware",
    "Registration",
    "Relocating",
    "RewrapReport",
    "Scan",
    "Scanner",
    "Scope",
    "SeekableTransform",
    "Stage",
    "Transform",
    "Watermark",
    "WriteMiddleware",
    "buckets",
    "content_types",
    "everything",
    "key_usage",
    "keys",
    "rebind",
    "rewrap",
    "rewrap_bucket",
    "when",
]


def __getattr__(name: str) -> object:
    home = _READY_MADE.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
