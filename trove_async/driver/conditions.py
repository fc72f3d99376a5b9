"""Preconditions, for drivers that hold the objects themselves."""

from __future__ import annotations

from trove_async.driver.options import GetOptions
from trove_async.errors import NotModifiedError, PreconditionFailedError
from trove_async.model import ObjectInfo

__all__ = ["check_read", "check_write"]


def check_read(options: GetOptions, info: ObjectInfo) -> None:
    """In the order of RFC 9110, section 13.2.2."""
    if options.if_match is not None and options.if_match not in ("*", info.etag):
        raise PreconditionFailedError("the object is not the expected one", key=info.key)
    if options.if_none_match is not None:
        if options.if_none_match in ("*", info.etag):
            raise NotModifiedError("the object is the one already known", key=info.key)
    elif options.if_modified_since is not None and info.last_modified <= options.if_modified_since:
        raise NotModifiedError("the object has not been modified since", key=info.key)


def check_write(if_match: str | None, if_none_match: str | None, etag: str | None) -> None:
    """``etag``: of the object that is there now, None when there is none."""
    if if_none_match is not None and etag is not None and if_none_match in ("*", etag):
        raise PreconditionFailedError("the object exists already")
    if if_match is not None and (etag is None or if_match not in ("*", etag)):
        raise PreconditionFailedError("the object is not the expected one")
