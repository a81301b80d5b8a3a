"""Listings through libcurl: every prefix exactly as the SDK lists it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.config.settings import load_settings
from cloud_archive.store.base import ObjectInfo
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import (
    Endpoint,
    by_the_sdk,
    environ,
    result_or_code,
)
from tests.unit.store.listings import (
    NAMESPACE,
    ODD_KEYS,
    ODD_TEXTS,
    answering,
    changed,
    keys,
    listed_in_both_ways,
    listing,
    queries,
    query,
)
from tests.unit.store.signatures import is_signed_right, signed_headers


def test_an_object_is_listed_without_the_sdk_as_the_sdk_shows_it(endpoint: Endpoint, make: Any) -> None:
    found = listed_in_both_ways(endpoint, make(listing("out/a.png", "out/b/c.png")), "out/")
    moment = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
    assert found == [
        ObjectInfo(key, 7, "abc", None, None, {}, moment) for key in ("out/a.png", "out/b/c.png")
    ]
    assert queries(endpoint) == [{"list-type": "2", "prefix": "out/", "encoding-type": "url"}]


@pytest.mark.parametrize("namespace", ["", NAMESPACE])
@pytest.mark.parametrize("size", [0, 7, 5 * 1024**4])
@pytest.mark.parametrize("in_urls", [True, False])
def test_odd_keys_are_shown_as_they_are(
    endpoint: Endpoint, make: Any, in_urls: bool, size: int, namespace: str
) -> None:
    page = listing(*ODD_KEYS, in_urls=in_urls, size=size, namespace=namespace)
    found = listed_in_both_ways(endpoint, make(page))
    assert [(info.key, info.size_bytes) for info in found] == [(key, size) for key in ODD_KEYS]


def test_a_key_on_several_lines_is_shown_whole(endpoint: Endpoint, make: Any) -> None:
    found = listed_in_both_ways(endpoint, make(listing("a\nb\r\n\x01", in_urls=True)))
    assert [info.key for info in found] == ["a\nb\r\n\x01"]


def test_an_empty_listing_is_one_without_the_sdk_too(endpoint: Endpoint, make: Any) -> None:
    assert listed_in_both_ways(endpoint, make(listing())) == []


@pytest.mark.parametrize("limit", [None, 1, 1000, 1001])
@pytest.mark.parametrize("prefix", ODD_TEXTS)
def test_every_prefix_is_listed_without_the_sdk(
    endpoint: Endpoint, make: Any, prefix: str, limit: int | None
) -> None:
    listed_in_both_ways(endpoint, make(listing(f"{prefix}a", in_urls=True)), prefix, limit)
    assert endpoint.seen[0].path.startswith("/pictures?")
    assert queries(endpoint)[0]["prefix"] == prefix
    assert queries(endpoint)[0].get("max-keys") == (None if limit is None else str(min(limit, 1000)))


@pytest.mark.parametrize("in_urls", [True, False])
@pytest.mark.parametrize("token", ["more", "1/a+b==", "a b", "%41", "ü&é", "a<b>"])
def test_pages_follow_each_other(endpoint: Endpoint, make: Any, token: str, in_urls: bool) -> None:
    pages = {
        "": listing("a//b", "c/", following=token, in_urls=in_urls),
        token: listing("ü", following="last", in_urls=in_urls),
        "last": listing("a+b", "d", in_urls=in_urls),
    }
    found = listed_in_both_ways(endpoint, make(answering(pages)))
    assert [info.key for info in found] == ["a//b", "c/", "ü", "a+b", "d"]
    assert [asked.get("continuation-token") for asked in queries(endpoint)] == [None, token, "last"]


@pytest.mark.parametrize(
    ("limit", "asked"), [(0, []), (1, ["1"]), (2, ["2"]), (3, ["3", "1"]), (9, ["9", "7", "6"])]
)
def test_no_more_is_asked_for_and_shown_than_the_limit(
    endpoint: Endpoint, make: Any, limit: int, asked: list[str]
) -> None:
    """Even where a store sends more than was asked for."""
    names = ["k1", "k2", "k3", "k4"]
    pages = {
        "": listing(*names[:2], following="t1"),
        "t1": listing("k3", following="t2"),
        "t2": listing("k4"),
    }
    found = listed_in_both_ways(endpoint, make(answering(pages)), limit=limit)
    assert [info.key for info in found] == names[:limit]
    assert [one["max-keys"] for one in queries(endpoint)] == asked


@pytest.mark.parametrize(
    "date",
    [
        "2026-11-28T10:00:00Z",
        "2026-11-28T10:00:00.000Z",
        "2026-11-28T10:00:00.123Z",
        "2026-11-28T10:00:00.123456Z",
        "2026-11-28T10:00:00+00:00",
        "2026-11-28T12:00:00+02:00",
        "2026-11-28T10:00:00",
    ],
)
def test_dates_are_read_as_the_sdk_reads_them(endpoint: Endpoint, make: Any, date: str) -> None:
    (found,) = listed_in_both_ways(endpoint, make(listing("a", date=date)))
    assert found.last_modified is not None
    assert found.last_modified.replace(microsecond=0) == datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
    assert found.last_modified.microsecond == {"123Z": 123000, "123456Z": 123456}.get(
        date.partition(".")[2], 0
    )


@pytest.mark.parametrize("lost", ["LastModified", "ETag"])
def test_what_an_entry_may_lack_is_unknown(endpoint: Endpoint, make: Any, lost: str) -> None:
    page = changed(changed(listing("a"), f"<{lost}>", "<X>"), f"</{lost}>", "</X>")
    (found,) = listed_in_both_ways(endpoint, make(page))
    assert (found.last_modified is None, found.etag is None) == (lost == "LastModified", lost == "ETag")


class Both:
    """An endpoint, and two stores that list it: without the SDK, and with it."""

    def __init__(self) -> None:
        self.endpoint = Endpoint()
        settings = load_settings(environ(self.endpoint.url))
        self.fast, self.sdk = S3Store(settings, read_seconds=60), S3Store(settings, read_seconds=60)
        self.sdk.use_sdk_only()

    def close(self) -> None:
        self.fast.close()
        self.sdk.close()
        self.endpoint.stop()


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.close()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(prefix=texts, names=st.lists(texts, max_size=5), token=texts, limit=st.none() | st.integers(1, 2000))
def test_any_prefix_key_and_limit_is_listed_as_by_the_sdk(
    both: Both, prefix: str, names: list[str], token: str, limit: int | None
) -> None:
    endpoint = both.endpoint
    endpoint.seen.clear()
    token = token if token.isprintable() and token.strip() == token else ""  # XML can't hold all others
    pages = {
        "": listing(*names, following=token, in_urls=True),
        token or "none": listing("last", in_urls=True),
    }
    endpoint.replies = [answering(pages)]
    found = list(both.fast.list(prefix, limit=limit))
    fast = list(endpoint.seen)
    assert by_the_sdk(endpoint) == [False] * len(fast)
    endpoint.seen.clear()
    assert found == list(both.sdk.list(prefix, limit=limit))
    assert [query(seen) for seen in fast] == queries(endpoint)
    assert [info.key for info in found] == [*names, *(["last"] if token else [])][:limit]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_listing_is_signed_as_the_sdk_signs_it(endpoint: Endpoint, make: Any, text: str) -> None:
    token = f"{text}1/a+b=="
    pages = {"": listing("a", following=token), token: listing("b")}
    assert [info.key for info in make(answering(pages)).list(text, limit=9)] == ["a", "b"]
    assert by_the_sdk(endpoint) == [False, False]
    for seen in endpoint.seen:
        assert is_signed_right(endpoint, seen)
        assert "x-amz-security-token" in signed_headers(seen)


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "UTF-8", "GBK", "Shift_JIS", "no-such"])
def test_a_declared_encoding_is_believed_no_more_than_by_the_sdk(
    endpoint: Endpoint, make: Any, make_sdk_only: Any, encoding: str
) -> None:
    declared = changed(listing("é"), "UTF-8", encoding)
    fast, by_sdk = (result_or_code(lambda: keys(build(declared))) for build in (make, make_sdk_only))  # noqa: B023
    assert fast == by_sdk
