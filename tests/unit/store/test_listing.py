"""Listings: the SDK asks for a page that fails through libcurl, and each listing comes to an end."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import Any

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.store.fast_path import MAX_FAILURES
from cloud_archive.store.listing import MAX_EMPTY_PAGES
from tests.unit.store.endpoint import (
    OK,
    Endpoint,
    Reply,
    Seen,
    by_the_sdk,
    put,
    refusal,
)
from tests.unit.store.listings import (
    MOMENT,
    XML,
    answering,
    changed,
    keys,
    listing,
    queries,
)

# --- a page that fails without the SDK

PAGE = listing("a", "b")


@pytest.mark.parametrize(
    "bad",
    [
        Reply(200, {"Content-Type": "text/html"}, b"<html><body>Log in to the network</body></html>"),
        Reply(200, {"Content-Type": "text/html", "ETag": '"x"'}, b"<html><body>Log in<br></html>"),
        Reply(200, {"Content-Type": "application/json"}, b"{}"),
        Reply(200, XML, b"\x00\xff garbage"),
        Reply(200, XML, b""),
        Reply(200, XML, b"<Other/>"),
        Reply(200, XML, b"<ListBucketResults><Name>pictures</Name></ListBucketResults>"),
        Reply(200, XML, refusal(500, "InternalError").body),
        Reply(200, XML, PAGE.body[: len(PAGE.body) // 2]),
        Reply(200, XML, PAGE.body[:-1]),
        Reply(204),
        Reply(206, XML, PAGE.body),
        Reply(307, {"Location": "/elsewhere"}),
        refusal(404, "NoSuchBucket"),
        refusal(503, "SlowDown"),
        changed(PAGE, "<Key>a</Key>", ""),
        changed(PAGE, "<Size>7</Size>", ""),
        changed(PAGE, "<Size>7</Size>", "<Size/>"),
        changed(PAGE, "<Size>7</Size>", "<Size>many</Size>"),
        changed(PAGE, MOMENT, ""),
        changed(PAGE, MOMENT, "yesterday"),
        changed(PAGE, MOMENT, "Sat, 28 Nov 2026 10:00:00 GMT"),
    ],
)
def test_a_page_that_fails_is_asked_for_by_the_sdk_and_those_after_it_are_not(
    endpoint: Endpoint, make: Any, bad: Reply
) -> None:
    store = make(listing("a", following="t1"), bad, listing("b//c", following="t2"), listing("d"))
    assert keys(store) == ["a", "b//c", "d"]
    assert by_the_sdk(endpoint) == [False, False, True, False]
    assert [asked.get("continuation-token") for asked in queries(endpoint)] == [None, "t1", "t1", "t2"]
    assert queries(endpoint)[1] == queries(endpoint)[2]


def test_a_page_that_breaks_off_is_asked_for_by_the_sdk(endpoint: Endpoint, make: Any) -> None:
    store = make(Reply(close=True), PAGE)
    assert keys(store) == ["a", "b"]
    assert by_the_sdk(endpoint) == [False, True]


def test_a_date_that_only_the_sdk_reads_is_shown_by_it(endpoint: Endpoint, make: Any) -> None:
    (found,) = make(listing("a", date="Sat, 28 Nov 2026 10:00:00 GMT")).list("")
    assert found.last_modified == datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
    assert by_the_sdk(endpoint) == [False, True]


@pytest.mark.parametrize(
    ("page", "code"),
    [
        (Reply(200, {"Content-Type": "text/html"}, b"<html><body>Log in</body></html>"), "NotS3"),
        (Reply(200, XML, b"<Other/>"), "NotS3"),
        (Reply(200, {"Content-Type": "application/json"}, b"{}"), None),
        (Reply(200, XML, refusal(500, "InternalError").body), None),
        (Reply(200, XML, PAGE.body[:-9]), None),
    ],
)
def test_an_answer_that_is_no_listing_does_not_look_like_an_empty_bucket(
    endpoint: Endpoint, make: Any, page: Reply, code: str | None
) -> None:
    with pytest.raises(StoreError) as raised:
        keys(make(page))
    assert code in (None, raised.value.failure.code)
    assert by_the_sdk(endpoint)[:2] == [False, True]


def test_a_listing_that_says_nothing_of_itself_does_not_look_like_an_empty_bucket(make: Any) -> None:
    with pytest.raises(StoreError) as raised:
        keys(make(Reply(200, XML, b"<ListBucketResult/>")))
    assert raised.value.failure.code == "NotS3"


@pytest.mark.parametrize("lost", ["Key", "Size"])
def test_an_entry_without_a_key_or_a_size_is_no_s3(endpoint: Endpoint, make: Any, lost: str) -> None:
    page = changed(changed(listing("a"), f"<{lost}>", "<X>"), f"</{lost}>", "</X>")
    with pytest.raises(StoreError) as raised:
        keys(make(page))
    assert raised.value.failure.code == "NotS3"
    assert by_the_sdk(endpoint) == [False, True]


def test_a_refusal_is_explained_by_the_sdk_and_other_requests_go_on_without_it(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(refusal(403, "AccessDenied"))
    for _ in range(MAX_FAILURES + 1):
        with pytest.raises(StoreError) as caught:
            keys(store)
        assert caught.value.status == 403
        assert caught.value.failure.code == "AccessDenied"
    assert by_the_sdk(endpoint) == [False, True] * MAX_FAILURES + [True]
    endpoint.replies = [OK]
    put(store)
    assert by_the_sdk(endpoint)[-1] is False


def test_where_only_the_sdk_can_list_it_asks_for_all_pages(endpoint: Endpoint, make: Any) -> None:
    date = "Sat, 28 Nov 2026 10:00:00 GMT"
    pages = {"": listing("a", following="t1", date=date)}
    pages |= {f"t{n}": listing("a", following=f"t{n + 1}", date=date) for n in range(1, MAX_FAILURES + 2)}
    pages[f"t{MAX_FAILURES + 2}"] = listing("a")
    assert len(keys(make(answering(pages)))) == MAX_FAILURES + 3
    assert by_the_sdk(endpoint) == [False, True] * MAX_FAILURES + [True] * 3


def test_a_page_without_the_sdk_ends_a_row_of_failures(endpoint: Endpoint, make: Any) -> None:
    bad, good = Reply(200, XML, b"<Other/>"), listing("a")
    store = make(*([bad, good] * (MAX_FAILURES - 1) + [good]) * 2, good)
    for _ in range(2 * MAX_FAILURES + 1):
        assert keys(store) == ["a"]
    assert by_the_sdk(endpoint) == ([False, True] * (MAX_FAILURES - 1) + [False]) * 2 + [False]


def test_after_a_write_by_the_sdk_pages_are_asked_for_without_it_again(endpoint: Endpoint, make: Any) -> None:
    store = make(*[Reply(200, XML, b"<Other/>"), listing("a")] * MAX_FAILURES, listing("a"))
    for _ in range(MAX_FAILURES + 1):
        assert keys(store) == ["a"]
    assert by_the_sdk(endpoint)[-1]
    endpoint.replies = [refusal(503, "SlowDown"), OK]
    put(store)
    endpoint.replies = [listing("a")]
    assert keys(store) == ["a"]
    assert by_the_sdk(endpoint)[-3:] == [False, True, False]


def test_a_listing_while_the_fast_path_is_suspended_is_no_failure_of_it(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(listing("a"))
    store._requests.fast.suspend()
    for _ in range(MAX_FAILURES):
        assert keys(store) == ["a"]
    endpoint.replies = [OK]
    put(store)
    endpoint.replies = [listing("a")]
    assert keys(store) == ["a"]
    assert by_the_sdk(endpoint) == [True] * (MAX_FAILURES + 1) + [False]


def test_without_libcurl_the_sdk_lists(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycurl", None)
    assert keys(make(listing("a"))) == ["a"]
    assert by_the_sdk(endpoint) == [True]


# --- listings without an end, in both ways


@pytest.fixture(params=["fast", "sdk"])
def make_either(request: pytest.FixtureRequest, make: Any, make_sdk_only: Any) -> Any:
    """As `make`, once without the SDK and once with it."""
    return make if request.param == "fast" else make_sdk_only


def test_a_listing_that_repeats_itself_ends_with_an_error(endpoint: Endpoint, make_either: Any) -> None:
    with pytest.raises(StoreError, match="never ends"):
        keys(make_either(listing("a", following="again")))
    assert len(endpoint.seen) == 2


def test_a_listing_of_empty_pages_ends_with_an_error(endpoint: Endpoint, make_either: Any) -> None:
    store = make_either(lambda seen: listing(following=f"t{len(endpoint.seen)}"))
    with pytest.raises(StoreError, match="never ends"):
        keys(store)
    assert len(endpoint.seen) == MAX_EMPTY_PAGES + 1


def test_some_empty_pages_are_no_end(endpoint: Endpoint, make_either: Any) -> None:
    def reply(seen: Seen) -> Reply:
        number = len(endpoint.seen)
        names = ["a"] if number % (MAX_EMPTY_PAGES + 1) == 0 else []
        return listing(*names, following=f"t{number}" if number < 2 * (MAX_EMPTY_PAGES + 1) else "")

    assert keys(make_either(reply)) == ["a", "a"]
    assert len(set(by_the_sdk(endpoint))) == 1


def test_a_listing_that_says_more_follows_but_not_how_to_ask_for_it_ends_with_an_error(
    endpoint: Endpoint, make_either: Any
) -> None:
    page = changed(listing("k1", "k2"), "<IsTruncated>false", "<IsTruncated>true")
    store = make_either(page)
    shown: list[str] = []
    with pytest.raises(StoreError, match="breaks off"):
        shown.extend(info.key for info in store.list(""))
    assert [info.key for info in store.list("", limit=2)] == ["k1", "k2"]
    assert len(endpoint.seen) == 2


# --- the parts of uploads, and unfinished uploads


def test_listed_parts_go_on_page_after_page(endpoint: Endpoint, make_sdk_only: Any) -> None:
    def page(number: int, more: bool) -> Reply:
        part = f'<Part><PartNumber>{number}</PartNumber><ETag>"e"</ETag><Size>5</Size></Part>'
        flag = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        flag += f"<NextPartNumberMarker>{number}</NextPartNumberMarker>"
        return Reply(body=f"<ListPartsResult><UploadId>u</UploadId>{flag}{part}</ListPartsResult>".encode())

    found = make_sdk_only(page(1, True), page(2, False)).list_parts("k", "u")
    assert [part.number for part in found] == [1, 2]
    assert "part-number-marker=1" in endpoint.seen[1].path


def test_a_part_or_an_upload_without_its_facts_is_no_answer_of_s3(make_sdk_only: Any) -> None:
    part = b"<Part><PartNumber>1</PartNumber><Size>5</Size></Part>"
    store = make_sdk_only(
        Reply(body=b"<ListPartsResult><UploadId>u</UploadId>" + part + b"</ListPartsResult>")
    )
    with pytest.raises(StoreError) as raised:
        store.list_parts("k", "u")
    assert raised.value.failure.code == "NotS3"

    upload = b"<Upload><Key>k</Key><UploadId>u</UploadId></Upload>"
    store = make_sdk_only(
        Reply(body=b"<ListMultipartUploadsResult>" + upload + b"</ListMultipartUploadsResult>")
    )
    with pytest.raises(StoreError) as raised:
        store.unfinished_uploads("k")
    assert raised.value.failure.code == "NotS3"
