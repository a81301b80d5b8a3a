"""Requests of libcurl: the same ones as the SDK's, with signatures that botocore makes too."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.store.curl_client import _headers_of
from cloud_archive.store.fast_path import FastPath
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
    object_keys,
    put,
    result_or_code,
)
from tests.unit.store.signatures import is_signed_right

CHANGING = frozenset(
    ("accept", "accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request", "authorization", "user-agent")
) | {"x-amz-date"}
metadata_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@pytest.mark.parametrize("create_only", [True, False])
def test_a_body_goes_by_libcurl_as_the_sdk_sends_it(endpoint: Endpoint, make: Any, create_only: bool) -> None:
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


@given(key=st.one_of(object_keys, st.text("./a b", min_size=1, max_size=12)), value=metadata_values)
@example(key="a//b/ +%41?#&=~'()*!.png", value="a  b")
@example(key="/", value="")
def test_every_key_and_value_is_sent_and_signed_as_it_is_or_left_to_the_sdk(key: str, value: str) -> None:
    ENDPOINT.seen.clear()
    answer = FAST.put(key, BODY, SHA256, {"ContentType": "image/png", "Metadata": {"note": value}})
    if answer is None:
        assert not ENDPOINT.seen
        assert FAST._failures == 0
        return
    (seen,) = ENDPOINT.seen
    assert seen.path == "/pictures/" + quote(key, safe="/-_.~")
    assert seen.headers["x-amz-meta-note"] == value
    assert seen.headers["x-amz-content-sha256"] == SHA256
    assert seen.body == BODY
    assert is_signed_right(ENDPOINT, seen)


@pytest.mark.parametrize("prefix", ["", "a b+c/", "ü&=/", "~'()*!%41"])
def test_a_listing_is_signed_right(endpoint: Endpoint, prefix: str) -> None:
    endpoint.replies = [Reply(body=b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")]
    fast = FastPath(load_settings(environ(endpoint.url)), user_agent="test", read_seconds=60)
    assert fast.list({"Prefix": prefix, "ContinuationToken": "a+/=b", "MaxKeys": 7}) is not None
    (seen,) = endpoint.seen
    query = parse_qs(urlsplit(seen.path).query, keep_blank_values=True)
    assert query == {
        "list-type": ["2"],
        "encoding-type": ["url"],
        "prefix": [prefix],
        "continuation-token": ["a+/=b"],
        "max-keys": ["7"],
    }
    assert is_signed_right(endpoint, seen)


@pytest.mark.parametrize("etag", [{}, {"ETag": f'"{MD5}"'}])
@pytest.mark.parametrize(
    "body", [b"<Error><Code>InternalError</Code></Error>", b'{"error": "maintenance"}', b""]
)
def test_a_success_that_tells_of_an_error_counts_as_by_the_sdk(
    endpoint: Endpoint, make: Any, make_sdk_only: Any, etag: dict[str, str], body: bytes
) -> None:
    odd = Reply(headers=etag, body=body)
    fast, by_sdk = (result_or_code(lambda: put(build(odd))) for build in (make, make_sdk_only))  # noqa: B023
    assert fast == by_sdk
    assert by_the_sdk(endpoint)[0] is False


@pytest.mark.parametrize("moment", ["yesterday", "Sat, 28 Nov 2026 07:00:00 +99999999999999999"])
def test_an_odd_date_is_left_to_the_sdk_and_of_no_weight_in_an_answer_to_a_write(
    endpoint: Endpoint, make: Any, moment: str
) -> None:
    store = make(Reply(headers={"ETag": f'"{MD5}"', "Last-Modified": moment}))
    assert put(store).proven
    with contextlib.suppress(StoreError):
        store.head("k")
    assert by_the_sdk(endpoint)[:3] == [False, False, True]


def test_only_the_head_of_the_answer_itself_counts() -> None:
    lines = [
        b"HTTP/1.1 103 Early Hints: now\r\n", b"ETag: early\r\n", b"Link: a\r\n", b"\r\n",
        b"HTTP/1.1 200 OK\r\n", b"ETAG:  real \r\n", b"\r\n",
        b"ETag: trailer\r\n",
    ]  # fmt: skip
    assert _headers_of(lines) == {"etag": "real"}


def test_an_object_above_the_limit_is_read_by_the_sdk_and_libcurl_stays_in_use(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(Reply(headers={"ETag": f'"{MD5}"'}, body=BODY))
    fast = store._requests.fast
    assert fast.read("k", len(BODY) - 1) is None
    assert fast.read("k", len(BODY))["Body"] == BODY
    assert by_the_sdk(endpoint) == [False, False]


def test_threads_that_begin_at_once_share_one_client(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = FastPath(load_settings(environ(endpoint.url)), user_agent="test", read_seconds=60)
    together, look = threading.Barrier(16), fast._client_for
    looked = threading.local()

    def find_none_together(*wanted: Any) -> Any:
        found = look(*wanted)
        if not hasattr(looked, "once"):
            looked.once = True
            together.wait(60)
        return found

    monkeypatch.setattr(fast, "_client_for", find_none_together)
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: fast.client(), range(16)))) == 1


def test_a_kept_connection_keeps_no_body(endpoint: Endpoint, make: Any) -> None:
    store, sent = make(), bytes(1000)
    before = sys.getrefcount(sent)
    put(store, sent)
    assert sys.getrefcount(sent) == before
    endpoint.replies = [Reply(headers=OK.headers, body=BODY * 10)]
    read = store._requests.fast.read("k", 1000).pop("Body")
    other = bytes(1000)
    assert sys.getrefcount(read) == sys.getrefcount(other)


def test_a_connection_is_used_again(endpoint: Endpoint, make: Any) -> None:
    store = make()
    for _ in range(3):
        put(store)
    assert endpoint.connections == 1


def test_a_kept_connection_that_the_store_has_closed_is_no_failure(endpoint: Endpoint, make: Any) -> None:
    store = make(replace(OK, hangs_up=True), OK)
    for _ in range(2):
        assert put(store).proven
    assert by_the_sdk(endpoint) == [False, False]
    assert endpoint.connections == 2


ENDPOINT = Endpoint()
ENDPOINT.replies = [OK]
FAST = FastPath(load_settings(environ(ENDPOINT.url)), user_agent="test", read_seconds=60)


@pytest.mark.parametrize(
    ("extra", "header"),
    [
        ({"S3_CHECKSUM": "md5"}, ("content-md5", base64.b64encode(bytes.fromhex(MD5)).decode())),
        (
            {"S3_SERVER_SIDE_ENCRYPTION": "aws:kms", "S3_SSE_KMS_KEY_ID": "key"},
            ("x-amz-server-side-encryption-aws-kms-key-id", "key"),
        ),
    ],
)
def test_other_headers_are_sent_as_the_sdk_sends_them(
    endpoint: Endpoint, make: Any, extra: dict[str, str], header: tuple[str, str]
) -> None:
    assert put(make(**extra)).proven
    store = make(**extra)
    store.use_sdk_only()
    assert put(store).proven
    fast, sdk = ({n: v for n, v in seen.headers.items() if n not in CHANGING} for seen in endpoint.seen)
    assert fast == sdk
    assert header in fast.items()
    assert by_the_sdk(endpoint) == [False, True]


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
    assert seen.body == BODY
    assert is_signed_right(endpoint, seen)
