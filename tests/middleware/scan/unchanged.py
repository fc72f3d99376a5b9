"""What every refused put must leave as it was."""

from __future__ import annotations

from pathlib import Path

from trove_async import Trove


async def assert_unchanged(store: Trove, root: Path) -> None:
    """Only the old object is there; nothing of another is staged under ``root``."""
    assert [info.key for info in (await store.list_page(None)).objects] == ["k"]
    assert await store.get_bytes(None, "k") == b"old"
    assert (await store.head(None, "k")).metadata == {"is": "old"}
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    assert sum(sizes) <= len(b"old"), f"something is staged: {sizes}"
