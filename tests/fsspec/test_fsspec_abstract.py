"""fsspec's own tests of what a file system does, on memory, local disk and S3.

On S3 most of them are slow.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from trove_async.fsspec import TroveFileSystem


class Fixtures(AbstractFixtures):  # type: ignore[misc]  # the library has no types
    @pytest.fixture
    def fs_path(self, fs: TroveFileSystem, bucket: str) -> str:
        fs.mkdir(bucket)
        return bucket

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(str(part) for part in parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class OnMemory(Fixtures):
    @pytest.fixture
    def fs(self, memory_fs: TroveFileSystem) -> TroveFileSystem:
        return memory_fs


class OnLocal(Fixtures):
    @pytest.fixture
    def fs(self, local_fs_of_trove: TroveFileSystem) -> TroveFileSystem:
        return local_fs_of_trove


class OnS3(Fixtures):
    @pytest.fixture
    def fs(self, s3_fs: TroveFileSystem) -> TroveFileSystem:
        return s3_fs


class TestCopyOnMemory(OnMemory, AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGetOnMemory(OnMemory, AbstractGetTests):  # type: ignore[misc]
    pass


class TestPutOnMemory(OnMemory, AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpenOnMemory(OnMemory, AbstractOpenTests):  # type: ignore[misc]
    pass


class TestPipeOnMemory(OnMemory, AbstractPipeTests):  # type: ignore[misc]
    pass


class TestCopyOnLocal(OnLocal, AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGetOnLocal(OnLocal, AbstractGetTests):  # type: ignore[misc]
    pass


class TestPutOnLocal(OnLocal, AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpenOnLocal(OnLocal, AbstractOpenTests):  # type: ignore[misc]
    pass


class TestPipeOnLocal(OnLocal, AbstractPipeTests):  # type: ignore[misc]
    pass


@pytest.mark.slow
class TestCopyOnS3(OnS3, AbstractCopyTests):  # type: ignore[misc]
    pass


@pytest.mark.slow
class TestGetOnS3(OnS3, AbstractGetTests):  # type: ignore[misc]
    pass


@pytest.mark.slow
class TestPutOnS3(OnS3, AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpenOnS3(OnS3, AbstractOpenTests):  # type: ignore[misc]
    pass


class TestPipeOnS3(OnS3, AbstractPipeTests):  # type: ignore[misc]
    pass
