"""docs/errors.md says of every error what the code says; `python -m tests.docs.error_table`
prints the table."""

from __future__ import annotations

from pathlib import Path

from tests.docs.error_table import rows, table
from trove_async import errors

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_page_holds_the_table_that_the_code_gives() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


def test_the_table_names_every_error_once() -> None:
    names = [row[0].strip("` \u00a0") for row in rows()]
    assert sorted(names) == sorted(errors.__all__)
