"""What the parts of the file system share."""

from __future__ import annotations

from trove_async import Trove
from trove_async.fsspec.holding import Holder
from trove_async.fsspec.sdk import AsyncFileSystem

__all__ = ["Base"]


class Base(AsyncFileSystem):  # type: ignore[misc]  # the library has no types
    _holder: Holder
    _resolve: bool | None

    async def _store(self) -> Trove:
        return await self._holder.store()

    def _resolves(self, store: Trove) -> bool:
        """Whether entries of a listing are completed at a request each: their sizes would else
        be those of the stored bytes where a backend lists no metadata."""
        if self._resolve is None:
            layers = (registration.middleware for registration in store.registrations())
            return any(getattr(layer, "encoding", None) is not None for layer in layers)
        return self._resolve

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forgets listings: all, or those a change at ``path`` makes wrong."""
        super().invalidate_cache(path)
        if path is None:
            self.dircache.clear()
            return
        path = self._strip_protocol(path)
        while True:
            self.dircache.pop(path, None)
            if not path:
                return
            path = self._parent(path)
