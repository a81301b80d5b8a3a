"""The S3 store against a scripted endpoint, for what no real server shows on demand."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.store.address import addressing_style
from cloud_archive.store.base import Capabilities
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import (
    BODY,
    MD5,
    OK,
    SHA256,
    SHA256_BASE64,
    Endpoint,
    Reply,
    environ,
    put,
    refusal,
)

# --- what is read


def test_of_a_store_that_ignores_ranges_only_the_range_is_read(make: Any) -> None:
    store = make(Reply(headers={"ETag": f'"{MD5}"', "Content-Type": "image/png"}, body=BODY))
    assert b"".join(store.read("k", 5, byte_range=range(5))) == BODY[:5]


def test_of_an_empty_range_nothing_is_read(make: Any) -> None:
    store = make(Reply(headers={"ETag": f'"{MD5}"', "Content-Type": "image/png"}, body=BODY))
    assert b"".join(store.read("k", 5, byte_range=range(0))) == b""


def test_one_byte_shows_that_an_object_is_larger(make_sdk_only: Any) -> None:
    store = make_sdk_only(Reply(headers={"ETag": f'"{MD5}"', "Content-Type": "image/png"}, body=BODY))
    assert b"".join(store.read("k", 5)) == BODY[:6]
    assert b"".join(store.read("k", len(BODY))) == BODY


# --- what is sent


def test_a_small_body_goes_in_one_round_trip_with_its_sha256(endpoint: Endpoint, make_sdk_only: Any) -> None:
    put(make_sdk_only(), create_only=True)
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


def test_a_body_above_a_mebibyte_asks_first_and_tells_its_progress(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    body = bytes(3 * 1024 * 1024 + 5)
    steps: list[int] = []
    put(make_sdk_only(), body, progress=steps.append)
    assert endpoint.seen[0].expect_answered
    assert endpoint.seen[0].body == body
    assert sum(steps) == len(body)
    assert len(steps) > 10


def test_progress_is_told_once_although_the_body_is_sent_twice(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    body = bytes(2 * 1024 * 1024)
    ok = Reply(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
    refused = refusal(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received")
    steps: list[int] = []
    assert put(make_sdk_only(refused, ok), body, progress=steps.append).proven
    assert len(endpoint.seen) == 2
    assert sum(steps) == len(body)


def test_storage_class_and_encryption_are_passed_on_to_both_kinds_of_upload(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    upload = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
    store = make_sdk_only(
        OK,
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


def test_the_catalog_has_no_storage_class_from_which_it_could_not_be_read(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    store = make_sdk_only(
        OK, OK, S3_PREFIX="out/{Y}", S3_STORAGE_CLASS="GLACIER", S3_SERVER_SIDE_ENCRYPTION="AES256"
    )
    for key in ("out/.cloud-archive/v1/segments/a.jsonl.gz", "out/2026/.cloud-archive/v1/a.png"):
        store.put(key, BODY, sha256=SHA256, content_type="a/b", metadata={}, create_only=False)
    assert [seen.headers.get("x-amz-storage-class") for seen in endpoint.seen] == [None, "GLACIER"]
    assert {seen.headers["x-amz-server-side-encryption"] for seen in endpoint.seen} == {"AES256"}


def test_metadata_that_is_no_ascii_is_percent_encoded(endpoint: Endpoint, make_sdk_only: Any) -> None:
    put(make_sdk_only(), metadata={"name": "Bär\n"})
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
    endpoint: Endpoint, make_sdk_only: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    put(make_sdk_only())
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
    make_sdk_only: Any, headers: dict[str, str], proven: bool
) -> None:
    store = make_sdk_only(Reply(headers=headers))
    assert put(store).proven is proven
    if "ETag" in headers:
        assert store.upload_part("m", "u1", 1, BODY, sha256=SHA256).proven is proven


def test_a_checksum_that_a_store_never_echoed_is_not_believed_later(make_sdk_only: Any) -> None:
    told = {"ETag": '"e"', "x-amz-checksum-sha256": SHA256_BASE64}
    parrot = make_sdk_only(OK, Reply(headers=told))
    put(parrot)
    found = parrot.head("a/b.png")
    assert found is not None
    assert found.checksum_sha256 is None
    honest = make_sdk_only(Reply(headers={"ETag": '"e"', "x-amz-checksum-sha256": SHA256_BASE64}))
    put(honest)
    found = honest.head("a/b.png")
    assert found is not None
    assert found.checksum_sha256 == SHA256


def test_a_checksum_of_parts_is_none_of_the_object(make_sdk_only: Any) -> None:
    told = {
        "ETag": '"e-2"',
        "x-amz-checksum-sha256": SHA256_BASE64 + "-2",
        "x-amz-checksum-type": "COMPOSITE",
    }
    store = make_sdk_only(Reply(headers=told), known=Capabilities(echoes_checksum=True))
    found = store.head("m")
    assert found is not None
    assert found.checksum_sha256 is None
    assert found.etag == "e-2"


# --- threads and cost


def test_one_client_serves_all_threads(endpoint: Endpoint, make_sdk_only: Any) -> None:
    store = make_sdk_only()
    clients: set[int] = set()

    def put_and_note() -> None:
        put(store)
        clients.add(id(store._requests.client()))

    threads = [threading.Thread(target=put_and_note) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(endpoint.seen) == 8
    assert len(clients) == 1


def test_all_connections_share_a_tls_context_that_none_of_them_changes(
    endpoint: Endpoint,
    make_sdk_only: Any,
    self_signed: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """urllib3 would change it for each connection, which must not happen while another one uses it."""
    changed: list[ssl.SSLContext] = []
    change = ssl.SSLContext.set_alpn_protocols

    def noted(self: ssl.SSLContext, protocols: list[str]) -> None:
        changed.append(self)
        change(self, protocols)

    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", noted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed)
    endpoint.server.socket = context.wrap_socket(endpoint.server.socket, server_side=True)
    url = endpoint.url.replace("http:", "https:")
    closes = Reply(headers={"ETag": f'"{MD5}"', "Connection": "close"})
    authorities = tmp_path / "authorities.pem"
    shutil.copy(self_signed[0], authorities)
    store = make_sdk_only(closes, S3_ENDPOINT_URL=url, S3_CA_BUNDLE=str(authorities))
    for _ in range(2):
        put(store)
    assert endpoint.connections == 2
    assert len(changed) == 1
    # The authorities are replaced while it runs.
    pem = authorities.read_text()
    authorities.write_text("no certificates")
    with pytest.raises(StoreError) as raised:
        put(store)
    assert raised.value.failure.code == "TLS"
    authorities.write_text(pem + "\n")
    put(store)
    assert len(changed) == 2


def test_a_store_is_made_without_a_client(make_sdk_only: Any) -> None:
    store = make_sdk_only()
    assert store._requests._client_made is None
    assert store.clock_offset_seconds is None


@pytest.mark.parametrize("kind", ["application/xml", "application/json"])
def test_a_200_without_an_etag_is_no_object(make_sdk_only: Any, kind: str) -> None:
    store = make_sdk_only(Reply(200, {"Content-Type": kind}, b"<Error><Code>InternalError</Code></Error>"))
    with pytest.raises(StoreError) as raised:
        b"".join(store.read("k", 100))
    assert raised.value.failure.code == "NotS3"
