"""The rooms: imports go strictly downward, drivers are strangers, libraries have one home."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "trove_async"

# Row of each room, by the longest matching prefix of the module path below trove_async.
ROWS = {
    "_quick": 1.0,
    "errors": 1.0,
    "ids": 1.1,
    "model": 1.1,
    "checksum": 2.0,
    "_globs": 2.0,
    "_together": 2.0,
    "_names": 2.0,
    "_threads": 2.1,
    "_chunks": 2.2,
    "_supply": 2.3,
    "driver": 3,
    "drivers": 4,
    "middleware": 4,
    "stream": 4,
    "cas": 5,
    "vfs": 5,
    "catalog": 5,
    # Row 6, itself in order: what is lower here may not import what is higher.
    "config": 6.0,
    "_opening": 2.0,
    "_store": 6.0,
    "_transfers": 6.0,
    "_store.record": 6.0,
    "_router": 6.0,
    "_store.requests": 6.0,
    "_store.watching": 6.0,
    "_store.layouts": 6.1,
    "_store.present": 6.1,
    "_store.reader": 6.1,
    "_store.seam": 6.1,
    "_store.backend": 6.2,
    "_store.buckets": 6.3,
    "_store.source": 6.3,
    "_store.listing": 6.3,
    "_store.reading": 6.35,
    "_store.owned": 6.37,
    "_store.accounted": 6.38,
    "_store.get": 6.4,
    "_store.put": 6.4,
    "_store.copy": 6.5,
    "_store.claims": 6.5,
    "_store.catalogs": 6.5,
    "_store.multipart": 6.5,
    "_transfers.proof": 6.5,
    "_transfers.feed": 6.5,
    "_store.core": 6.6,
    "_transfers.passage": 6.65,
    "_store.batch": 6.7,
    "_store.handle": 6.7,
    "_transfers.held": 6.7,
    "_transfers.session": 6.75,
    "_transfers.uploads": 6.8,
    "_store.objects": 6.8,
    "_transfers.progress": 6.5,
    "_transfers.partial": 6.5,
    "_transfers.staging": 6.5,
    "_transfers.download": 6.82,
    "_store.services": 6.85,
    "_store.cas": 6.853,
    "_transfers.files": 6.855,
    "_store.streaming": 6.86,
    "_store.connecting": 6.87,
    "_store.bucket": 6.87,
    "_trove": 6.9,
    "cli": 7,
    "asgi": 7,
    "fsspec": 7,
    "testing": 7,
}
# Rows whose rooms are strangers to each other.
STRANGERS = {4, 5}
# Third-party packages with one home each; None: anywhere below the room.
HOMES = {
    "typeid": {"ids"},
    "blake3": {"checksum"},
    "xxhash": {"checksum"},
    "watchfiles": {"drivers.local"},
    "asyncssh": {"drivers.sftp"},
    "aioboto3": {"drivers.s3"},
    "aiobotocore": {"drivers.s3"},
    "botocore": {"drivers.s3"},
    "yarl": {"drivers.s3", "drivers.gcs"},  # what aiohttp's URLs are
    "gcloud": {"drivers.gcs"},
    "jwt": {"drivers.gcs"},  # gcloud's own signer
    "google_crc32c": {"drivers.gcs"},
    "azure": {"drivers.azure"},
    "aiohttp": {"drivers.s3", "drivers.gcs", "drivers.azure"},  # all their SDKs stand on it
    "zstandard": {"middleware.compress"},
    "cryptography": {"middleware.encrypt"},
    "sqlalchemy": {"catalog"},
    "pyfastcdc": {"cas"},
    "fsspec": {"fsspec", "drivers.fsspec"},  # its face, and a driver over anything it speaks to
    "typer": {"cli"},
    "rich": {"cli"},
    "pytest": {"testing"},
    "hypothesis": {"testing"},
}


def modules() -> list[str]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in found if name]


def room_of(module: str) -> str:
    parts = module.split(".")
    return next(
        ".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in ROWS
    )


def imports_of(module: str) -> set[str]:
    """Absolute names imported by a module at any depth, but not under TYPE_CHECKING."""
    path = PACKAGE / (module.replace(".", "/") + ".py")
    if not path.exists():
        path = PACKAGE / module.replace(".", "/") / "__init__.py"
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            base = node.module or ""
            names.add(base)
            if base == "trove_async":
                names |= {f"trove_async.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", modules())
def test_imports_go_downward(module: str) -> None:
    room = room_of(module)
    row = ROWS[room]
    for name in imports_of(module):
        if not name.startswith("trove_async."):
            if name == "trove_async":
                assert row >= 7, f"{module} imports the front door from below"
            continue
        target = name.removeprefix("trove_async.")
        if target.split(".")[0] not in {room.split(".")[0] for room in ROWS}:
            assert row >= 7, f"{module} imports {target} through the front door"
            continue
        other = room_of(target)
        if other == room:
            continue
        if row == 4 and other.startswith("drivers") and room == "drivers":
            continue
        assert ROWS[other] < row, f"{module} (row {row}) imports {target} (row {ROWS[other]})"


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("drivers.")])
def test_a_driver_knows_no_other_driver(module: str) -> None:
    own = module.split(".")[1]
    for name in imports_of(module):
        parts = name.split(".")
        if parts[:2] == ["trove_async", "drivers"] and len(parts) > 2:
            assert parts[2] == own, f"{module} imports {name}"


@pytest.mark.parametrize("module", modules())
def test_a_library_has_one_home(module: str) -> None:
    for name in imports_of(module):
        homes = HOMES.get(name.split(".")[0])
        if homes is not None:
            assert any(module == home or module.startswith(home + ".") for home in homes), (
                f"{module} imports {name}; its home is {homes}"
            )


def test_the_core_names_no_driver() -> None:
    for module in modules():
        if module.startswith("_") or module == "config":
            assert not any(n.startswith("trove_async.drivers") for n in imports_of(module)), module


def test_no_file_is_over_600_lines() -> None:
    root = PACKAGE.parent
    long = {
        str(path.relative_to(root)): count
        for folder in ("trove_async", "tests", "benchmarks", "docs")
        for path in (root / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 600
    }
    assert not long


def test_this_test_sees_an_upward_import() -> None:
    assert "trove_async._store.backend" in imports_of("_store.core")
    assert ROWS[room_of("driver.base")] < ROWS[room_of("drivers.memory")]
