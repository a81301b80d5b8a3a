"""Small requests through libcurl: the same requests as the SDK's, and the SDK after anything unexpected."""

from __future__ import annotations

import base64
import builtins
import hashlib
import logging
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import ObjectExists, StoreError
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.credentials import Credentials
from cloud_archive.store.fast_path import MAX_FAILURES, SDK_SECONDS, FastPath, sdk_only_reason
from tests.unit.store.endpoint import (
    BODY,
    MD5,
    OK,
    SHA256,
    SHA256_BASE64,
    TOKEN,
    Endpoint,
    Reply,
    by_the_sdk,
    environ,
    put,
    refusal,
)


def test_a_412_to_a_head_or_a_read_is_left_to_the_sdk(endpoint: Endpoint, make: Any) -> None:
    for request in (lambda store: store.head("a.png"), lambda store: list(store.read("a.png", 10))):
        endpoint.seen.clear()
        with pytest.raises(StoreError) as raised:
            request(make(refusal(412, "PreconditionFailed")))
        assert raised.value.status == 412
        assert by_the_sdk(endpoint) == [False, True]


def test_credentials_do_not_show() -> None:
    assert "planted" not in repr(Credentials("AKIATEST", "planted", None))


# --- anything unexpected


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500, 501, 503])
def test_after_a_refusal_the_sdk_sends_the_same_body(endpoint: Endpoint, make: Any, status: int) -> None:
    store = make(refusal(status, "SomethingOdd"), OK, OK)
    assert put(store, create_only=True).proven
    assert put(store, create_only=True).proven
    assert by_the_sdk(endpoint) == [False, True, False]
    assert endpoint.seen[0].body == endpoint.seen[1].body == BODY


def test_a_cut_connection_is_handed_over_too(endpoint: Endpoint, make: Any) -> None:
    store = make(Reply(close=True), OK)
    assert put(store).proven
    assert by_the_sdk(endpoint) == [False, True]


def test_while_the_store_fails_only_the_sdk_asks_it(endpoint: Endpoint, make: Any) -> None:
    busy = refusal(503, "SlowDown")
    store = make(busy, busy, busy, OK, OK)
    for _ in range(2):
        with pytest.raises(StoreError) as slow:
            put(store)
        assert slow.value.failure.throttled
    put(store)
    put(store)
    assert by_the_sdk(endpoint) == [False, True, True, True, False]


