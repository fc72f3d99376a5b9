"""The SDK is loaded with the driver and never before; without it the extra is named."""

from __future__ import annotations

import subprocess
import sys

_FREE = """
import sys
import trove_async
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"aioboto3", "aiobotocore", "botocore", "boto3", "aiohttp"}, loaded
"""
_MISSING = """
import sys
sys.modules[{name!r}] = None
import trove_async
try:
    trove_async.lookup("s3")
except trove_async.MissingDependencyError as error:
    assert isinstance(error, ImportError)
    assert 'pip install "trove-async[s3]"' in str(error), error
else:
    raise AssertionError("it loads")
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_package_alone_loads_no_sdk() -> None:
    run(_FREE)


def test_a_missing_sdk_names_its_extra() -> None:
    for name in ("aioboto3", "aiohttp"):
        run(_MISSING.format(name=name))
