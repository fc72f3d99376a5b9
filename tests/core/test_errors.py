"""The tree of errors: its shape, its statuses, and that it travels."""

from __future__ import annotations

import asyncio
import builtins
import copy
import inspect
import io
import logging
import pickle
from collections.abc import Iterator

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from trove_async import RetryPolicy, errors
from trove_async.errors import TroveError

# name: (parent, also, http_status, retryable)
TREE: dict[str, tuple[str, str | None, int, bool]] = {
    "NotFoundError": ("TroveError", "FileNotFoundError", 404, False),
    "ObjectNotFoundError": ("NotFoundError", None, 404, False),
    "BucketNotFoundError": ("NotFoundError", None, 404, False),
    "BackendNotFoundError": ("NotFoundError", None, 404, False),
    "UploadNotFoundError": ("NotFoundError", None, 404, False),
    "VersionNotFoundError": ("NotFoundError", None, 404, False),
    "BlobNotFoundError": ("NotFoundError", None, 404, False),
    "ConflictError": ("TroveError", None, 409, False),
    "BucketExistsError": ("ConflictError", None, 409, False),
    "BucketNotEmptyError": ("ConflictError", None, 409, False),
    "KeyConflictError": ("ConflictError", "OSError", 409, False),
    "ObjectChangedError": ("ConflictError", None, 409, True),
    "InvalidPartError": ("ConflictError", None, 409, False),
    "PathExistsError": ("ConflictError", "FileExistsError", 409, False),
    "NotDirectoryError": ("ConflictError", "NotADirectoryError", 409, False),
    "IsDirectoryError": ("ConflictError", "IsADirectoryError", 409, False),
    "DirectoryNotEmptyError": ("ConflictError", "OSError", 409, False),
    "PreconditionFailedError": ("TroveError", None, 412, False),
    "NotModifiedError": ("TroveError", None, 304, False),
    "StreamConsumedError": ("TroveError", None, 500, False),
    "InvalidInputError": ("TroveError", "ValueError", 400, False),
    "InvalidKeyError": ("InvalidInputError", None, 400, False),
    "InvalidBucketNameError": ("InvalidInputError", None, 400, False),
    "InvalidMetadataError": ("InvalidInputError", None, 400, False),
    "InvalidRangeError": ("InvalidInputError", None, 416, False),
    "InvalidDSNError": ("InvalidInputError", None, 400, False),
    "InvalidTokenError": ("InvalidInputError", None, 400, False),
    "InvalidConfigError": ("InvalidInputError", None, 400, False),
    "UnsupportedError": ("TroveError", None, 501, False),
    "FileModeError": ("UnsupportedError", "UnsupportedOperation", 501, False),
    "MissingDependencyError": ("TroveError", "ImportError", 501, False),
    "WrongLoopError": ("TroveError", "RuntimeError", 500, False),
    "AccessError": ("TroveError", None, 403, False),
    "PermissionDeniedError": ("AccessError", "PermissionError", 403, False),
    "UnauthenticatedError": ("AccessError", None, 401, False),
    "PolicyError": ("TroveError", None, 403, False),
    "BackendError": ("TroveError", None, 502, False),
    "DriverClosedError": ("BackendError", None, 503, False),
    "ThrottledError": ("BackendError", None, 429, True),
    "UnavailableError": ("BackendError", "ConnectionError", 503, True),
    "OperationTimeoutError": ("BackendError", "TimeoutError", 504, True),
    "StorageFullError": ("BackendError", "OSError", 507, False),
    "IntegrityError": ("TroveError", None, 422, False),
    "ChecksumMismatchError": ("IntegrityError", None, 422, False),
    "TruncatedError": ("IntegrityError", None, 422, False),
    "TrailingDataError": ("IntegrityError", None, 422, False),
    "FrameError": ("IntegrityError", None, 422, False),
    "FrameAuthError": ("FrameError", None, 422, False),
    "FrameOrderError": ("FrameError", None, 422, False),
    "CorruptFrameError": ("FrameError", None, 422, False),
    "HeaderAuthError": ("IntegrityError", None, 422, False),
    "KeyCommitmentError": ("IntegrityError", None, 422, False),
    "EnvelopeError": ("IntegrityError", None, 422, False),
    "LocationMismatchError": ("IntegrityError", None, 422, False),
    "DowngradeError": ("IntegrityError", None, 422, False),
    "UploadIntegrityError": ("IntegrityError", None, 422, False),
    "CasMissingBlobError": ("IntegrityError", None, 422, False),
    "CasInvariantError": ("IntegrityError", None, 422, False),
    "UnsupportedFormatError": ("IntegrityError", None, 422, False),
    "FormatLimitError": ("IntegrityError", None, 422, False),
    "DecompressionLimitError": ("IntegrityError", None, 422, False),
    "SeekTableError": ("IntegrityError", None, 422, False),
    "CorruptMetadataError": ("IntegrityError", None, 422, False),
    "UnknownEncodingError": ("IntegrityError", None, 422, False),
    "EncryptionKeyError": ("TroveError", None, 500, False),
    "KeyNotFoundError": ("EncryptionKeyError", None, 500, False),
    "KeyUnwrapError": ("EncryptionKeyError", None, 500, False),
    "KeyProviderError": ("EncryptionKeyError", None, 503, True),
    "QuotaExceededError": ("TroveError", None, 507, False),
    "ContentBlockedError": ("TroveError", None, 422, False),
    "StreamError": ("TroveError", None, 500, False),
    "StreamStateError": ("StreamError", None, 409, False),
    "StreamNotActiveError": ("StreamError", None, 409, False),
    "StreamClosedError": ("StreamError", None, 410, False),
    "PoolClosedError": ("StreamError", None, 503, False),
    "UploadExpiredError": ("StreamError", None, 410, False),
    "BackpressureError": ("StreamError", None, 500, False),
    "MaxStreamsError": ("StreamError", None, 429, False),
}
KINDS: list[type[TroveError]] = [TroveError, *(getattr(errors, name) for name in TREE)]


