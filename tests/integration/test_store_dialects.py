"""The S3 store against servers that answer otherwise than S3, and what they do to keys."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from cloud_archive.errors import ObjectExists, StoreError
from cloud_archive.files import stat_version
from cloud_archive.store.base import CreateOnly
from cloud_archive.upload.outcome import Outcome
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.integration.stores import Make, put, sha256
from tests.journal import MemoryJournal
from tests.quirks.object_facts import RandomEtags
from tests.quirks.profiles import PROFILES, SilentOverwrite
from tests.quirks.server import QuirkServer
from tests.quirks.spoilt_answers import HangingAnswer
from tests.servers import SECRET_ACCESS_KEY, S3Server

pytestmark = pytest.mark.store
# --- dialects


REFUSES = {
    "wrong clock": "RequestTimeTooSkewed",
    "html everywhere": "NotS3",
    "html with etag": "NotS3",
    "303 for writes": "NotS3",
    "redirect to https": "NotS3",
    "untold region": "PermanentRedirect",
}


@pytest.mark.parametrize(("name", "code"), REFUSES.items())
def test_a_dialect_that_accepts_nothing_is_named_by_its_code(
    seaweedfs: S3Server, make_store: Make, name: str, code: str
) -> None:
    """What every other dialect takes, and how, is in tests/quirks."""
    with QuirkServer(seaweedfs, PROFILES[name]()) as quirks:
        store = make_store(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url))
        with pytest.raises(StoreError) as raised:
            put(store, "small", b"small")
        assert raised.value.failure.code == code
        assert seaweedfs.keys() == []
        assert SECRET_ACCESS_KEY not in repr(store.capabilities)


@pytest.mark.parametrize(
    ("name", "single", "multipart"),
    [
        ("plain", CreateOnly.HONOURED, CreateOnly.HONOURED),
        ("b2", CreateOnly.REJECTED, CreateOnly.REJECTED),
        ("b2 checksums", CreateOnly.HONOURED, CreateOnly.HONOURED),
        ("501 on conditionals", CreateOnly.REJECTED, CreateOnly.REJECTED),
        ("gcs", CreateOnly.IGNORED, CreateOnly.IGNORED),
        ("silent overwrite", CreateOnly.IGNORED, CreateOnly.IGNORED),
        ("oss", CreateOnly.IGNORED, CreateOnly.IGNORED),
        ("one write a second", CreateOnly.HONOURED, CreateOnly.HONOURED),
        ("random etags", CreateOnly.HONOURED, CreateOnly.HONOURED),
    ],
)
def test_the_probe_is_right_about_each_dialect(
    seaweedfs: S3Server, make_store: Make, name: str, single: CreateOnly, multipart: CreateOnly
) -> None:
    with QuirkServer(seaweedfs, PROFILES[name]()) as quirks:
        store = make_store(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url))
        store.probe_with_own_object()
        if name == "b2":  # one request shows one limit: the first shows that SHA-256 is refused
            store.probe_with_own_object()
        assert store.capabilities.create_only is single
        assert store.capabilities.create_only_multipart is multipart
        assert store.capabilities.checksum == ("md5" if name in ("b2", "b2 checksums", "gcs") else "sha256")
        assert len(quirks.log) <= 14


def test_a_probe_that_was_overwritten_in_parts_leaves_the_object_as_one_request_made_it(
    seaweedfs: S3Server, make_store: Make
) -> None:
    with QuirkServer(seaweedfs, SilentOverwrite()) as quirks:
        store = make_store(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url))
        put(store, "x", b"x")
        store.probe_create_only("x", b"x", content_type="image/png", metadata={"sha256": sha256(b"x")})
        assert store.capabilities.create_only_multipart is CreateOnly.IGNORED
    found = seaweedfs.client.head_object(Bucket=seaweedfs.bucket, Key="x")
    assert found["ETag"].strip('"') == hashlib.md5(b"x").hexdigest()


def test_etags_that_are_no_checksum_prove_nothing(seaweedfs: S3Server, make_store: Make) -> None:
    with QuirkServer(seaweedfs, RandomEtags()) as quirks:
        store = make_store(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url))
        assert not put(store, "x", b"x")


def test_an_answer_that_never_comes_may_still_have_written(seaweedfs: S3Server, make_store: Make) -> None:
    with QuirkServer(seaweedfs, HangingAnswer()) as quirks:
        store = make_store(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url), read_seconds=6)
        with pytest.raises(ObjectExists):  # the SDK finds the object whose answer never came
            put(store, "y", b"y")
        store.use_sdk_only()
        with pytest.raises(StoreError) as raised:
            put(store, "x", b"x")
        assert raised.value.failure.code == "ReadTimeout"
        with pytest.raises(ObjectExists):
            put(make_store(seaweedfs.environ(S3_ENDPOINT_URL=quirks.url)), "x", b"x")
        found = make_store(seaweedfs.environ()).head("x")
        assert found is not None
        assert found.sha256 == sha256(b"x")


# --- keys that a store takes for others


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_backslash_that_the_store_takes_for_a_slash_is_no_silent_loss(
    make_store: Make, seaweedfs: S3Server, tmp_path: Path
) -> None:
    """SeaweedFS keeps `a\\b` as `a/b`, which can be read by either name, and makes an empty folder of `a\\`."""
    store = make_store(seaweedfs.environ())
    uploader = Uploader(store, tmp_path, make_key=lambda path: f"odd/{path}", session_id="s")

    def upload(name: str) -> Outcome:
        (tmp_path / name).write_bytes(b"a picture")
        return uploader.upload(claim_of(stat_version(tmp_path, name)), MemoryJournal(), lambda sent: None)

    outcome = upload("a\\b.png")
    assert b"".join(store.read(outcome.key, 10**9)) == b"a picture"
    with pytest.raises(StoreError) as refused:
        upload("z\\")
    assert refused.value.failure.code == "Unproven"
