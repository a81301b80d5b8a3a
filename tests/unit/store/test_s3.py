"""The S3 store against a scripted endpoint, for what no real server shows on demand."""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import ConditionsRejected, FailureScope, ObjectExists, StoreError
from cloud_archive.store.address import addressing_style
from cloud_archive.store.base import Capabilities, CreateOnly, Part
from cloud_archive.store.probe import probe_key
from cloud_archive.store.s3 import S3Store
from cloud_archive.store.translate import redact, retry_after, translate
from tests.unit.store.conftest import MakeStore
from tests.unit.store.endpoint import (
    BODY,
    MD5,
    SECRET,
    SHA256,
    SHA256_BASE64,
    TOKEN,
    Endpoint,
    Reply,
    Seen,
    environ,
    put,
    refusal,
)


@pytest.fixture
def make(make: MakeStore) -> Callable[..., S3Store]:
    def build(*replies: Reply | Callable[[Seen], Reply], **options: Any) -> S3Store:
        store = make(*replies, **options)
        store.use_sdk_only()  # test_fast_path.py is about the other way
        return store

    return build


# --- what is sent


def test_a_small_body_goes_in_one_round_trip_with_its_sha256(endpoint: Endpoint, make: Any) -> None:
    put(make(), create_only=True)
    (seen,) = endpoint.seen
    assert seen.path == "/pictures/a/b.png"
    assert seen.body == BODY
    assert seen.headers["x-amz-checksum-sha256"] == SHA256_BASE64
    assert seen.headers["if-none-match"] == "*"
    assert seen.headers["content-type"] == "image/png"
    assert seen.headers["x-amz-meta-sha256"] == "abc"
    assert "expect" not in seen.headers
    assert not {name for name in seen.headers if "crc" in name or "trailer" in name}
    assert seen.headers["user-agent"].startswith("cloud-archive/")


def test_a_body_above_a_mebibyte_asks_first_and_tells_its_progress(endpoint: Endpoint, make: Any) -> None:
    body = bytes(3 * 1024 * 1024 + 5)
    steps: list[int] = []
    put(make(), body, progress=steps.append)
    assert endpoint.seen[0].expect_answered
    assert endpoint.seen[0].body == body
    assert sum(steps) == len(body)
    assert len(steps) > 10


