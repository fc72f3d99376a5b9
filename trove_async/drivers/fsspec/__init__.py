"""Objects as plain files on anything fsspec speaks to."""

from trove_async.drivers.fsspec.driver import FsspecDriver

__all__ = ["FsspecDriver"]
