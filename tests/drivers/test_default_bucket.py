"""The bucket that a connection string names is the store's default bucket."""

from __future__ import annotations

import pytest

import trove_async as trove


@pytest.mark.parametrize(
    "dsn",
    [
        "s3://KEY:SECRET@photos?region=eu-west-1",
        "gs://photos?anonymous=true",
        "azblob://photos?account=acc&key=a2V5",
    ],
)
def test_a_dsn_names_the_default_bucket(dsn: str) -> None:
    parsed = trove.parse_dsn(dsn)
    driver = trove.lookup(parsed.scheme)(parsed)
    assert trove.Trove(driver).bucket().name == "photos"
