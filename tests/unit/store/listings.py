"""Pages of listings, and a bucket listed by libcurl and by the SDK."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, quote_plus, urlsplit
from xml.sax.saxutils import escape

from cloud_archive.store.base import ObjectInfo
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import (
    Endpoint,
    Reply,
    Seen,
    by_the_sdk,
)

XML = {"Content-Type": "application/xml"}
MOMENT = "2026-11-28T10:00:00.000Z"
ODD_KEYS = (
    "a//b",
    "c/",
    "/",
    "ü",
    "a+b",
    "a b",
    "%41",
    "%2B",
    "a&b",
    "<a>",
    "..",
    "a/../b",
    "\U0001f600",
    " a ",
)
ODD_TEXTS = (
    "",
    "a",
    "a/",
    "/",
    "//",
    ".",
    "../",
    "a b",
    "a+b",
    "%41",
    "ü",
    "&",
    "=",
    "?",
    "#",
    "~-_",
    "*'()!",
)
NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


Pages = dict[str, Reply]  # by the continuation token that asks for them; the first one has none


def listing(
    *keys: str,
    following: str = "",
    size: int = 7,
    date: str = MOMENT,
    in_urls: bool = False,
    namespace: str = "",
) -> Reply:
    """Return a page of `ListObjectsV2`; `in_urls`: its keys are encoded as in a URL."""
    entries = "".join(
        f"<Contents><Key>{quote_plus(key, safe='/') if in_urls else escape(key)}</Key>"
        f"<LastModified>{date}</LastModified><ETag>&quot;abc&quot;</ETag><Size>{size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    more = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
    encoding = "<EncodingType>url</EncodingType>" if in_urls else ""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<ListBucketResult{namespace}><Name>pictures</Name><KeyCount>{len(keys)}</KeyCount>"
        f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>{more}{entries}{encoding}"
        "</ListBucketResult>"
    )
    return Reply(200, XML, body.encode())


def changed(page: Reply, old: str, new: str) -> Reply:
    assert old.encode() in page.body
    return Reply(page.status, page.headers, page.body.replace(old.encode(), new.encode()))


def keys(store: S3Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def query(seen: Seen) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(seen.path).query, keep_blank_values=True, strict_parsing=True))


def queries(endpoint: Endpoint) -> list[dict[str, str]]:
    return [query(seen) for seen in endpoint.seen]


def answering(pages: Pages) -> Callable[[Seen], Reply]:
    """Return what answers each request with the page that it asks for."""
    return lambda seen: pages[query(seen).get("continuation-token", "")]


def listed_in_both_ways(
    endpoint: Endpoint, store: S3Store, prefix: str = "", limit: int | None = None
) -> list[ObjectInfo]:
    """List without the SDK and with it, which must show the same by the same requests."""
    endpoint.seen.clear()
    found = list(store.list(prefix, limit=limit))
    fast = list(endpoint.seen)
    assert by_the_sdk(endpoint) == [False] * len(fast)
    endpoint.seen.clear()
    store.use_sdk_only()
    by_sdk = list(store.list(prefix, limit=limit))
    assert by_the_sdk(endpoint) == [True] * len(endpoint.seen)
    assert found == by_sdk
    assert [(seen.method, urlsplit(seen.path).path, query(seen)) for seen in fast] == [
        (seen.method, urlsplit(seen.path).path, query(seen)) for seen in endpoint.seen
    ]
    return found
