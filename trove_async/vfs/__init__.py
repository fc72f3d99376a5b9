"""A file system over the keys of a bucket: `Trove.vfs` gives one."""

from trove_async.vfs.file import File
from trove_async.vfs.filesystem import FileSystem
from trove_async.vfs.info import FileInfo
from trove_async.vfs.path import TrovePath

__all__ = ["File", "FileInfo", "FileSystem", "TrovePath"]
