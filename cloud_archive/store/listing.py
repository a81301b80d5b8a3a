"""List a bucket: the folders of our own through obstore, everything else through the SDK.

obstore removes slashes from keys, escapes a folder's name in its own way, refuses keys such as `a//b`, and takes any
XML for a listing. So it lists only folders in the reserved folder, where this program chose all names, and where no
object is empty or has a name that ends in a slash. If anything looks different there, the SDK lists the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import StoreError
from ..keys import RESERVED_FOLDER
from .answers import listed_info, not_s3_error
from .base import ObjectInfo
from .failures import explain
from .obstore_client import PAGE_OBJECTS, Unexpected
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
_RESERVED_PREFIX = re.compile(rf"(?:[A-Za-z0-9._-]+/)*{re.escape(RESERVED_FOLDER)}/(?:[A-Za-z0-9._-]+/)+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9._/-]+")


def list_objects(requests: RequestExecutor, prefix: str, *, limit: int | None) -> Iterator[ObjectInfo]:
    """See `ObjectStore.list`."""
    is_fast = limit is None and _RESERVED_PREFIX.fullmatch(prefix)
    pages = requests.fast.list(prefix) if is_fast else None
    if pages is None:
        yield from _listed_by_sdk(requests, prefix, limit)
        return
    seen: set[str] = set()
    try:
        for info in _listed_fast(requests, prefix, pages):
            seen.add(info.key)
            yield info
    except Unexpected:
        for info in _listed_by_sdk(requests, prefix, limit):
            if info.key not in seen:
                yield info
        requests.fast.list_failed()


def _listed_fast(
    requests: RequestExecutor, prefix: str, pages: Iterator[Sequence[Mapping[str, Any]]]
) -> Iterator[ObjectInfo]:
    """Yield the objects in a folder from the pages of `FastPath.list`. Unexpected: the SDK must list it."""
    last = ""
    count = 0
    for page in pages:
        count += len(page)
        for entry in page:
            key = entry["path"]
            # A listing whose keys repeat or are out of order may never end. An empty object may be a folder, without
            # its slash.
            if (
                not key.startswith(prefix)
                or key <= last
                or not _PLAIN_KEY.fullmatch(key)
                or not entry["size"]
            ):
                raise Unexpected
            last = key
        for entry in page:
            yield listed_info(
                {
                    "Key": entry["path"],
                    "Size": entry["size"],
                    "ETag": entry["e_tag"],
                    "LastModified": entry["last_modified"],
                }
            )
    if count and count % PAGE_OBJECTS == 0:
        raise Unexpected  # obstore does not notice a listing that breaks off after full pages
    requests.credentials_accepted = True


def _listed_by_sdk(requests: RequestExecutor, prefix: str, limit: int | None) -> Iterator[ObjectInfo]:
    """Yield the objects below `prefix`. StoreError: also if the listing breaks off or does not end."""
    left = limit
    more: dict[str, Any] = {}
    empty_pages = 0
    while left != 0:
        if left is not None:
            more["MaxKeys"] = min(left, 1000)
        answer = requests.call("ListObjectsV2", None, Prefix=prefix, **more)
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
