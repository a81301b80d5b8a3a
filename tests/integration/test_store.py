"""The S3 store against real servers, and what those servers do, as measured through it and through plain boto3.

| | SeaweedFS 4.48 | rclone 1.75.2 `serve s3` | moto 5.2.5 |
|---|---|---|---|
| PutObject repeats `x-amz-checksum-sha256` | yes | no | no |
| a wrong SHA-256 is refused | 400 BadDigest | no | no |
| a wrong Content-MD5 is refused | 400 BadDigest | 400 BadDigest | no |
| ETag of PutObject and of a part | MD5 | MD5 | MD5 |
| ETag of a multipart object | MD5 of MD5s, `-2` | the same; HEAD shows the MD5 of the whole | as SeaweedFS |
| UploadPart repeats the SHA-256 | yes, also unannounced | no | no |
| ListParts shows the SHA-256 | no, though Complete requires it once it was announced | no | no |
| HEAD shows the SHA-256 of a single PUT | yes | as the client sent it, unverified | no |
| `If-None-Match: *` on PutObject | 412 | ignored, overwrites | 412 |
| the same on CompleteMultipartUpload | 412 | ignored, overwrites | 412 |
| metadata is kept, also of multipart uploads | yes | yes, its names capitalised | yes |
| aborting a completed upload | 204 | 404 NoSuchUpload | 204 after 412, else 404 |
| wrong keys | InvalidAccessKeyId, SignatureDoesNotMatch | the same | accepted |
| unknown storage class | 400 InvalidStorageClass | accepted | 400 InvalidStorageClass |
| a key with PutObject only | HEAD: 403 for all; ListParts and Abort: allowed | no policies | no policies |

The rows that our code relies on are held by tests below.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest

from cloud_archive.errors import ObjectExists, StoreError
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.probe import probe_with_known_object, put_probe_object, verify_connection
from cloud_archive.store.s3 import S3Store
from tests.integration.stores import MEBIBYTE, Make, put, put_in_parts, sha256
from tests.servers import PUT_ONLY_SECRET, S3Server, wait_until

pytestmark = pytest.mark.store


@pytest.mark.parametrize("by_sdk", [False, True])
def test_what_was_put_is_there_proven_and_described(any_s3: S3Server, make_store: Make, by_sdk: bool) -> None:
    store = make_store(any_s3.environ())
    if by_sdk:
        store.use_sdk_only()
    body = os.urandom(100_000)
    assert put(store, "a/Bär (1) ü+&%.png", body)
    assert any_s3.read("a/Bär (1) ü+&%.png") == body
    assert any_s3.metadata("a/Bär (1) ü+&%.png")["sha256"] == sha256(body)
    found = store.head("a/Bär (1) ü+&%.png")
    assert found is not None
    assert (found.size_bytes, found.sha256) == (len(body), sha256(body))
    assert found.metadata["archive-token"] == "t-1"
    assert found.etag == hashlib.md5(body).hexdigest()
    # The other two don't repeat the checksum in their answers to writes, so it counts in no HEAD.
    assert found.checksum_sha256 == (sha256(body) if any_s3.name == "seaweedfs" else None)
    assert b"".join(store.read("a/Bär (1) ü+&%.png", 10**9)) == body
    assert store.head("a/none.png") is None


def test_a_body_above_a_mebibyte_arrives(any_s3: S3Server, make_store: Make) -> None:
    body = os.urandom(3 * MEBIBYTE + 7)
    assert put(make_store(any_s3.environ()), "big.png", body)
    assert any_s3.read("big.png") == body


def test_storage_class_and_encryption_reach_the_store(moto_s3: S3Server, make_store: Make) -> None:
    store = make_store(
        moto_s3.environ(
            S3_STORAGE_CLASS="STANDARD_IA", S3_SERVER_SIDE_ENCRYPTION="aws:kms", S3_SSE_KMS_KEY_ID="key-7"
        )
    )
    put(store, "small.png", b"small")
    put_in_parts(store, "film.mp4", [os.urandom(5 * MEBIBYTE), b"end"])
    for key in ("small.png", "film.mp4"):
        found = moto_s3.client.head_object(Bucket=moto_s3.bucket, Key=key)
        assert (found["StorageClass"], found["ServerSideEncryption"], found["SSEKMSKeyId"]) == (
            "STANDARD_IA",
            "aws:kms",
            "key-7",
        ), key


def test_parts_become_one_object_with_its_metadata(any_s3: S3Server, make_store: Make) -> None:
    store = make_store(any_s3.environ())
    pieces = [os.urandom(5 * MEBIBYTE), os.urandom(5 * MEBIBYTE), b"end"]
    put_in_parts(store, "a/film.mp4", pieces)
    assert any_s3.read("a/film.mp4") == b"".join(pieces)
    found = store.head("a/film.mp4")
    assert found is not None
    assert (found.size_bytes, found.sha256) == (10 * MEBIBYTE + 3, sha256(b"".join(pieces)))
    assert found.checksum_sha256 is None


def test_an_upload_goes_on_from_its_listed_parts_after_a_restart(any_s3: S3Server, make_store: Make) -> None:
    first, second = os.urandom(5 * MEBIBYTE), b"end"
    before = make_store(any_s3.environ())
    upload_id = before.create_multipart("m.mp4", content_type="video/mp4", metadata={})
    before.upload_part("m.mp4", upload_id, 1, first, sha256=sha256(first))
    after = make_store(any_s3.environ(), capabilities=before.capabilities)
    (listed,) = after.list_parts("m.mp4", upload_id)
    assert (listed.number, listed.size_bytes) == (1, len(first))
    assert listed.etag.strip('"') == hashlib.md5(first).hexdigest()
    fresh = after.upload_part("m.mp4", upload_id, 2, second, sha256=sha256(second))
    after.complete_multipart("m.mp4", upload_id, [listed, fresh], create_only=True)
    assert any_s3.read("m.mp4") == first + second


def test_an_aborted_upload_is_gone_and_aborting_it_again_is_no_error(
    any_s3: S3Server, make_store: Make
) -> None:
    store = make_store(any_s3.environ())
    upload_id = store.create_multipart("m", content_type="video/mp4", metadata={})
    store.abort_multipart("m", upload_id)
    store.abort_multipart("m", upload_id)
    with pytest.raises(StoreError) as raised:
        store.list_parts("m", upload_id)
    assert raised.value.failure.code == "NoSuchUpload"


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("seaweedfs", CreateOnly.HONOURED),
        ("rclone_s3", CreateOnly.IGNORED),
        ("moto_s3", CreateOnly.HONOURED),
    ],
)
@pytest.mark.parametrize("own_object", [False, True])
def test_the_probe_finds_out_what_create_only_does_and_harms_nothing(
    request: pytest.FixtureRequest, make_store: Make, server: str, expected: CreateOnly, own_object: bool
) -> None:
    s3 = request.getfixturevalue(server)
    announced: list[Capabilities] = []
    store = make_store(s3.environ(S3_PREFIX="a/{Y}"), on_capabilities=announced.append)
    put(store, "a/first.png", b"first")
    if own_object:
        store.probe_with_own_object()
    else:
        metadata = {"sha256": sha256(b"first"), "archive-token": "t-1"}
        store.probe_create_only("a/first.png", b"first", content_type="image/png", metadata=metadata)
    assert store.capabilities.create_only is expected
    assert store.capabilities.create_only_multipart is expected
    assert store.capabilities.can_head is True
    assert announced[-1] == store.capabilities
    assert s3.read("a/first.png") == b"first"
    assert s3.metadata("a/first.png")["archive-token"] == "t-1"
    left = ["a/.cloud-archive/check", "a/first.png"] if own_object else ["a/first.png"]
    assert s3.keys() == left
    assert not s3.client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads")
    assert store.unfinished_uploads("a/first.png") == []


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ("seaweedfs", CreateOnly.HONOURED),
        ("rclone_s3", CreateOnly.UNKNOWN),
        ("moto_s3", CreateOnly.HONOURED),
    ],
)
def test_in_a_bucket_that_was_checked_the_connection_shows_whether_the_store_refuses(
    request: pytest.FixtureRequest, make_store: Make, server: str, found: CreateOnly
) -> None:
    s3 = request.getfixturevalue(server)
    put_probe_object(make_store(s3.environ()))
    before = s3.objects()
    store = make_store(s3.environ())
    assert verify_connection(store)
    probe_with_known_object(store)
    assert store.capabilities.create_only is found
    assert s3.objects() == before


@pytest.mark.parametrize("server", ["seaweedfs", "moto_s3"])
def test_a_create_only_write_overwrites_nothing(
    request: pytest.FixtureRequest, make_store: Make, server: str
) -> None:
    s3 = request.getfixturevalue(server)
    store = make_store(s3.environ())
    s3.put("taken.png", b"somebody else's")
    with pytest.raises(ObjectExists):
        put(store, "taken.png", b"ours")
    with pytest.raises(ObjectExists):
        put_in_parts(store, "taken.png", [b"ours"])
    assert s3.read("taken.png") == b"somebody else's"
    assert store.capabilities.create_only is CreateOnly.HONOURED
    assert store.capabilities.create_only_multipart is CreateOnly.HONOURED


def test_without_create_only_an_object_is_replaced(any_s3: S3Server, make_store: Make) -> None:
    store = make_store(any_s3.environ())
    put(store, "same.png", b"one")
    assert put(store, "same.png", b"two", create_only=False)
    assert any_s3.read("same.png") == b"two"


def test_listing_pages_and_stops_at_its_limit(any_s3: S3Server, make_store: Make) -> None:
    store = make_store(any_s3.environ())
    for number in range(7):
        put(store, f"p/{number}", b"x" * number or b"-")
    put(store, "q/other", b"x")
    assert [info.key for info in store.list("p/")] == [f"p/{number}" for number in range(7)]
    assert [info.size_bytes for info in store.list("p/", limit=3)] == [1, 1, 2]
    assert [info.key for info in store.list("nothing/")] == []


def test_deleting_a_missing_object_is_no_error(any_s3: S3Server, make_store: Make) -> None:
    store = make_store(any_s3.environ())
    put(store, "a", b"x")
    put(store, "b", b"x")
    assert dict(store.delete(["a", "none"])) == {"a": None, "none": None}
    assert dict(store.delete(["b"])) == {"b": None}
    assert any_s3.keys() == []


@pytest.mark.parametrize("server", ["seaweedfs", "rclone_s3"])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"S3_ACCESS_KEY_ID": "AKIAWRONG"}, "InvalidAccessKeyId"),
        ({"S3_SECRET_ACCESS_KEY": "planted+WRONG/secret"}, "SignatureDoesNotMatch"),
        ({"S3_BUCKET": "there-is-none"}, "NoSuchBucket"),
    ],
)
def test_each_wrong_setting_has_its_own_error(
    request: pytest.FixtureRequest, make_store: Make, server: str, wrong: dict[str, str], code: str
) -> None:
    store = make_store(request.getfixturevalue(server).environ(**wrong))
    with pytest.raises(StoreError) as raised:
        put(store, "a", b"x")
    assert raised.value.failure.code == code
    assert not raised.value.failure.transient
    assert "planted" not in f"{raised.value} {raised.value.store_message} {raised.value.__cause__}"


def test_a_key_that_may_only_put_can_put_probe_and_go_on(seaweedfs: S3Server, make_store: Make) -> None:
    store = make_store(seaweedfs.put_only(S3_PREFIX="a"))
    assert put(store, "a/x.png", b"x")
    store.probe_with_own_object()
    assert store.capabilities.create_only is CreateOnly.HONOURED
    assert store.capabilities.create_only_multipart is CreateOnly.HONOURED
    assert store.capabilities.can_head is False
    put_in_parts(store, "a/y.mp4", [b"y"])
    with pytest.raises(ObjectExists):
        put(store, "a/x.png", b"other")
    for refused in (
        lambda: store.head("a/x.png"),
        lambda: list(store.read("a/x.png", 10**9)),
        lambda: list(store.list("")),
    ):
        with pytest.raises(StoreError) as raised:
            refused()
        assert raised.value.status == 403
        assert PUT_ONLY_SECRET not in repr(raised.value.__dict__)
    assert [error.status for _, error in store.delete(["a/x.png"]) if error] == [403]
    assert seaweedfs.read("a/x.png") == b"x"


def test_a_key_that_may_put_and_get_is_found_to_head(seaweedfs: S3Server, make_store: Make) -> None:
    store = make_store(seaweedfs.put_get())
    put(store, "x", b"x")
    store.probe_with_own_object()
    assert store.capabilities.can_head is True
    assert b"".join(store.read("x", 10**9)) == b"x"


@pytest.mark.parametrize("checksum", ["sha256", "md5"])
def test_both_integrity_headers_are_proof(any_s3: S3Server, make_store: Make, checksum: str) -> None:
    store = make_store(any_s3.environ(S3_CHECKSUM=checksum))
    assert put(store, "x", b"bytes")
    assert store.capabilities.checksum == checksum


@pytest.mark.parametrize("server", ["seaweedfs", "rclone_s3"])
def test_bytes_that_change_on_the_way_are_refused_and_may_be_tried_again(
    request: pytest.FixtureRequest, make_store: Make, server: str
) -> None:
    # rclone verifies Content-MD5 only.
    s3 = request.getfixturevalue(server)
    store = make_store(s3.environ(S3_CHECKSUM="md5" if server == "rclone_s3" else "sha256"))
    store.use_sdk_only()
    client: Any = store._requests.client().sdk

    def damage(params: dict[str, Any], **_: object) -> None:
        params["body"] = b"other"

    client.meta.events.register("before-call.s3.PutObject", damage)
    with pytest.raises(StoreError) as raised:
        put(store, "x", b"bytes")
    assert raised.value.failure.code == "BadDigest"
    assert raised.value.failure.transient
    assert s3.keys() == []


def is_put(store: S3Store, key: str, body: bytes) -> bool:
    """Put an object; return False if the store can't take it yet."""
    try:
        return put(store, key, body, create_only=False)
    except StoreError as error:
        if error.failure.code != "InternalError":
            raise
        return False


