"""Answers that are no S3, and refusals: the cause that the user is told, without a secret."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import FailureScope, StoreError
from cloud_archive.store.base import Capabilities, Part
from cloud_archive.store.s3 import S3Store
from cloud_archive.store.translate import redact_and_shorten, retry_after, translate
from tests.unit.store.endpoint import (
    BODY,
    OK,
    SECRET,
    SHA256,
    TOKEN,
    Endpoint,
    Reply,
    Seen,
    environ,
    put,
    refusal,
)

# --- answers that are none


def test_a_web_page_is_no_store(make_sdk_only: Any) -> None:
    page = Reply(200, {"Content-Type": "text/html"}, b"<!doctype html><html><body>Console</body></html>")
    store = make_sdk_only(page)
    for call in (
        lambda: put(store),
        lambda: store.head("k"),
        lambda: list(store.list("")),
        lambda: list(store.read("k", 10**9)),
        lambda: store.create_multipart("k", content_type="a/b", metadata={}),
        lambda: store.upload_part("k", "u", 1, BODY, sha256=SHA256),
        lambda: store.complete_multipart("k", "u", [Part(1, '"e"', 5, None)], create_only=False),
        lambda: store.list_parts("k", "u"),
    ):
        with pytest.raises(StoreError) as raised:
            call()
        assert raised.value.failure.code in ("NotS3", "500"), raised.value
    assert store.capabilities == Capabilities()


def test_an_error_page_of_a_proxy_is_no_store_but_passes(make_sdk_only: Any) -> None:
    with pytest.raises(StoreError, match="HTTP 502") as raised:
        put(make_sdk_only(Reply(502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>")))
    assert raised.value.failure.code == "NotS3"
    assert raised.value.failure.transient


def test_a_connection_that_is_cut_off_passes(make_sdk_only: Any) -> None:
    with pytest.raises(StoreError) as raised:
        put(make_sdk_only(Reply(close=True)))
    assert raised.value.failure.code == "ConnectionClosed"
    assert raised.value.failure.transient
    assert raised.value.status is None


def test_an_answer_that_does_not_come_is_a_read_timeout(make_sdk_only: Any) -> None:
    with pytest.raises(StoreError) as raised:
        put(make_sdk_only(Reply(silent=True), read_seconds=0.5))
    assert raised.value.failure.code == "ReadTimeout"


def test_nothing_listening_is_connection_refused() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        store = S3Store(load_settings(environ(f"http://127.0.0.1:{reserved.getsockname()[1]}")))
        with pytest.raises(StoreError) as raised:
            put(store)
    assert raised.value.failure.code == "ConnectionRefused"
    assert raised.value.failure.scope is FailureScope.STORE
    store.close()


def test_a_name_that_does_not_exist_is_said_so() -> None:
    store = S3Store(load_settings(environ("http://store.invalid:9000")))
    with pytest.raises(StoreError) as raised:
        put(store)
    assert raised.value.failure.code == "NameNotResolved"
    store.close()


def test_tls_to_a_port_that_speaks_none_is_explained(endpoint: Endpoint) -> None:
    store = S3Store(load_settings(environ(endpoint.url.replace("http://", "https://"))))
    with pytest.raises(StoreError, match="does not speak TLS") as raised:
        put(store)
    assert raised.value.failure.code == "TLS"
    store.close()


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("certificate verify failed: self-signed certificate", "not trusted"),
        ("certificate verify failed: certificate has expired", "expired"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'x'", "another name"),
    ],
)
def test_a_certificate_that_is_refused_is_told_by_its_reason(words: str, cause: str) -> None:
    error = type("SSLError", (Exception,), {})("wrapped")
    error.__cause__ = ssl.SSLError(1, words)
    told = translate(error, "PutObject", "k")
    assert cause in str(told)
    assert words in told.store_message


# --- facts in errors


def test_a_wrong_clock_is_told_in_seconds(make_sdk_only: Any) -> None:
    ahead = {"Date": formatdate(time.time() + 3600, usegmt=True)}
    body = refusal(403, "RequestTimeTooSkewed").body
    store = make_sdk_only(Reply(403, ahead, body))
    with pytest.raises(StoreError, match=r"clock is 3[56]\d\d seconds behind the store's"):
        put(store)
    assert store.clock_offset_seconds == pytest.approx(3600, abs=60)
    with pytest.raises(StoreError, match="seconds behind"):
        store.head("k")  # whose answer has no body


def test_another_region_is_named(make_sdk_only: Any) -> None:
    moved = refusal(
        400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-3'"
    )
    with pytest.raises(StoreError, match="in the region eu-west-3"):
        put(make_sdk_only(moved))


def test_a_redirect_is_followed_and_where_that_fails_the_region_is_named(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    moved = refusal(301, "PermanentRedirect", "elsewhere")
    moved.headers["x-amz-bucket-region"] = "eu-central-1"
    assert put(make_sdk_only(moved, OK)).proven
    assert "/eu-central-1/s3/" in endpoint.seen[1].headers["authorization"]
    with pytest.raises(StoreError, match="S3_REGION=eu-central-1"):
        put(make_sdk_only(moved))


def test_a_throttle_with_retry_after_says_for_how_long(make_sdk_only: Any) -> None:
    slow = refusal(503, "SlowDown")
    slow.headers["Retry-After"] = "7"
    with pytest.raises(StoreError) as raised:
        put(make_sdk_only(slow))
    assert raised.value.retry_after_seconds == 7
    assert raised.value.failure.throttled


def test_retry_after_may_be_a_date() -> None:
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111770.0) == pytest.approx(7)
    assert retry_after("soon", 0.0) is None


def test_requests_are_made_once(endpoint: Endpoint, make_sdk_only: Any) -> None:
    with pytest.raises(StoreError):
        put(make_sdk_only(refusal(500, "InternalError")))
    assert len(endpoint.seen) == 1


def test_a_missing_key_is_none_and_a_forbidden_one_an_error_that_proves_nothing(make_sdk_only: Any) -> None:
    assert make_sdk_only(Reply(404)).head("k") is None
    store = make_sdk_only(Reply(403))
    with pytest.raises(StoreError, match="may not send HEAD requests") as raised:
        store.head("k")
    assert raised.value.status == 403
    assert store.capabilities.can_head is None


def test_a_checksum_that_only_the_key_holder_may_see_does_not_hide_the_object(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    def reply(seen: Seen) -> Reply:
        if "x-amz-checksum-mode" in seen.headers:
            return Reply(403)
        return Reply(headers={"ETag": '"e"'})

    store = make_sdk_only(reply)
    assert store.head("k") is not None
    assert store.head("k") is not None
    assert ["x-amz-checksum-mode" in seen.headers for seen in endpoint.seen] == [True, False, False]


def test_aborting_an_upload_that_is_gone_is_fine(make_sdk_only: Any) -> None:
    make_sdk_only(refusal(404, "NoSuchUpload")).abort_multipart("k", "u1")


# --- secrets


def texts_of(error: BaseException) -> str:
    found, one = [], error
    while one is not None:
        found += [str(one), repr(one), repr(getattr(one, "__dict__", ""))]
        one = one.__cause__  # type: ignore[assignment]
    return " ".join(found)


def test_no_secret_comes_back_in_an_error_a_repr_or_a_log(
    make_sdk_only: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="cloud_archive")
    echo = refusal(400, "InvalidToken", f"The token {TOKEN} of {SECRET} is no good")
    store = make_sdk_only(echo)
    with pytest.raises(StoreError) as raised:
        put(store)
    shown = texts_of(raised.value) + repr(store) + caplog.text
    assert SECRET not in shown
    assert TOKEN not in shown
    assert "***" in raised.value.store_message


@given(st.text(max_size=200), st.text(max_size=200))
def test_redaction_leaves_no_secret_whatever_surrounds_it(before: str, after: str) -> None:
    shown = redact_and_shorten(f"{before}{SECRET}{after}", (SECRET, ""))
    assert SECRET not in shown
    assert len(shown) <= 300


@given(
    st.text(max_size=60),
    st.text(max_size=400),
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(["date", "retry-after", "content-type", "x-amz-bucket-region"]), st.text(max_size=40)
    ),
)
def test_any_error_document_becomes_a_sentence(
    code: str, message: str, status: int, headers: dict[str, str]
) -> None:
    error = Exception("x")
    error.response = {  # type: ignore[attr-defined]
        "Error": {"Code": code, "Message": message + SECRET, "Region": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    told = translate(error, "PutObject", "k", secrets=(SECRET,), conditional=True)
    assert told.failure.cause.endswith(".")
    assert SECRET not in texts_of(told)
