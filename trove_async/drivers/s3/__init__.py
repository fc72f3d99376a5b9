"""Objects in S3 and in servers that speak its protocol."""

from trove_async.errors import MissingDependencyError

try:
    from trove_async.drivers.s3.config import S3Config, S3Credentials
    from trove_async.drivers.s3.driver import S3Driver
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] not in ("aioboto3", "aiobotocore", "aiohttp", "botocore"):
        raise
    raise MissingDependencyError(
        'the S3 driver needs more packages: pip install "trove-async[s3]"', backend="s3"
    ) from exc

__all__ = ["S3Config", "S3Credentials", "S3Driver"]
