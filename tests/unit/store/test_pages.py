"""Redirects and web pages in answers to obstore: neither an object nor a success."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from cloud_archive.errors import StoreError
from tests.unit.store.endpoint import BODY, MD5, Endpoint, Reply, by_the_sdk, put, refusal


def test_a_body_is_not_sent_on_by_obstore(endpoint: Endpoint, make: Any) -> None:
    elsewhere = Reply(307, {"Location": f"{endpoint.url}/elsewhere/key"})
    store = make(elsewhere)
    with pytest.raises(StoreError):
        put(store)
    assert {seen.path for seen in endpoint.seen} == {"/pictures/a/b.png"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "ask", [put, lambda store: store.head("a/b.png"), lambda store: list(store.read("a/b.png", 9))]
)
def test_obstore_follows_no_redirect_to_another_host(
    endpoint: Endpoint, make: Any, ask: Any, status: int
) -> None:
    port = urlsplit(endpoint.url).port
    store = make(Reply(status, {"Location": f"http://localhost:{port}/elsewhere"}))
    with pytest.raises(StoreError):
        ask(store)
    assert {seen.path for seen in endpoint.seen} == {"/pictures/a/b.png"}
    assert by_the_sdk(endpoint)[:2] == [False, True]


# A static server names its pages by ETags, and sends one of them instead of what it doesn't have.
PAGE = Reply(headers={"ETag": '"page"', "Content-Type": "text/html"}, body=b"<html>Log in</html>")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", [lambda store: store.head("k"), lambda store: list(store.read("k", 99))])
def test_a_page_of_the_same_host_that_obstore_is_redirected_to_is_no_object(
    endpoint: Endpoint, make: Any, ask: Any, status: int
) -> None:
    away = Reply(status, {"Location": f"{endpoint.url}/login"})
    with pytest.raises(StoreError):
        ask(make(away, PAGE, away))
    assert by_the_sdk(endpoint)[:3] == [False, False, True]


def test_a_page_of_the_same_host_that_a_body_is_redirected_to_proves_nothing(
    endpoint: Endpoint, make: Any
) -> None:
    away = Reply(303, {"Location": f"{endpoint.url}/login"})
    store = make(away, PAGE, away)
    assert not put(store, create_only=True).proven
    with pytest.raises(StoreError):
        put(store, create_only=True)
    assert [(seen.method, seen.path) for seen in endpoint.seen[1:]] == [
        ("GET", "/login"),
        ("PUT", "/pictures/a/b.png"),
    ]


@pytest.mark.parametrize("headers", [{}, {"ETag": '"page"'}], ids=["no ETag", "an ETag"])
@pytest.mark.parametrize(
    "ask", [put, lambda store: store.head("a/b.png"), lambda store: list(store.read("a/b.png", 99))]
)
def test_a_web_page_with_status_200_is_neither_an_object_nor_a_success(
    endpoint: Endpoint, make: Any, ask: Any, headers: dict[str, str]
) -> None:
    store = make(Reply(headers=headers | {"Content-Type": "text/html"}, body=b"<html>Console</html>"))
    if ask is put and headers:
        assert not put(store).proven, "obstore does not show that it is a page"
    with pytest.raises(StoreError) as refused:
        ask(store)
    assert refused.value.failure.code == "NotS3"
    assert by_the_sdk(endpoint)[:2] == [False, True]


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
