"""Encryption of objects: the layer, where keys come from, and how they are rotated.

Imported name by name when first used, so that telling an encrypted object by its first bytes
(`message.recognise`) does not load a cipher.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trove_async.middleware.encrypt.keyring import Keyring, KeyState, ScryptCost
    from trove_async.middleware.encrypt.layer import Encrypt
    from trove_async.middleware.encrypt.provider import (
        CachedKeyProvider,
        KeyProvider,
        TenantKeys,
        one_for_all,
    )
    from trove_async.middleware.encrypt.rewrapping import (
        RewrapReport,
        rebind,
        rewrap,
        rewrap_bucket,
    )
    from trove_async.middleware.encrypt.usage import (
        KeyUsage,
        RetirementReport,
        key_usage,
        verify_retired,
    )

_HOMES = {
    "CachedKeyProvider": "provider",
    "Encrypt": "layer",
    "KeyProvider": "provider",
    "KeyState": "keyring",
    "KeyUsage": "usage",
    "Keyring": "keyring",
    "RetirementReport": "usage",
    "RewrapReport": "rewrapping",
    "ScryptCost": "keyring",
    "TenantKeys": "provider",
    "key_usage": "usage",
    "one_for_all": "provider",
    "rebind": "rewrapping",
    "rewrap": "rewrapping",
    "rewrap_bucket": "rewrapping",
    "verify_retired": "usage",
}

__all__ = [
    "CachedKeyProvider",
    "Encrypt",
    "KeyProvider",
    "KeyState",
    "KeyUsage",
    "Keyring",
    "RetirementReport",
    "RewrapReport",
    "ScryptCost",
    "TenantKeys",
    "key_usage",
    "one_for_all",
    "rebind",
    "rewrap",
    "rewrap_bucket",
    "verify_retired",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
