"""Objects as plain files below one folder, readable by every other tool."""

from trove_async.drivers.local.config import LocalConfig
from trove_async.drivers.local.driver import LocalDriver
from trove_async.drivers.local.fs import FS

__all__ = ["FS", "LocalConfig", "LocalDriver"]
