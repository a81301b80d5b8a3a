"""Small requests through obstore: the same requests as the SDK's, and the SDK after anything unexpected."""

from __future__ import annotations

import builtins
import hashlib
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as SdkCredentials
from botocore.httpsession import get_cert_path
from hypothesis import given

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import ObjectExists, StoreError
from cloud_archive.store import fast_path
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.credentials import Credentials
from cloud_archive.store.fast_path import FastPath, sdk_only_reason
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import (
    BODY,
    MD5,
    OK,
    SHA256_BASE64,
    TOKEN,
    Endpoint,
    Reply,
    Seen,
    by_the_sdk,
    environ,
    object_keys,
    put,
    refusal,
)

CHANGING = frozenset(
    ("accept", "accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request", "authorization", "user-agent")
) | {"x-amz-date"}


def test_a_412_to_a_head_or_a_read_is_left_to_the_sdk(endpoint: Endpoint, make: Any) -> None:
    for request in (lambda store: store.head("a.png"), lambda store: list(store.read("a.png", 10))):
        endpoint.seen.clear()
        with pytest.raises(StoreError) as raised:
            request(make(refusal(412, "PreconditionFailed")))
        assert raised.value.status == 412
        assert by_the_sdk(endpoint) == [False, True]


# --- the same request


@pytest.mark.parametrize("create_only", [True, False])
def test_a_body_goes_by_obstore_as_the_sdk_sends_it(endpoint: Endpoint, make: Any, create_only: bool) -> None:
    extra = {"S3_STORAGE_CLASS": "STANDARD_IA", "S3_SERVER_SIDE_ENCRYPTION": "AES256"}
    how: Any = {
        "create_only": create_only,
        "metadata": {"sha256": "abc", "archive-token": "t", "name": "B\u00e4r"},
    }
    assert put(make(**extra), **how).proven
    store = make(**extra)
    store.use_sdk_only()
    assert put(store, **how).proven
    assert by_the_sdk(endpoint) == [False, True]
    fast, sdk = endpoint.seen
    assert (fast.path, fast.body) == (sdk.path, sdk.body)
    assert {n: v for n, v in fast.headers.items() if n not in CHANGING} == {
        n: v for n, v in sdk.headers.items() if n not in CHANGING
    }
    assert fast.headers["x-amz-checksum-sha256"] == SHA256_BASE64
    assert fast.headers["x-amz-security-token"] == TOKEN
    assert ("if-none-match" in fast.headers) is create_only


@given(key=object_keys)
def test_every_key_is_sent_as_it_is_or_left_to_the_sdk(key: str) -> None:
    ENDPOINT.seen.clear()
    FAST._failures, FAST._trusted = 0, True
    answer = FAST.put(key, BODY, {"ContentType": "image/png"})
    if answer is None:
        assert not ENDPOINT.seen
    else:
        assert ENDPOINT.seen[0].path == "/pictures/" + quote(key, safe="/-_.~")


ENDPOINT = Endpoint()
ENDPOINT.replies = [OK]
FAST = FastPath(load_settings(environ(ENDPOINT.url)), user_agent="test", read_seconds=60)


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


def test_where_obstore_fails_again_and_again_it_is_given_up(endpoint: Endpoint, make: Any) -> None:
    store = make(*[refusal(400, "InvalidRequest"), OK] * 3, OK)
    for _ in range(5):
        assert put(store).proven
    assert by_the_sdk(endpoint) == [False, True, False, True, False, True, True, True]


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
    assert store._requests.fast.client() is None, "obstore was tried first"


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


def test_where_etags_are_no_md5_the_sdk_gets_the_checksum(endpoint: Endpoint, make: Any) -> None:
    opaque = Reply(headers={"ETag": '"opaque"', "x-amz-checksum-sha256": SHA256_BASE64})
    store = make(opaque)
    assert not put(store).proven
    assert put(store).proven
    assert by_the_sdk(endpoint) == [False, True]


def test_what_an_answer_without_headers_does_not_show_stays_unknown(make: Any) -> None:
    store = make()
    put(store)
    assert store.capabilities.echoes_checksum is None


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
    assert by_the_sdk(endpoint) == [echoes is True, True]


def test_a_small_object_is_read_without_the_sdk(endpoint: Endpoint, make: Any) -> None:
    store = make(Reply(headers=HEAD, body=BODY))
    assert b"".join(store.read("k", len(BODY))) == BODY
    assert by_the_sdk(endpoint) == [False]


