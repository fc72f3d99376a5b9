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
    Owned,
    Owning,
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
    from trove_async.middleware.dedup import (
        Dedup,
        RestoreReport,
        SweepReport,
        by_bucket,
        one_space,
    )
    from trove_async.middleware.encrypt import (
        CachedKeyProvider,
        Encrypt,
        KeyProvider,
        Keyring,
        KeyState,
        RewrapReport,
        ScryptCost,
        TenantKeys,
        key_usage,
        one_for_all,
        rebind,
        rewrap,
        rewrap_bucket,
        verify_retired,
    )
    from trove_async.middleware.scan import (
        CLEAN,
        ClamAV,
        Scan,
        Scanner,
        ScanSession,
        Spooled,
        Verdict,
    )
    from trove_async.middleware.watermark import Watermark

_READY_MADE = {
    "CLEAN": "scan",
    "CachedKeyProvider": "encrypt",
    "ClamAV": "scan",
    "Compress": "compress",
    "Dedup": "dedup",
    "Encrypt": "encrypt",
    "KeyProvider": "encrypt",
    "KeyState": "encrypt",
    "Keyring": "encrypt",
    "RestoreReport": "dedup",
    "RewrapReport": "encrypt",
    "Scan": "scan",
    "ScanSession": "scan",
    "ScryptCost": "encrypt",
    "Scanner": "scan",
    "Spooled": "scan",
    "SweepReport": "dedup",
    "TenantKeys": "encrypt",
    "Verdict": "scan",
    "Watermark": "watermark",
    "by_bucket": "dedup",
    "one_space": "dedup",
    "verify_retired": "encrypt",
    "key_usage": "encrypt",
    "one_for_all": "encrypt",
    "rebind": "encrypt",
    "rewrap": "encrypt",
    "rewrap_bucket": "encrypt",
}

__all__ = [
    "CLEAN",
    "CachedKeyProvider",
    "Call",
    "ClamAV",
    "Compress",
    "Context",
    "Dedup",
    "Direction",
    "Edit",
    "Encrypt",
    "Guard",
    "Interceptor",
    "KeyProvider",
    "KeyState",
    "Keyring",
    "Layout",
    "Middleware",
    "Owned",
    "Owning",
    "Presenter",
    "RangeSource",
    "ReadMiddleware",
    "Registration",
    "Relocating",
    "RestoreReport",
    "RewrapReport",
    "Scan",
    "ScanSession",
    "Scanner",
    "Scope",
    "ScryptCost",
    "SeekableTransform",
    "Spooled",
    "Stage",
    "SweepReport",
    "TenantKeys",
    "Transform",
    "Verdict",
    "Watermark",
    "WriteMiddleware",
    "buckets",
    "by_bucket",
    "content_types",
    "everything",
    "key_usage",
    "keys",
    "one_for_all",
    "one_space",
    "rebind",
    "rewrap",
    "rewrap_bucket",
    "verify_retired",
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
