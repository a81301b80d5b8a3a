"""Decoding what S3 answers."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

import pytest

from cloud_archive.store.answers import (
    ascii_metadata,
    bare_etag,
    is_html,
    listed_info,
    object_info,
    sha256_base64,
    sha256_hex,
)

SHA = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("etag", "bare"), [('"abc"', "abc"), ('W/"abc"', "abc"), ('""', None), ("", None), (None, None)]
)
def test_an_etag_loses_its_quotes(etag: str | None, bare: str | None) -> None:
    assert bare_etag(etag) == bare


def test_a_checksum_of_parts_is_no_sha256() -> None:
    assert sha256_hex(sha256_base64(SHA)) == SHA
    assert sha256_hex(f"{sha256_base64(SHA)}-3") is None
    assert sha256_hex("eA==") is None
    assert sha256_hex(None) is None


def test_metadata_becomes_ascii() -> None:
    assert ascii_metadata({"path": "ü a\n"}) == {"path": "%C3%BC a%0A"}


def test_a_page_is_known_by_its_type() -> None:
    page = {"ResponseMetadata": {"HTTPHeaders": {"content-type": "text/HTML; charset=utf-8"}}}
    assert is_html(page)
    assert not is_html({})


def test_a_time_without_a_zone_is_in_utc() -> None:
    naive = datetime(2026, 11, 28, 10)
    entry = {"Key": "a", "Size": 1, "LastModified": naive}
    answer = {"ContentLength": 1, "LastModified": naive}
    for info in (listed_info(entry), object_info("a", answer, believe_checksum=False)):
        assert info.last_modified == datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
