"""Objects as plain files on an SFTP server, readable by every other tool."""

from trove_async.drivers.sftp.config import SFTPConfig
from trove_async.drivers.sftp.driver import SFTPDriver

__all__ = ["SFTPConfig", "SFTPDriver"]