def test_the_tree_has_these_errors_and_no_others() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, TroveError)
    }
    assert defined == {*TREE, "TroveError"} == set(errors.__all__)


@pytest.mark.parametrize("name", TREE)
def test_each_error_stands_where_the_tree_says(name: str) -> None:
    parent, also, status, retryable = TREE[name]
    kind: type[TroveError] = getattr(errors, name)
    wanted = [getattr(errors, parent)]
    if also is not None:
        wanted.append(getattr(builtins, also, None) or getattr(io, also))
    assert [*kind.__bases__] == wanted
    assert (kind.http_status, kind.retryable) == (status, retryable)
    assert getattr(trove, name) is kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_error_is_pickled_and_copied_whole(kind: type[TroveError]) -> None:
    error = kind("it broke", bucket="box", key="a/ключ", backend="far", operation="put")
    error.__dict__["retry_after"] = 7.5
    error.add_note("a note")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert vars(again) == vars(error)
        assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert again is not error
        assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_error_takes_a_bare_message_and_none(kind: type[TroveError]) -> None:
    assert str(kind("it broke")) == "it broke"
    assert str(kind()) == ""
    assert repr(kind("it broke")) == f"{kind.__name__}('it broke')"
    error = kind("it broke", key="k", operation="get")
    assert str(error) == "it broke [operation='get', key='k']"


def test_what_is_known_of_the_place_is_not_overwritten() -> None:
    error = TroveError("x", bucket="near")
    error.at(bucket="far", key="", operation="get")
    assert (error.bucket, error.key, error.backend, error.operation) == ("near", "", None, "get")


def test_the_errors_of_the_system_are_caught_by_their_usual_names() -> None:
    with pytest.raises(FileNotFoundError):
        raise errors.ObjectNotFoundError("gone")
    with pytest.raises(TimeoutError):
        raise errors.OperationTimeoutError("late")
    with pytest.raises(asyncio.TimeoutError):
        raise errors.OperationTimeoutError("late")
    with pytest.raises(ConnectionError):
        raise errors.UnavailableError("down")
    with pytest.raises(ValueError, match="bad"):
        raise errors.InvalidRangeError("bad")


def test_a_blocked_content_names_its_threat() -> None:
    error = errors.ContentBlockedError("infected", key="k")
    assert error.threat == ""
    error.threat = "Eicar"
    assert pickle.loads(pickle.dumps(error)).threat == "Eicar"


CANARY = "kAnArY0123456789"


def shown(error: BaseException) -> Iterator[str]:
    """All that an error and those it grew from would show."""
    seen: BaseException | None = error
    while seen is not None:
        yield from (str(seen), repr(seen), repr(vars(seen)), repr(seen.args))
        seen = seen.__cause__ or seen.__context__


async def test_an_error_says_where_and_never_shows_the_body_or_the_metadata(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    faulty = Faulty()
    async with trove.open(faulty, retry=RetryPolicy(attempts=1)) as store:
        await store.create_bucket("box")
        faulty.fail("put", errors.UnavailableError("down"))
        with pytest.raises(errors.UnavailableError) as caught:
            await store.put("box", "k", CANARY.encode(), metadata={"pin": CANARY})
        assert vars(caught.value) == {
            "message": "down",
            "bucket": "box",
            "key": "k",
            "backend": "default",
            "operation": "put",
        }
        with pytest.raises(errors.InvalidMetadataError) as refused:
            await store.put("box", "k", b"", metadata={"pin": CANARY + "\r\nX: 1"})
        with pytest.raises(errors.ChecksumMismatchError) as differs:
            await store.put("box", "k", CANARY.encode(), checksum="sha256:" + "0" * 64)
    for error in (caught.value, refused.value, differs.value):
        assert not any(CANARY in text for text in shown(error))
    assert CANARY not in caplog.text