def test_for_parts_the_sdk_is_loaded_ahead_so_that_heads_tell_the_stores_clock(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(refusal(404, "NoSuchKey"))
    store.warm_up(in_parts=True)
    assert store.head("k") is None
    assert by_the_sdk(endpoint) == [True]
    assert store.clock_offset_seconds is not None


# --- where obstore is never used


@pytest.mark.parametrize(
    ("variables", "environment"),
    [
        ({"CLOUD_ARCHIVE_MAX_BANDWIDTH": "10MB/s"}, {}),
        ({"S3_CHECKSUM": "md5"}, {}),
        ({"S3_SERVER_SIDE_ENCRYPTION": "aws:kms"}, {}),
        ({"S3_ENDPOINT_URL": "https://oss-eu-central-1.aliyuncs.com"}, {}),
        ({"S3_ENDPOINT_URL": "https://s3.example.com"}, {"HTTPS_PROXY": "http://127.0.0.1:1"}),
        ({"S3_ENDPOINT_URL": "https://s3.example.com"}, {"AWS_CA_BUNDLE": "/ca.pem"}),
        ({"S3_ENDPOINT_URL": "https://s3.example.com", "S3_CA_BUNDLE": get_cert_path(True)}, {}),
        ({}, {"AWS_SESSION_TOKEN": "planted"}),
        ({}, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}),
        ({}, {"AWS_SOMETHING_NEW": "x"}),
    ],
)
def test_where_obstore_could_not_keep_a_promise_the_sdk_sends_all(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], environment: dict[str, str]
) -> None:
    wanted = environ("http://127.0.0.1:1") | variables
    assert sdk_only_reason(load_settings(environ("http://127.0.0.1:1"))) is None
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert sdk_only_reason(load_settings(wanted)) is not None
    assert FastPath(load_settings(wanted), user_agent="", read_seconds=1).client() is None


def test_harmless_variables_of_aws_and_a_proxy_for_others_decide_nothing(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in fast_path.HARMLESS_VARIABLES:
        monkeypatch.setenv(name, "planted")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    put(make(), create_only=True)
    assert by_the_sdk(endpoint) == [False]
    assert "planted" not in str(
        {n: v for n, v in endpoint.seen[0].headers.items() if n != "x-amz-security-token"}
    )
    assert "/us-east-1/" in endpoint.seen[0].headers["authorization"]


def test_without_obstore_everything_works(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *how: Any) -> Any:
        if name.partition(".")[0] == "obstore":
            raise ModuleNotFoundError("No module named 'obstore'", name="obstore")
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
    store._requests.fast._note_pace(1024 * 1024, 40.0)
    steps: list[int] = []
    assert put(store, body, progress=steps.append).proven
    assert by_the_sdk(endpoint) == [True]
    assert len(steps) > 5
    for _ in range(12):
        store._requests.fast._note_pace(1024 * 1024, 0.01)
    assert put(store, body, progress=steps.append).proven
    assert by_the_sdk(endpoint) == [True, False]
    assert sum(steps) == 2 * len(body)


def test_a_request_that_fails_at_once_does_not_make_the_line_fast(endpoint: Endpoint, make: Any) -> None:
    body = bytes(3 * 1024 * 1024)
    reply = Reply(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
    store = make(refusal(400, "SomethingOdd"), OK, reply)
    assert put(store).proven
    assert put(store, body).proven
    assert by_the_sdk(endpoint) == [False, True, True]


# --- the SDK's signature of a body that is hashed already


def test_the_sdk_signs_a_body_with_its_checksum_and_does_not_hash_it_again(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(OK)
    store.use_sdk_only()
    store._requests.client()
    hashed: list[int] = []
    real = sys.modules["botocore.auth"].sha256

    def sha256(data: bytes = b"") -> Any:
        hashed.append(len(data))
        return real(data)

    monkeypatch.setattr("botocore.auth.sha256", sha256)
    put(store)
    assert len(BODY) not in hashed
    seen = endpoint.seen[0]
    assert seen.headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()
    names = seen.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request: Any = AWSRequest(
        "PUT", f"{endpoint.url}{seen.path}", headers={name: seen.headers[name] for name in names}, data=BODY
    )
    request.context["timestamp"] = seen.headers["x-amz-date"]
    auth: Any = S3SigV4Auth(
        SdkCredentials("AKIATEST", environ("")["S3_SECRET_ACCESS_KEY"], TOKEN), "s3", "us-east-1"
    )
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert seen.headers["authorization"].endswith(f"Signature={signature}")


def test_the_md5_of_a_body_is_computed_while_the_store_answers(
    make: Callable[..., S3Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = threading.Event()

    def noted(data: bytes) -> str:
        computed.set()
        return hashlib.md5(data).hexdigest()

    def reply(seen: Seen) -> Reply:
        assert computed.wait(60)
        return OK

    monkeypatch.setattr(fast_path, "md5_of", noted)
    store = make(reply)
    assert put(store).proven
