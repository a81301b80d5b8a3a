"""List a bucket, page by page: through libcurl where that works, else through the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..errors import StoreError
from .answers import listed_info, not_s3_error
from .base import ObjectInfo
from .failures import explain
from .requests import RequestExecutor

_ENDLESS = replace(
    explain("NotS3"),
    cause="The store's listing repeats itself and never ends.",
    cure="Report this to the store's provider.",
)
_CUT_OFF = replace(
    explain("NotS3"),
    cause="The store's listing breaks off: more objects follow, but it does not say how to request them.",
    cure="Report this to the store's provider: it must support ListObjectsV2.",
)
MAX_EMPTY_PAGES = 100  # in a row; S3 may send one now and then


def list_objects(requests: RequestExecutor, prefix: str, *, limit: int | None) -> Iterator[ObjectInfo]:
    """See `ObjectStore.list`. StoreError: also if the listing breaks off or does not end."""
    left = limit
    more: dict[str, Any] = {}
    empty_pages = 0
    while left != 0:
        if left is not None:
            more["MaxKeys"] = min(left, 1000)
        answer = _page(requests, {"Prefix": prefix} | more)
        if not answer.keys() & {"KeyCount", "Name", "MaxKeys", "IsTruncated"}:
            raise not_s3_error("ListObjectsV2", None)
        entries = answer.get("Contents", [])[:left]
        for entry in entries:
            if not entry.keys() >= {"Key", "Size"}:
                raise not_s3_error("ListObjectsV2", None)
            yield listed_info(entry)
        left = None if left is None else left - len(entries)
        following = answer.get("NextContinuationToken")
        if left == 0 or not answer.get("IsTruncated"):
            return
        if not following:  # a store that knows only the first version of the request shows 1,000 objects
            raise StoreError("ListObjectsV2", None, _CUT_OFF, status=200)
        empty_pages = 0 if entries else empty_pages + 1
        if following == more.get("ContinuationToken") or empty_pages > MAX_EMPTY_PAGES:
            # The listing would never end, and missing objects must not look deleted.
            raise StoreError("ListObjectsV2", None, _ENDLESS, status=200)
        more["ContinuationToken"] = following


def _page(requests: RequestExecutor, parameters: dict[str, Any]) -> dict[str, Any]:
    answer = requests.noted(requests.fast.list(parameters))
    if answer is None:
        answer = requests.call("ListObjectsV2", None, **parameters)
    return answer
