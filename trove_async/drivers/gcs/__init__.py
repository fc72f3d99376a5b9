"""Objects in Google Cloud Storage and in servers that speak its protocol."""

from trove_async.errors import MissingDependencyError

_NEEDED = ("gcloud", "aiohttp", "google_crc32c", "jwt", "yarl")

try:
    from trove_async.drivers.gcs.config import GCSConfig
    from trove_async.drivers.gcs.driver import GCSDriver
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] not in _NEEDED:
        raise
    raise MissingDependencyError(
        'the GCS driver needs more packages: pip install "trove-async[gcs]"', backend="gcs"
    ) from exc

__all__ = ["GCSConfig", "GCSDriver"]
