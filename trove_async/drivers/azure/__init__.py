"""Objects as block blobs of Azure Blob Storage."""

from trove_async.errors import MissingDependencyError

try:
    from trove_async.drivers.azure.config import AzureConfig
    from trove_async.drivers.azure.driver import AzureDriver
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] not in ("azure", "aiohttp"):
        raise
    raise MissingDependencyError(
        'the Azure driver needs more packages: pip install "trove-async[azure]"', backend="azure"
    ) from exc

__all__ = ["AzureConfig", "AzureDriver"]