def test_progress_is_told_once_although_the_body_is_sent_twice(endpoint: Endpoint, make: Any) -> None:
    body = bytes(2 * 1024 * 1024)
    ok = Reply(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
    refused = refusal(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received")
    steps: list[int] = []
    assert put(make(refused, ok), body, progress=steps.append).proven
    assert len(endpoint.seen) == 2
    assert sum(steps) == len(body)


def test_storage_class_and_encryption_are_passed_on_to_both_kinds_of_upload(
    endpoint: Endpoint, make: Any
) -> None:
    upload = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
    store = make(
        Reply(headers={"ETag": f'"{MD5}"'}),
        Reply(body=upload),
        S3_STORAGE_CLASS="STANDARD_IA",
        S3_SERVER_SIDE_ENCRYPTION="aws:kms",
        S3_SSE_KMS_KEY_ID="key-1",
    )
    put(store)
    assert store.create_multipart("m", content_type="video/mp4", metadata={}) == "u1"
    for seen in endpoint.seen:
        assert seen.headers["x-amz-storage-class"] == "STANDARD_IA"
        assert seen.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert seen.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"


def test_metadata_that_is_no_ascii_is_percent_encoded(endpoint: Endpoint, make: Any) -> None:
    put(make(), metadata={"name": "Bär\n"})
    assert endpoint.seen[0].headers["x-amz-meta-name"] == "B%C3%A4r%0A"


@pytest.mark.parametrize(
    ("url", "style", "expected"),
    [
        ("http://127.0.0.1:9000", "auto", "path"),
        ("https://s3.example.com", "auto", "path"),
        ("https://s3.example.com", "virtual", "virtual"),
        ("https://s3.eu-west-1.amazonaws.com", "auto", "auto"),
        ("https://s3.eu-west-1.amazonaws.com", "path", "path"),
    ],
)
def test_off_aws_the_bucket_goes_into_the_path_unless_told_otherwise(
    url: str, style: str, expected: str
) -> None:
    assert addressing_style(load_settings(environ(url, S3_ADDRESSING_STYLE=style))) == expected


def test_what_aws_variables_say_decides_nothing(
    endpoint: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    put(make())
    assert len(endpoint.seen) == 1


def test_without_an_endpoint_the_store_is_aws_whatever_other_variables_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    wanted = environ("")
    del wanted["S3_ENDPOINT_URL"]
    store = S3Store(load_settings(wanted | {"S3_REGION": "eu-west-1"}))
    assert store._requests.client().sdk.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
    assert store.destination == "AWS eu-west-1/pictures"
    store.close()


# --- what is proof


@pytest.mark.parametrize(
    ("headers", "proven"),
    [
        ({"ETag": f'"{MD5}"'}, True),
        ({"ETag": f'W/"{MD5}"'}, True),
        ({"ETag": '"0123456789abcdef0123456789abcdef"'}, False),
        ({"ETag": '"opaque"', "x-amz-checksum-sha256": SHA256_BASE64}, True),
        ({"ETag": '"kms"', "x-amz-server-side-encryption": "aws:kms"}, False),
        (
            {
                "ETag": '"kms"',
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-checksum-sha256": SHA256_BASE64,
            },
            True,
        ),
        # An echo that differs is no proof, whatever the ETag says.
        ({"ETag": f'"{MD5}"', "x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, False),
        ({}, False),
    ],
)
def test_only_a_checksum_that_we_computed_too_is_proof(
    make: Any, headers: dict[str, str], proven: bool
) -> None:
    store = make(Reply(headers=headers))
    assert put(store).proven is proven
    if "ETag" in headers:
        assert store.upload_part("m", "u1", 1, BODY, sha256=SHA256).proven is proven


def test_a_checksum_that_a_store_never_echoed_is_not_believed_later(make: Any) -> None:
    told = {"ETag": '"e"', "x-amz-checksum-sha256": SHA256_BASE64}
    parrot = make(Reply(headers={"ETag": f'"{MD5}"'}), Reply(headers=told))
    put(parrot)
    found = parrot.head("a/b.png")
    assert found is not None
    assert found.checksum_sha256 is None
    honest = make(Reply(headers={"ETag": '"e"', "x-amz-checksum-sha256": SHA256_BASE64}))
    put(honest)
    found = honest.head("a/b.png")
    assert found is not None
    assert found.checksum_sha256 == SHA256


def test_a_checksum_of_parts_is_none_of_the_object(make: Any) -> None:
    told = {
        "ETag": '"e-2"',
        "x-amz-checksum-sha256": SHA256_BASE64 + "-2",
        "x-amz-checksum-type": "COMPOSITE",
    }
    store = make(Reply(headers=told), known=Capabilities(echoes_checksum=True))
    found = store.head("m")
    assert found is not None
    assert found.checksum_sha256 is None
    assert found.etag == "e-2"


# --- dialects


@pytest.mark.parametrize(
    "refused",
    [
        refusal(
            400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received for this API call."
        ),
        refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        refusal(403, "SignatureDoesNotMatch", "Invalid argument."),
        refusal(401, "Unauthorized", "Unauthorized"),
    ],
    ids=["b2", "501", "gcs", "r2"],
)
def test_a_store_that_refuses_the_sha256_header_gets_content_md5_in_the_same_call(
    endpoint: Endpoint, make: Any, refused: Reply
) -> None:
    store = make(refused, Reply(headers={"ETag": f'"{MD5}"'}))
    assert put(store).proven
    first, second = endpoint.seen
    assert "x-amz-checksum-sha256" in first.headers
    assert "x-amz-checksum-sha256" not in second.headers
    assert base64.b64decode(second.headers["content-md5"]).hex() == MD5
    assert store.capabilities.checksum == "md5"
    put(store)
    assert "content-md5" in endpoint.seen[2].headers


def test_a_refusal_that_stays_with_content_md5_is_told_as_it_was_and_remembered_as_nothing(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match"))
    with pytest.raises(StoreError, match="secret key does not belong"):
        put(store)
    assert len(endpoint.seen) == 2
    assert store.capabilities == Capabilities()


def test_once_a_sha256_was_accepted_a_bad_signature_is_not_taken_for_a_dialect(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(Reply(headers={"ETag": f'"{MD5}"'}), refusal(403, "SignatureDoesNotMatch"))
    put(store)
    with pytest.raises(StoreError):
        put(store)
    assert not [seen for seen in endpoint.seen if "content-md5" in seen.headers]


@pytest.mark.parametrize(("forced", "header"), [("sha256", "x-amz-checksum-sha256"), ("md5", "content-md5")])
def test_a_forced_checksum_is_kept_whatever_the_store_says(
    endpoint: Endpoint, make: Any, forced: str, header: str
) -> None:
    store = make(refusal(400, "InvalidArgument", "x-amz-checksum"), S3_CHECKSUM=forced)
    with pytest.raises(StoreError):
        put(store)
    assert len(endpoint.seen) == 1
    assert header in endpoint.seen[0].headers


# --- create-only


def test_a_taken_key_is_object_exists_and_proves_that_the_store_honours_it(make: Any) -> None:
    store = make(refusal(412, "PreconditionFailed"))
    with pytest.raises(ObjectExists):
        put(store, create_only=True)
    assert store.capabilities.create_only is CreateOnly.HONOURED


def test_a_412_to_a_write_that_was_not_create_only_is_no_taken_key(make: Any) -> None:
    with pytest.raises(StoreError) as raised:
        put(make(refusal(412, "PreconditionFailed")))
    assert not isinstance(raised.value, ObjectExists)


@pytest.mark.parametrize(
    "refused",
    [
        refusal(501, "NotImplemented", "not implemented", Header="If-None-Match"),
        refusal(400, "InvalidArgument", "Unsupported header 'If-None-Match'"),
    ],
)
def test_a_store_without_create_only_says_so_once_and_is_not_asked_again(
    endpoint: Endpoint, make: Any, refused: Reply
) -> None:
    store = make(refused, Reply(headers={"ETag": f'"{MD5}"'}))
    with pytest.raises(ConditionsRejected):
        put(store, create_only=True)
    assert len(endpoint.seen) == 1
    assert store.capabilities.create_only is CreateOnly.REJECTED
    assert put(store, create_only=True).proven
    assert "if-none-match" not in endpoint.seen[1].headers


def test_a_501_that_names_nothing_is_about_conditions_only_when_md5_does_not_help(
    endpoint: Endpoint, make: Any
) -> None:
    store = make(refusal(501, "NotImplemented", "not implemented"))
    with pytest.raises(ConditionsRejected):
        put(store, create_only=True)
    assert ["content-md5" in seen.headers for seen in endpoint.seen] == [False, True]
    assert store.capabilities.checksum == "sha256"
    assert store.capabilities.create_only is CreateOnly.REJECTED


def test_a_probe_that_meets_trouble_leaves_unknown_and_never_raises(make: Any) -> None:
    for trouble in (refusal(403, "AccessDenied"), refusal(400, "Whatever"), Reply(close=True)):
        store = make(trouble)
        store._closed.set()  # no pause before the second try
        store.probe_create_only("k", BODY, content_type="text/plain", metadata={})
        store.probe_with_own_object()
        assert store.capabilities.create_only is CreateOnly.UNKNOWN
        assert store.capabilities.create_only_multipart is CreateOnly.UNKNOWN


def test_capabilities_are_announced_when_they_change_and_survive_json(endpoint: Endpoint) -> None:
    announced: list[Capabilities] = []
    store = S3Store(load_settings(environ(endpoint.url)), on_capabilities=announced.append)
    store.remember(create_only=CreateOnly.HONOURED, can_head=True)
    store.remember(can_head=True)
    assert announced == [Capabilities(create_only=CreateOnly.HONOURED, can_head=True)]
    assert Capabilities.from_json(announced[0].to_json()) == announced[0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda inner: st.dictionaries(
            st.sampled_from([*Capabilities().to_json(), "other"]), inner, max_size=7
        ),
    )
)
def test_any_remembered_json_gives_capabilities(found: object) -> None:
    assert isinstance(Capabilities.from_json(found), Capabilities)


# --- answers that are none


def test_a_web_page_is_no_store(make: Any) -> None:
    page = Reply(200, {"Content-Type": "text/html"}, b"<!doctype html><html><body>Console</body></html>")
    store = make(page)
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


def test_an_error_page_of_a_proxy_is_no_store_but_passes(make: Any) -> None:
    with pytest.raises(StoreError, match="HTTP 502") as raised:
        put(make(Reply(502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>")))
    assert raised.value.failure.code == "NotS3"
    assert raised.value.failure.transient


def test_a_connection_that_is_cut_off_passes(make: Any) -> None:
    with pytest.raises(StoreError) as raised:
        put(make(Reply(close=True)))
    assert raised.value.failure.code == "ConnectionClosed"
    assert raised.value.failure.transient
    assert raised.value.status is None


def test_an_answer_that_does_not_come_is_a_read_timeout(make: Any) -> None:
    with pytest.raises(StoreError) as raised:
        put(make(Reply(silent=True), read_seconds=0.5))
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


def test_a_wrong_clock_is_told_in_seconds(make: Any) -> None:
    ahead = {"Date": formatdate(time.time() + 3600, usegmt=True)}
    body = refusal(403, "RequestTimeTooSkewed").body
    store = make(Reply(403, ahead, body))
    with pytest.raises(StoreError, match=r"clock is 3[56]\d\d seconds behind the store's"):
        put(store)
    assert store.clock_offset_seconds == pytest.approx(3600, abs=60)
    with pytest.raises(StoreError, match="seconds behind"):
        store.head("k")  # whose answer has no body


def test_another_region_is_named(make: Any) -> None:
    moved = refusal(
        400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-3'"
    )
    with pytest.raises(StoreError, match="in the region eu-west-3"):
        put(make(moved))


def test_a_redirect_is_followed_and_where_that_fails_the_region_is_named(
    endpoint: Endpoint, make: Any
) -> None:
    moved = refusal(301, "PermanentRedirect", "elsewhere")
    moved.headers["x-amz-bucket-region"] = "eu-central-1"
    assert put(make(moved, Reply(headers={"ETag": f'"{MD5}"'}))).proven
    assert "/eu-central-1/s3/" in endpoint.seen[1].headers["authorization"]
    with pytest.raises(StoreError, match="S3_REGION=eu-central-1"):
        put(make(moved))


def test_a_throttle_with_retry_after_says_for_how_long(make: Any) -> None:
    slow = refusal(503, "SlowDown")
    slow.headers["Retry-After"] = "7"
    with pytest.raises(StoreError) as raised:
        put(make(slow))
    assert raised.value.retry_after_seconds == 7
    assert raised.value.failure.throttled


def test_retry_after_may_be_a_date() -> None:
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111770.0) == pytest.approx(7)
    assert retry_after("soon", 0.0) is None


def test_requests_are_made_once(endpoint: Endpoint, make: Any) -> None:
    with pytest.raises(StoreError):
        put(make(refusal(500, "InternalError")))
    assert len(endpoint.seen) == 1


def test_a_missing_key_is_none_and_a_forbidden_one_an_error_that_proves_nothing(make: Any) -> None:
    assert make(Reply(404)).head("k") is None
    store = make(Reply(403))
    with pytest.raises(StoreError, match="may not send HEAD requests") as raised:
        store.head("k")
    assert raised.value.status == 403
    assert store.capabilities.can_head is None


def test_a_checksum_that_only_the_key_holder_may_see_does_not_hide_the_object(
    endpoint: Endpoint, make: Any
) -> None:
    def reply(seen: Seen) -> Reply:
        if "x-amz-checksum-mode" in seen.headers:
            return Reply(403)
        return Reply(headers={"ETag": '"e"'})

    store = make(reply)
    assert store.head("k") is not None
    assert store.head("k") is not None
    assert ["x-amz-checksum-mode" in seen.headers for seen in endpoint.seen] == [True, False, False]


def test_aborting_an_upload_that_is_gone_is_fine(make: Any) -> None:
    make(refusal(404, "NoSuchUpload")).abort_multipart("k", "u1")


def test_listing_goes_on_page_after_page_and_asks_for_no_more_than_its_limit(
    endpoint: Endpoint, make: Any
) -> None:
    def page(number: int, following: str) -> Reply:
        entry = f"<Contents><Key>k{number}</Key><Size>1</Size></Contents>"
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{following}</NextContinuationToken>"
        more = more if following else "<IsTruncated>false</IsTruncated>"
        return Reply(
            body=f"<ListBucketResult><KeyCount>1</KeyCount>{entry}{more}</ListBucketResult>".encode()
        )

    store = make(page(1, "t1"), page(2, "t2"), page(3, ""))
    assert [info.key for info in store.list("")] == ["k1", "k2", "k3"]
    assert ["continuation-token=t" in seen.path for seen in endpoint.seen] == [False, True, True]
    endpoint.seen.clear()
    endpoint.replies = [page(1, "t1"), page(2, "t2")]
    assert [info.key for info in store.list("", limit=2)] == ["k1", "k2"]
    assert ["max-keys=2" in endpoint.seen[0].path, "max-keys=1" in endpoint.seen[1].path] == [True, True]


def test_listed_parts_go_on_page_after_page(endpoint: Endpoint, make: Any) -> None:
    def page(number: int, more: bool) -> Reply:
        part = f'<Part><PartNumber>{number}</PartNumber><ETag>"e"</ETag><Size>5</Size></Part>'
        flag = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        flag += f"<NextPartNumberMarker>{number}</NextPartNumberMarker>"
        return Reply(body=f"<ListPartsResult><UploadId>u</UploadId>{flag}{part}</ListPartsResult>".encode())

    found = make(page(1, True), page(2, False)).list_parts("k", "u")
    assert [part.number for part in found] == [1, 2]
    assert "part-number-marker=1" in endpoint.seen[1].path


def test_many_keys_are_deleted_a_thousand_at_once(endpoint: Endpoint, make: Any) -> None:
    keys = [f"k{number}" for number in range(1002)]
    gone = Reply(
        body=b"<DeleteResult><Error><Key>k7</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )
    found = dict(make(gone, Reply(body=b"<DeleteResult></DeleteResult>")).delete(keys))
    assert [key for key, error in found.items() if error is not None] == ["k7"]
    assert list(found) == keys
    assert [seen.body.count(b"<Key>") for seen in endpoint.seen] == [1000, 2]


def test_deleting_falls_back_to_one_by_one(endpoint: Endpoint, make: Any) -> None:
    def reply(seen: Seen) -> Reply:
        if seen.method == "POST":
            return refusal(501, "NotImplemented")
        return refusal(403, "AccessDenied") if seen.path.endswith("/b") else Reply(204)

    found = dict(make(reply).delete(["a", "b", "c\x01"]))
    assert found["a"] is None
    assert found["c\x01"] is None
    assert found["b"] is not None
    assert found["b"].status == 403


# --- secrets


def texts_of(error: BaseException) -> str:
    found, one = [], error
    while one is not None:
        found += [str(one), repr(one), repr(getattr(one, "__dict__", ""))]
        one = one.__cause__  # type: ignore[assignment]
    return " ".join(found)


def test_no_secret_comes_back_in_an_error_a_repr_or_a_log(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="cloud_archive")
    echo = refusal(400, "InvalidToken", f"The token {TOKEN} of {SECRET} is no good")
    store = make(echo)
    with pytest.raises(StoreError) as raised:
        put(store)
    shown = texts_of(raised.value) + repr(store) + caplog.text
    assert SECRET not in shown
    assert TOKEN not in shown
    assert "***" in raised.value.store_message


@given(st.text(max_size=200), st.text(max_size=200))
def test_redaction_leaves_no_secret_whatever_surrounds_it(before: str, after: str) -> None:
    shown = redact(f"{before}{SECRET}{after}", (SECRET, ""))
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


# --- threads and cost


def test_one_client_serves_all_threads(endpoint: Endpoint, make: Any) -> None:
    store = make()
    threads = [threading.Thread(target=put, args=(store,)) for _ in range(8)]
    clients: set[int] = set()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clients.add(id(store._requests.client()))
    assert len(endpoint.seen) == 8
    assert len(clients) == 1


def test_a_store_is_made_without_a_client(make: Any) -> None:
    store = make()
    assert store._requests._client_made is None
    assert store.clock_offset_seconds is None


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("comfyui-outputs", "comfyui-outputs/.cloud-archive/check"),
        ("outputs/{Y}-{m}", "outputs/.cloud-archive/check"),
        ("a/b{session_id}", "a/.cloud-archive/check"),
        ("/a//b/", "a/b/.cloud-archive/check"),
        ("{Y}", ".cloud-archive/check"),
        ("", ".cloud-archive/check"),
    ],
)
def test_the_probe_has_one_key_below_what_never_changes_of_the_prefix(prefix: str, key: str) -> None:
    assert probe_key(prefix) == key
