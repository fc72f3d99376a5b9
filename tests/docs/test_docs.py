"""Every python block of the documentation runs, page by page and in order."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
_KINDS = {"python", "bash", "console", "text", "toml"}


def _blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """(kind, line of its first line, text) of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        yield match[1], text.count("\n", 0, match.start(2)), match[2]


def _compiled(page: Path, line: int, source: str) -> CodeType:
    """Tracebacks name the page and the line in it."""
    tree = ast.parse(source, str(page))
    ast.increment_lineno(tree, line)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(tree, str(page), "exec", flags=flags)
    return code


def _run(page: Path, namespace: dict[str, object]) -> None:
    """Blocks with a top-level await share one event loop; plain ones may call asyncio.run."""
    with asyncio.Runner() as runner:
        for kind, line, source in _blocks(page):
            if kind == "python":
                result = eval(_compiled(page, line, source), namespace)
                if inspect.iscoroutine(result):
                    runner.run(result)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _run(page, {"__name__": "page"})


def test_a_wrong_block_is_noticed_at_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nx = 1\n```\n\n```python\nawait nothing(x)\n```\n")
    with pytest.raises(NameError) as caught:
        _run(page, {})
    assert caught.traceback[-1].lineno == 7  # counted from 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_of_a_known_kind_and_closed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = [*_blocks(page)]
    assert {kind for kind, _, _ in blocks} <= _KINDS
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