def test_a_store_that_is_taken_away_and_comes_back_is_met_again_by_the_same_client(
    own_seaweedfs: S3Server, make_store: Make
) -> None:
    embedded = own_seaweedfs.embedded
    assert embedded is not None
    store = make_store(own_seaweedfs.environ())
    put(store, "a", b"a")
    embedded.stop()
    with pytest.raises(StoreError) as raised:
        put(store, "b", b"b")
    assert raised.value.failure.code in ("ConnectionRefused", "ConnectionClosed")
    embedded.start()
    wait_until(lambda: is_put(store, "b", b"b"), "the store writes again")
    if os.name == "posix":
        hasty = make_store(own_seaweedfs.environ(), read_seconds=0.5)
        embedded.pause()
        with pytest.raises(StoreError) as raised:
            put(hasty, "c", b"c")
        assert raised.value.failure.code == "ReadTimeout"
        embedded.resume()
        assert put(store, "d", b"d")


def test_a_self_signed_endpoint_is_refused_with_the_cure_and_works_with_it(
    tls_seaweedfs: S3Server, make_store: Make
) -> None:
    environ = tls_seaweedfs.environ()
    untrusted = make_store({name: value for name, value in environ.items() if name != "S3_CA_BUNDLE"})
    with pytest.raises(StoreError, match="S3_CA_BUNDLE") as raised:
        put(untrusted, "x", b"x")
    assert raised.value.failure.code == "TLS"
    store = make_store(environ)
    assert put(store, "x", b"x" * 2 * MEBIBYTE)
    assert not store._requests.sdk_is_loaded, "the fast path trusts the same file"
    assert b"".join(store.read("x", 10**9)) == b"x" * 2 * MEBIBYTE
