"""The one definition of proof: what a HEAD, a listing, an answer or the bytes prove."""

from __future__ import annotations

import hashlib

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.store.base import ObjectInfo
from cloud_archive.store.evidence import (
    Digests,
    Expected,
    Proof,
    Verdict,
    answer_proves,
    check_object,
    compare,
    compare_bytes,
    prove,
)
from tests.memory_store import MemoryStore, refuse

BODY = b"the bytes"
SHA = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()
OTHER = "0" * 64
EXPECTED = Expected(len(BODY), SHA, "proven")


def info(
    *,
    size_bytes: int = len(BODY),
    etag: str | None = "other",
    sha256: str | None = None,
    checksum: str | None = None,
) -> ObjectInfo:
    return ObjectInfo("a", size_bytes, etag, sha256, checksum, {}, None)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (None, Verdict.MISSING),
        (info(size_bytes=1, checksum=SHA), Verdict.DIFFERENT),
        (info(checksum=SHA, sha256=OTHER), Verdict.SAME),
        (info(checksum=OTHER, etag="proven"), Verdict.DIFFERENT),
        (info(checksum=OTHER, sha256=SHA), Verdict.UNDECIDED),
        (info(etag="proven"), Verdict.SAME),
        (info(etag="proven", sha256=OTHER), Verdict.SAME),
        (info(sha256=OTHER), Verdict.DIFFERENT),
        (info(sha256="no checksum"), Verdict.UNDECIDED),
        (info(sha256=SHA), Verdict.UNDECIDED),
        (info(etag=None), Verdict.UNDECIDED),
    ],
)
def test_what_a_head_or_a_listing_says(found: ObjectInfo | None, verdict: Verdict) -> None:
    assert compare(found, EXPECTED) is verdict


def test_no_etag_equals_no_proven_etag() -> None:
    assert compare(info(etag=None), Expected(len(BODY), SHA)) is Verdict.UNDECIDED


def test_an_md5_proves_where_the_metadata_does_not_contradict() -> None:
    expected = Expected(len(BODY), SHA, has_etag=lambda etag: etag == MD5)
    assert compare(info(etag=MD5), expected) is Verdict.SAME
    assert compare(info(etag=MD5, sha256=OTHER), expected) is Verdict.DIFFERENT


def test_an_answer_proves_by_its_checksum_before_its_etag() -> None:
    assert answer_proves(BODY, SHA, checksum=None, etag=MD5)
    assert answer_proves(BODY, SHA, checksum=SHA, etag=None)
    assert not answer_proves(BODY, SHA, checksum=OTHER, etag=MD5)
    assert not answer_proves(BODY, SHA, checksum=None, etag=None)


def test_bytes_are_read_only_where_a_head_cannot_tell() -> None:
    store = MemoryStore()
    store.add("a", BODY)
    assert check_object(store, "a", Expected(len(BODY), SHA, MD5)) is Verdict.SAME
    assert store.count("GetObject") == 0
    assert check_object(store, "a", EXPECTED) is Verdict.SAME
    assert store.count("GetObject") == 1
    assert compare_bytes(store, "gone", EXPECTED) is Verdict.MISSING
    assert compare_bytes(store, "a", Expected(len(BODY), OTHER)) is Verdict.DIFFERENT


def test_how_an_object_is_proven() -> None:
    store = MemoryStore()
    store.add("a", BODY)
    assert prove(store, "a", info(checksum=SHA), EXPECTED, accepted=False) is Proof.CHECKSUM
    assert prove(store, "a", info(sha256=OTHER), EXPECTED, accepted=False) is None
    assert prove(store, "a", None, EXPECTED, accepted=False) is Proof.READ_BACK
    with pytest.raises(StoreError) as gone:
        prove(store, "gone", None, EXPECTED, accepted=True)
    assert gone.value.failure.code == "Unproven"


def test_a_key_with_a_backslash_is_read_whatever_the_store_says() -> None:
    store = MemoryStore()
    store.add("a\\", b"")
    assert prove(store, "a\\", info(checksum=SHA), EXPECTED, accepted=True) is None


def test_where_reading_is_denied_only_an_accepted_upload_counts() -> None:
    store = MemoryStore()
    store.on_call = lambda operation, key: refuse("AccessDenied", 403, key)
    assert prove(store, "a", None, EXPECTED, accepted=True) is Proof.ACCEPTED
    assert prove(store, "a", None, EXPECTED, accepted=False) is None


def test_digests_know_the_etags_of_whole_objects_and_of_parts() -> None:
    digests = Digests(4)
    for piece in (b"the", b" by", b"tes"):
        digests.update(piece)
    parts = b"".join(hashlib.md5(part).digest() for part in (b"the ", b"byte", b"s"))
    assert digests.sha256 == SHA
    assert digests.etags() == (MD5, f"{hashlib.md5(parts).hexdigest()}-3")
    assert compare(info(etag=MD5), digests.expected()) is Verdict.SAME


@pytest.mark.parametrize("code", ["NoSuchBucket", "NotS3"])
def test_a_404_about_more_than_the_key_does_not_show_that_the_object_is_missing(code: str) -> None:
    store = MemoryStore()

    def on_call(operation: str, key: str) -> None:
        if operation == "GetObject":
            refuse(code, 404, key)

    store.on_call = on_call
    for asked in (compare_bytes, check_object):
        with pytest.raises(StoreError) as raised:
            asked(store, "a", EXPECTED)
        assert raised.value.failure.code == code
