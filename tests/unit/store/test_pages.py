"""Redirects and web pages in answers to the fast path: neither an object nor a success."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from cloud_archive.errors import FailureScope, StoreError
from cloud_archive.store.failures import is_missing
from cloud_archive.store.object_reads import READ_BYTES
from tests.unit.store.endpoint import BODY, MD5, Endpoint, Reply, by_the_sdk, put, refusal

# A static server names its pages by ETags, and sends one of them instead of what it doesn't have.
PAGE = Reply(headers={"ETag": '"page"', "Content-Type": "text/html"}, body=b"<html>Log in</html>")
ASKS: dict[str, Any] = {
    "PutObject": put,
    "HeadObject": lambda store: store.head("a/b.png"),
    "GetObject": lambda store: list(store.read("a/b.png", 99)),
    "ListObjectsV2": lambda store: list(store.list("a/")),
}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["the same host", "another host"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("operation", ASKS)
def test_no_redirect_is_followed_to_a_page(
    endpoint: Endpoint, make: Any, operation: str, status: int, host: str
) -> None:
    away = Reply(status, {"Location": f"http://{host}:{urlsplit(endpoint.url).port}/login"})
    store = make(lambda seen: PAGE if seen.path == "/login" else away)
    with pytest.raises(StoreError):
        ASKS[operation](store)
    assert by_the_sdk(endpoint)[:2] == [False, True]
    assert {urlsplit(seen.path).path for seen in endpoint.seen} <= {"/pictures", "/pictures/a/b.png"}


def test_a_page_in_the_body_of_a_redirect_is_no_object(endpoint: Endpoint, make: Any) -> None:
    with pytest.raises(StoreError):
        list(make(replace(PAGE, status=302)).read("a/b.png", 99))
    assert by_the_sdk(endpoint)[:2] == [False, True]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("headers", [{}, {"ETag": '"page"'}], ids=["no ETag", "an ETag"])
@pytest.mark.parametrize("operation", ASKS)
def test_a_web_page_with_status_200_is_neither_an_object_nor_a_success(
    endpoint: Endpoint, make: Any, operation: str, headers: dict[str, str], fast: bool
) -> None:
    store = make(Reply(headers=headers | {"Content-Type": "text/html"}, body=b"<html>Console</html>"))
    if not fast:
        store.use_sdk_only()
    with pytest.raises(StoreError) as refused:
        ASKS[operation](store)
    assert refused.value.failure.code == "NotS3"
    assert by_the_sdk(endpoint)[0] is not fast
    if operation in ("HeadObject", "GetObject"):  # other answers with a body are left to the SDK
        assert len(endpoint.seen) == 1, "the fast path sees that it is a page"


@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("operation", ["PutObject", "GetObject", "ListObjectsV2"])
def test_a_web_page_as_a_refusal_is_explained_by_the_sdk(
    endpoint: Endpoint, make: Any, operation: str, status: int
) -> None:
    """Also a page that says 404: it does not show that the object is missing."""
    with pytest.raises(StoreError) as refused:
        ASKS[operation](make(replace(PAGE, status=status)))
    assert refused.value.status == status
    assert by_the_sdk(endpoint)[:2] == [False, True]


@pytest.mark.parametrize(
    "ask",
    [
        put,
        lambda store: list(store.read("a.png", 99)),
        lambda store: list(store.read("a.png", 2 * READ_BYTES)),
        lambda store: store.create_multipart("a.png", content_type="image/png", metadata={}),
        lambda store: store.abort_multipart("a.png", "id"),
        lambda store: _raise_first(store.delete(["a.png"])),
    ],
    ids=["put", "read", "read by the SDK", "create", "abort", "delete"],
)
def test_a_404_without_a_document_does_not_show_that_anything_is_missing(make: Any, ask: Any) -> None:
    """Traefik answers so while it knows no healthy store: https://github.com/traefik/traefik/issues/7732."""
    page = Reply(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")
    with pytest.raises(StoreError) as refused:
        ask(make(page))
    failure = refused.value.failure
    assert (failure.code, failure.scope, failure.transient) == ("NotS3", FailureScope.STORE, True)
    assert not is_missing(refused.value)


def _raise_first(deleted: Iterator[tuple[str, StoreError | None]]) -> None:
    for _, error in deleted:
        if error is not None:
            raise error


def test_a_web_page_is_no_answer_to_a_part(make: Any) -> None:
    with pytest.raises(StoreError) as refused:
        make(PAGE).upload_part("a.mp4", "id", 1, BODY, sha256=hashlib.sha256(BODY).hexdigest())
    assert refused.value.failure.code == "NotS3"


@pytest.mark.parametrize("page", [PAGE, Reply()], ids=["a page", "nothing"])
def test_a_web_page_or_nothing_is_no_list_of_unfinished_uploads(make: Any, page: Reply) -> None:
    with pytest.raises(StoreError) as refused:
        make(page).unfinished_uploads("a.mp4")
    assert refused.value.failure.code == "NotS3"


@pytest.mark.parametrize("status", [200, 404])
def test_a_web_page_does_not_abort_an_upload(make: Any, status: int) -> None:
    with pytest.raises(StoreError) as refused:
        make(replace(PAGE, status=status)).abort_multipart("a.mp4", "id")
    assert refused.value.failure.code == "NotS3"


@pytest.mark.parametrize(
    "answer", [Reply(204), Reply(headers={"Content-Type": "text/html"}), refusal(404, "NoSuchUpload")]
)
def test_an_abort_has_an_empty_answer_or_the_upload_is_gone(make: Any, answer: Reply) -> None:
    make(answer).abort_multipart("a.mp4", "id")


@pytest.mark.parametrize("headers", [{"x-amz-request-id": "1"}, {"x-amz-meta-sha256": "abc"}])
@pytest.mark.parametrize("fast", [True, False])
def test_an_object_may_be_html(make: Any, headers: dict[str, str], fast: bool) -> None:
    page = Reply(headers=headers | {"ETag": '"e"', "Content-Type": "text/html"}, body=b"<html></html>")
    store = make(page)
    if not fast:
        store.use_sdk_only()
    assert store.head("report.html").etag == "e"
    assert list(store.read("report.html", 99)) == [b"<html></html>"]


@pytest.mark.parametrize("fast", [True, False])
def test_a_small_server_may_call_all_its_answers_html(make: Any, fast: bool) -> None:
    """As frameworks do by default, and without any header of S3."""
    headers = {"ETag": f'"{MD5}"', "Content-Type": "text/html"}
    store = make(lambda seen: Reply(headers=headers, body=b"" if seen.method == "PUT" else BODY))
    if not fast:
        store.use_sdk_only()
    assert put(store).proven
    assert store.head("a/b.png").etag == MD5
    assert list(store.read("a/b.png", 99)) == [BODY]
    assert store.upload_part("a.mp4", "id", 1, BODY, sha256=hashlib.sha256(BODY).hexdigest()).proven
