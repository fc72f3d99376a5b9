"""Encryption of objects: the layer, where keys come from, and how they are rotated.

Imported name by name when first used, so that telling an encrypted object by its first bytes
(`message.recognise`) does not load a cipher.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trove_async.middleware.encrypt.keyring import Keyring
    from trove_async.middleware.encrypt.layer import Encrypt
    from trove_async.middleware.encrypt.provider import CachedKeyProvider, KeyProvider, TenantKeys

_HOMES = {
    "CachedKeyProvider": "provider",
    "Encrypt": "layer",
    "KeyProvider": "provider",
    "Keyring": "keyring",
    "TenantKeys": "provider",
}

__all__ = ["CachedKeyProvider", "Encrypt", "KeyProvider", "Keyring", "TenantKeys"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
