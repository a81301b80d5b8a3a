"""Listings: folders of our own through obstore, exactly as the SDK shows them, and the SDK for everything else."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.store import obstore_client
from cloud_archive.store.base import ObjectInfo
from cloud_archive.store.fast_path import MAX_FAILURES
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import OK, Endpoint, Reply, Seen, by_the_sdk, put, refusal

FOLDER = "out/.cloud-archive/v1/segments/2026-11-28/"
XML = {"Content-Type": "application/xml"}


def listing(*keys: str, following: str = "", size: int = 7) -> Reply:
    """Return a page of `ListObjectsV2`."""
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-28T10:00:00.000Z</LastModified>"
        f"<ETag>&quot;abc&quot;</ETag><Size>{size}</Size></Contents>"
        for key in keys
    )
    more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    body = (
        f"<ListBucketResult><Name>pictures</Name><KeyCount>{len(keys)}</KeyCount>"
        f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>{more}{entries}</ListBucketResult>"
    )
    return Reply(200, XML, body.encode())


def keys(store: S3Store, prefix: str = FOLDER) -> list[str]:
    return [info.key for info in store.list(prefix)]


def queries(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(seen.path).query) for seen in endpoint.seen]


def test_a_folder_of_ours_is_listed_by_obstore_as_the_sdk_shows_it(endpoint: Endpoint, make: Any) -> None:
    store = make(listing(f"{FOLDER}a.gz", f"{FOLDER}b/c.gz"))
    found = list(store.list(FOLDER))
    assert by_the_sdk(endpoint) == [False]
    store.use_sdk_only()
    assert found == list(store.list(FOLDER))
    assert by_the_sdk(endpoint) == [False, True]
    moment = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
    assert found[0] == ObjectInfo(f"{FOLDER}a.gz", 7, "abc", None, None, {}, moment)
    assert [asked["prefix"] for asked in queries(endpoint)] == [[FOLDER], [FOLDER]]


def test_pages_follow_each_other(endpoint: Endpoint, make: Any) -> None:
    store = make(listing(f"{FOLDER}a", following="more"), listing(f"{FOLDER}b"))
    assert keys(store) == [f"{FOLDER}a", f"{FOLDER}b"]
    assert by_the_sdk(endpoint) == [False, False]
    assert queries(endpoint)[1]["continuation-token"] == ["more"]


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "out/",
        "/",
        "out/.cloud-archive",
        "out/.cloud-archive/",
        "out/x.cloud-archive/v1/",
        "out/.cloud-archive/v1/segments/2026-1",
        "out//.cloud-archive/v1/",
        "/.cloud-archive/v1/",
        "out/a b/.cloud-archive/v1/",
        "ü/.cloud-archive/v1/",
    ],
)
def test_other_folders_and_names_that_obstore_changes_are_listed_by_the_sdk(
    endpoint: Endpoint, make: Any, prefix: str
) -> None:
    odd = [f"{prefix}{name}" for name in ("a//b", "c/", "d")]
    assert keys(make(listing(*odd)), prefix) == odd
    assert by_the_sdk(endpoint) == [True]
    assert queries(endpoint)[0].get("prefix", [""]) == [prefix]


def test_a_limit_is_kept_by_the_sdk(endpoint: Endpoint, make: Any) -> None:
    store = make(listing(f"{FOLDER}a", f"{FOLDER}b"))
    assert [info.key for info in store.list(FOLDER, limit=1)] == [f"{FOLDER}a"]
    assert by_the_sdk(endpoint) == [True]
    assert queries(endpoint)[0]["max-keys"] == ["1"]


@pytest.mark.parametrize(
    "odd",
    [
        f"{FOLDER}a//b",
        f"{FOLDER}a b",
        f"{FOLDER}../a",
        f"{FOLDER}ä",
        f"{FOLDER}%41",
        "elsewhere",
    ],
)
def test_a_key_that_is_not_of_ours_is_shown_by_the_sdk(endpoint: Endpoint, make: Any, odd: str) -> None:
    first = f"{FOLDER}Z"
    assert keys(make(listing(first, odd))) == [first, odd]
    assert by_the_sdk(endpoint) == [False, True]


def test_a_folder_object_keeps_its_slash(endpoint: Endpoint, make: Any) -> None:
    assert keys(make(listing(f"{FOLDER}a/", size=0))) == [f"{FOLDER}a/"]
    assert by_the_sdk(endpoint) == [False, True]


def test_what_was_shown_before_a_listing_broke_off_is_not_shown_again(endpoint: Endpoint, make: Any) -> None:
    names = [f"{FOLDER}{number:04}" for number in range(1001)]
    store = make(
        listing(*names[:1000], following="more"),
        refusal(503, "SlowDown"),
        listing(*names[:1000], following="more"),
        listing(names[1000]),
    )
    assert keys(store) == names
    assert by_the_sdk(endpoint) == [False, False, True, True]


def test_an_empty_folder_is_one_where_the_store_knows_no_such_key(endpoint: Endpoint, make: Any) -> None:
    store = make(listing(), refusal(404, "NoSuchKey"))
    assert keys(store) == []
    assert by_the_sdk(endpoint) == [False, False]


@pytest.mark.parametrize(
    "page",
    [
        Reply(200, {"Content-Type": "text/html"}, b"<html><body>Log in to the network</body></html>"),
        Reply(200, {"Content-Type": "text/html", "ETag": '"x"'}, b"<html><body>Log in</body></html>"),
        Reply(200, XML, b"<Other/>"),
        Reply(200, {"Content-Type": "application/json"}, b"{}"),
    ],
)
def test_an_answer_that_is_no_listing_does_not_look_like_an_empty_folder(
    endpoint: Endpoint, make: Any, page: Reply
) -> None:
    store = make(page)
    with pytest.raises(StoreError):
        keys(store)
    assert by_the_sdk(endpoint)[-1]


def test_a_listing_that_repeats_itself_ends_with_an_error(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obstore_client, "PAGE_OBJECTS", 2)  # else obstore asks for 1,000 of these pages first
    store = make(listing(f"{FOLDER}a", following="again"))
    with pytest.raises(StoreError, match="never ends"):
        keys(store)


def test_a_listing_of_empty_pages_ends_with_an_error(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    wait_for = asyncio.wait_for

    async def wait_from_the_first_request(page: Any, seconds: float) -> Any:
        following = asyncio.ensure_future(page)
        assert await asyncio.to_thread(asked.wait, 60)
        return await wait_for(following, seconds)

    def reply(seen: Seen) -> Reply:
        asked.set()
        return listing(following="again")

    monkeypatch.setattr(asyncio, "wait_for", wait_from_the_first_request)
    monkeypatch.setattr(obstore_client, "LIST_SECONDS", 0.2)
    store = make(reply)
    with pytest.raises(StoreError, match="never ends"):
        keys(store)
    assert by_the_sdk(endpoint)[0] is False


def test_a_refusal_is_explained_by_the_sdk_and_other_requests_stay_with_obstore(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(refusal(403, "AccessDenied"))
    for _ in range(MAX_FAILURES + 1):
        with pytest.raises(StoreError) as caught:
            keys(store)
        assert caught.value.status == 403
    assert by_the_sdk(endpoint)[-2:] == [False, True]
    endpoint.replies = [refusal(404, "NoSuchKey")]
    assert store._requests.fast.client() is not None


def test_where_only_the_sdk_can_list_obstore_is_given_up_for_listings(endpoint: Endpoint, make: Any) -> None:
    odd = f"{FOLDER}a//b"
    store = make(listing(odd))
    for _ in range(MAX_FAILURES + 2):
        assert keys(store) == [odd]
    assert by_the_sdk(endpoint) == [False, True] * MAX_FAILURES + [True, True]


def test_a_listing_that_obstore_was_not_asked_for_is_no_failure_of_obstore(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(listing(f"{FOLDER}a"))
    store._requests.fast.suspend()
    for _ in range(MAX_FAILURES):
        assert keys(store) == [f"{FOLDER}a"]
    endpoint.replies = [OK]
    put(store)
    endpoint.replies = [listing(f"{FOLDER}a")]
    assert keys(store) == [f"{FOLDER}a"]
    assert by_the_sdk(endpoint) == [True] * (MAX_FAILURES + 1) + [False]


def test_without_obstore_the_sdk_lists(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert keys(make(listing(f"{FOLDER}a"))) == [f"{FOLDER}a"]
    assert by_the_sdk(endpoint) == [True]


def test_listing_goes_on_page_after_page_and_asks_for_no_more_than_its_limit(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    store = make_sdk_only(listing("k1", following="t1"), listing("k2", following="t2"), listing("k3"))
    assert [info.key for info in store.list("")] == ["k1", "k2", "k3"]
    assert ["continuation-token=t" in seen.path for seen in endpoint.seen] == [False, True, True]
    endpoint.seen.clear()
    endpoint.replies = [listing("k1", following="t1"), listing("k2", following="t2")]
    assert [info.key for info in store.list("", limit=2)] == ["k1", "k2"]
    assert ["max-keys=2" in endpoint.seen[0].path, "max-keys=1" in endpoint.seen[1].path] == [True, True]


def test_listed_parts_go_on_page_after_page(endpoint: Endpoint, make_sdk_only: Any) -> None:
    def page(number: int, more: bool) -> Reply:
        part = f'<Part><PartNumber>{number}</PartNumber><ETag>"e"</ETag><Size>5</Size></Part>'
        flag = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        flag += f"<NextPartNumberMarker>{number}</NextPartNumberMarker>"
        return Reply(body=f"<ListPartsResult><UploadId>u</UploadId>{flag}{part}</ListPartsResult>".encode())

    found = make_sdk_only(page(1, True), page(2, False)).list_parts("k", "u")
    assert [part.number for part in found] == [1, 2]
    assert "part-number-marker=1" in endpoint.seen[1].path


def test_a_listing_that_says_more_follows_but_not_how_to_ask_for_it_ends_with_an_error(
    make_sdk_only: Any,
) -> None:
    body = listing("k1", "k2").body.replace(b"<IsTruncated>false", b"<IsTruncated>true")
    store = make_sdk_only(Reply(200, XML, body))
    shown: list[str] = []
    with pytest.raises(StoreError, match="breaks off"):
        shown.extend(info.key for info in store.list(""))
    assert [info.key for info in store.list("", limit=2)] == ["k1", "k2"]


def test_a_listing_of_ours_that_breaks_off_ends_with_an_error_too(make: Any) -> None:
    names = [f"{FOLDER}{number:04}" for number in range(1000)]
    body = listing(*names).body.replace(b"<IsTruncated>false", b"<IsTruncated>true")
    with pytest.raises(StoreError, match="breaks off"):
        keys(make(Reply(200, XML, body)))
    assert keys(make(listing(*names))) == names


@pytest.mark.parametrize("lost", ["Key", "Size"])
def test_an_entry_without_a_key_or_a_size_is_no_s3(make_sdk_only: Any, lost: str) -> None:
    body = listing("a").body.replace(f"<{lost}>".encode(), b"<X>").replace(f"</{lost}>".encode(), b"</X>")
    with pytest.raises(StoreError) as raised:
        keys(make_sdk_only(Reply(200, XML, body)), "")
    assert raised.value.failure.code == "NotS3"


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