def test_where_libcurl_fails_again_and_again_it_pauses(
    endpoint: Endpoint, make: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(
        *[refusal(400, "InvalidRequest"), OK] * MAX_FAILURES, OK, OK, refusal(400, "InvalidRequest"), OK
    )
    now = 1000.0
    monkeypatch.setattr(store._requests.fast, "_clock", lambda: now)
    caplog.set_level(logging.INFO, "cloud_archive")
    for _ in range(MAX_FAILURES + 2):
        assert put(store).proven
        now += 1
    assert by_the_sdk(endpoint) == [False, True] * MAX_FAILURES + [True, True]
    endpoint.seen.clear()
    now += SDK_SECONDS
    assert put(store).proven  # it fails once more, and pauses at once
    assert put(store).proven
    assert by_the_sdk(endpoint) == [False, True, True]
    endpoint.seen.clear()
    now += SDK_SECONDS
    for _ in range(2):
        assert put(store).proven
    assert by_the_sdk(endpoint) == [False, False]
    lines = [record.getMessage() for record in caplog.records if "libcurl" in record.getMessage()]
    assert lines == [
        "Small uploads go through the SDK for 10 minutes: libcurl failed 3 times, the SDK did not"
    ]


def test_failures_of_libcurl_count_only_in_a_row(endpoint: Endpoint, make: Any) -> None:
    store = make(*[refusal(400, "InvalidRequest"), OK, OK] * MAX_FAILURES, OK)
    for _ in range(2 * MAX_FAILURES + 1):
        assert put(store).proven
    assert by_the_sdk(endpoint) == [False, True, False] * MAX_FAILURES + [False]


def test_a_taken_key_is_told_without_the_sdk_and_another_write_under_way_is_not(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(refusal(412, "PreconditionFailed"), refusal(409, "ConditionalRequestConflict"))
    with pytest.raises(ObjectExists):
        put(store, create_only=True)
    assert store.capabilities.create_only is CreateOnly.HONOURED
    with pytest.raises(StoreError) as busy:
        put(store, create_only=True)
    assert not isinstance(busy.value, ObjectExists)
    assert busy.value.failure.code == "ConditionalRequestConflict"
    assert by_the_sdk(endpoint) == [False, False, True]


def test_a_silent_store_is_a_read_timeout(make: Any) -> None:
    store = make(Reply(silent=True), read_seconds=0.5)
    assert store._requests.fast.client() is not None
    with pytest.raises(StoreError) as silent:
        put(store)
    assert silent.value.failure.code == "ReadTimeout", "which only the SDK tells"
    assert store._requests.fast.client() is None, "libcurl was tried first"


def test_an_object_of_another_program_is_described_without_the_sdk(endpoint: Endpoint, make: Any) -> None:
    foreign = Reply(headers={"ETag": '"e"', "Content-Type": "image/png"}, body=b"theirs")
    assert make(foreign).head("k").size_bytes == 6
    assert by_the_sdk(endpoint) == [False]


def test_no_secret_is_in_what_an_error_says(make: Any) -> None:
    store = make(Reply(403, {}, TOKEN.encode()))
    with pytest.raises(StoreError) as denied:
        put(store)
    error: BaseException | None = denied.value
    while error is not None:
        assert TOKEN not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


# --- proof


@pytest.mark.parametrize("checksum", [None, SHA256_BASE64, base64.b64encode(bytes(32)).decode()])
@pytest.mark.parametrize("etag", [MD5, "opaque"])
def test_an_answer_proves_as_much_as_one_to_the_sdk(
    endpoint: Endpoint, make: Any, checksum: str | None, etag: str
) -> None:
    headers = {} if checksum is None else {"x-amz-checksum-sha256": checksum}
    store = make(Reply(headers=headers | {"ETag": f'"{etag}"'}))
    found, echoes = put(store), store.capabilities.echoes_checksum
    assert found.proven is (checksum == SHA256_BASE64 or (checksum is None and etag == MD5))
    assert echoes is (checksum is not None)
    store.use_sdk_only()
    assert (put(store), store.capabilities.echoes_checksum) == (found, echoes)
    assert by_the_sdk(endpoint) == [False, True]


# --- HEAD and GET while the SDK is not loaded


def test_a_missing_object_is_known_without_the_sdk(endpoint: Endpoint, make: Any) -> None:
    store = make(refusal(404, "NoSuchKey"))
    assert store.head("k") is None
    assert store.capabilities.can_head is True
    with pytest.raises(StoreError) as missing:
        next(store.read("k", 100), None)
    assert missing.value.status == 404
    assert missing.value.failure.code == "NoSuchKey"
    assert by_the_sdk(endpoint) == [False, False]


def test_a_missing_bucket_is_named_by_the_sdk(endpoint: Endpoint, make: Any) -> None:
    store = make(refusal(404, "NoSuchBucket"))
    with pytest.raises(StoreError) as missing:
        next(store.read("k", 100), None)
    assert missing.value.failure.code == "NoSuchBucket"
    assert by_the_sdk(endpoint) == [False, True]


HEAD = {"ETag": f'"{MD5}"', "x-amz-meta-sha256": "abc", "Last-Modified": "Sat, 28 Nov 2026 07:00:00 GMT"}


@pytest.mark.parametrize("echoes", [None, False, True])
def test_an_object_that_is_there_is_described_as_by_the_sdk(
    endpoint: Endpoint, make: Any, echoes: bool | None
) -> None:
    reply = Reply(
        headers=HEAD | {"Content-Type": "image/png", "x-amz-checksum-sha256": SHA256_BASE64}, body=BODY
    )
    store = make(reply, known=Capabilities(echoes_checksum=echoes))
    first = store.head("k")
    assert store.capabilities.can_head is True
    store.use_sdk_only()
    assert first == store.head("k")
    assert first.metadata == {"sha256": "abc"}
    assert by_the_sdk(endpoint) == [False, True]
    assert first.checksum_sha256 == (SHA256 if echoes else None)
    assert ("x-amz-checksum-mode" in endpoint.seen[0].headers) is (echoes is not False)


def test_a_small_object_is_read_without_the_sdk(endpoint: Endpoint, make: Any) -> None:
    store = make(Reply(headers=HEAD, body=BODY))
    assert b"".join(store.read("k", len(BODY))) == BODY
    assert by_the_sdk(endpoint) == [False]
    assert store.clock_offset_seconds is not None


def test_for_parts_the_sdk_is_loaded_ahead_so_that_heads_tell_the_stores_clock(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(refusal(404, "NoSuchKey"))
    store.warm_up(in_parts=True)
    assert store.head("k") is None
    assert by_the_sdk(endpoint) == [True]
    assert store.clock_offset_seconds is not None


# --- where libcurl is never used


@pytest.mark.parametrize(
    ("variables", "environment"),
    [
        ({"CLOUD_ARCHIVE_MAX_BANDWIDTH": "10MB/s"}, {}),
        ({"S3_ENDPOINT_URL": "https://oss-eu-central-1.aliyuncs.com"}, {}),
        ({"S3_ENDPOINT_URL": "https://s3.example.com"}, {"HTTPS_PROXY": "http://127.0.0.1:1"}),
    ],
)
def test_where_libcurl_could_not_keep_a_promise_the_sdk_sends_all(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], environment: dict[str, str]
) -> None:
    wanted = environ("http://127.0.0.1:1") | variables
    assert sdk_only_reason(load_settings(environ("http://127.0.0.1:1"))) is None
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert sdk_only_reason(load_settings(wanted)) is not None
    assert FastPath(load_settings(wanted), user_agent="", read_seconds=1).client() is None


def test_variables_of_aws_and_a_proxy_for_others_decide_nothing(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "SESSION_TOKEN",
        "REGION",
        "ENDPOINT_URL_S3",
        "PROFILE",
    ):
        monkeypatch.setenv(f"AWS_{name}", "planted")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    put(make(), create_only=True)
    assert by_the_sdk(endpoint) == [False]
    assert "planted" not in str(
        {n: v for n, v in endpoint.seen[0].headers.items() if n != "x-amz-security-token"}
    )
    assert "/us-east-1/" in endpoint.seen[0].headers["authorization"]


def test_without_pycurl_everything_works(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *how: Any) -> Any:
        if name == "pycurl":
            raise ModuleNotFoundError("No module named 'pycurl'", name="pycurl")
        return real(name, *how)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert put(make()).proven
    assert by_the_sdk(endpoint) == [True]


def test_large_bodies_on_a_slow_line_go_by_the_sdk_which_tells_their_progress(
    endpoint: Endpoint, make: Any
) -> None:
    body = bytes(3 * 1024 * 1024)
    reply = Reply(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
    store = make(reply)
    store._requests.fast.note_pace(1024 * 1024, 40.0)
    steps: list[int] = []
    assert put(store, body, progress=steps.append).proven
    assert by_the_sdk(endpoint) == [True]
    assert len(steps) > 5
    for _ in range(12):
        store._requests.fast.note_pace(1024 * 1024, 0.01)
    assert put(store, body, progress=steps.append).proven
    assert by_the_sdk(endpoint) == [True, False]
    assert sum(steps) == 2 * len(body)


def test_a_request_that_fails_at_once_does_not_make_the_line_fast(endpoint: Endpoint, make: Any) -> None:
    fast = make(refusal(400, "SomethingOdd"))._requests.fast
    assert fast.put("k", BODY, SHA256, {}) is None
    assert fast._seconds_per_byte is None


def test_a_large_body_goes_by_libcurl_once_the_sdk_has_sent_one(endpoint: Endpoint, make: Any) -> None:
    body = bytes(3 * 1024 * 1024)
    store = make(Reply(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'}))
    for _ in range(2):
        assert put(store, body).proven
    assert by_the_sdk(endpoint) == [True, False]
    assert "expect" not in endpoint.seen[1].headers
