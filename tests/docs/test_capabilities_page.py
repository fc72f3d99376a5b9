"""docs/capabilities.md says of every driver what the code says; ``python -m
tests.docs.capability_table`` writes it."""

from __future__ import annotations

from pathlib import Path

import trove_async.driver
from tests.docs.capability_table import DRIVERS, PAGE, page, protocols
from trove_async.driver import capabilities


def test_the_page_is_what_the_code_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.docs.capability_table"


def test_the_page_holds_every_driver_and_every_capability() -> None:
    folder = Path(trove_async.driver.__file__).parents[1] / "drivers"
    own = {path.stem for path in folder.iterdir() if not path.name.startswith("_")}
    named = {name for name in vars(capabilities) if name.endswith("Driver")}
    assert own - {"fsspec"} == {*DRIVERS}, "fsspec's is whatever file system it is given"
    assert {protocol.__name__ for protocol in protocols()} == named
