"""The command run in this process, its output captured as bytes."""

from __future__ import annotations

import pytest

from tests.cli.running import Cli, Ran
from trove_async.cli.app import app


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes]) -> Cli:
    def run(*arguments: str) -> Ran:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as left:
            app(list(arguments), prog_name="trove")
        out, err = capfdbinary.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return Ran(code, out.decode(), err.decode(), out)

    return run


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A DSN on fresh storage of this machine."""
    return f"file://{tmp_path_factory.mktemp('store')}?durability=none"
