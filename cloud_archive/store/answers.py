"""Decode S3's answers and encode what its requests hold: ETags, checksums, metadata."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from ..errors import ObjectExists, StoreError
from .base import ObjectInfo
from .failures import explain
from .translate import web_page_failure

_STORE_HEADERS = ("x-amz", "x-goog-", "x-oss-")
_MD5 = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))


def bare_etag(etag: object) -> str | None:
    """Return an ETag without its quotes and without the `W/` of a weak one; None if there is none."""
    return etag.removeprefix("W/").strip('"') or None if isinstance(etag, str) else None


def md5_base64(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def sha256_base64(hexadecimal: str) -> str:
    """Return a hexadecimal SHA-256 as S3's headers write it."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def sha256_hex(checksum: object) -> str | None:
    """Return a SHA-256 in base64 as hexadecimal; None for anything else, such as a checksum of parts (`…-3`)."""
    if not isinstance(checksum, str):
        return None
    try:
        raw = base64.b64decode(checksum, validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw.hex() if len(raw) == hashlib.sha256().digest_size else None


def ascii_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata whose values hold printable ASCII only; others are percent-encoded."""
    return {
        name: value if value.isascii() and value.isprintable() else quote(value, safe=_PRINTABLE)
        for name, value in metadata.items()
    }


def is_html(answer: Mapping[str, Any]) -> bool:
    return "html" in _headers(answer).get("content-type", "").lower()


def is_web_page(answer: Mapping[str, Any]) -> bool:
    """Return whether a web page came: HTML with neither a store's headers (`x-amz-request-id`) nor a store's ETag.

    HTML alone proves nothing: an object may be HTML, and OpenStack Swift 2.30 calls its answers to writes HTML. Small
    servers may send none of these headers, but an MD5 as the ETag.
    """
    if not is_html(answer) or any(name.startswith(_STORE_HEADERS) for name in _headers(answer)):
        return False
    return _MD5.fullmatch(bare_etag(answer.get("ETag")) or "") is None


def _headers(answer: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return found


def not_s3_error(operation: str, key: str | None) -> StoreError:
    """Return the error for an answer with status 200 that is not S3's."""
    return StoreError(operation, key, web_page_failure(None), status=200)


def check_done(operation: str, key: str | None, answer: Mapping[str, Any]) -> None:
    """Raise StoreError if the answer to a deletion or an abort is a web page, such as a login page."""
    response = answer.get("ResponseMetadata", {})
    # Some servers also give their empty answers the content type of HTML.
    is_empty = response.get("HTTPStatusCode") == 204 or _headers(answer).get("content-length") == "0"
    if not is_empty and is_web_page(answer):
        raise not_s3_error(operation, key)


def check_written(key: str, answer: Mapping[str, Any], *, create_only: bool) -> None:
    """Raise if an answer to PutObject shows that the object was not written.

    Raises:
        ObjectExists: `create_only`, and another writer was first. OpenStack Swift 2.30 says so with a 202.
        StoreError: the same without `create_only`, or a web page came.
    """
    has_etag = bare_etag(answer.get("ETag")) is not None
    if not has_etag and answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 202:
        kind, code = (ObjectExists, "PreconditionFailed") if create_only else (StoreError, "OperationAborted")
        raise kind("PutObject", key, explain(code), status=202)
    if is_web_page(answer) or (not has_etag and is_html(answer)):
        raise not_s3_error("PutObject", key)


def object_info(key: str, answer: Mapping[str, Any], *, believe_checksum: bool) -> ObjectInfo:
    """Return what the answer to a HEAD says; `believe_checksum`: see `Capabilities.echoes_checksum`."""
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    believed = believe_checksum and answer.get("ChecksumType") != "COMPOSITE"
    return ObjectInfo(
        key,
        int(answer["ContentLength"]),
        bare_etag(answer.get("ETag")),
        metadata.get("sha256"),
        sha256_hex(answer.get("ChecksumSHA256")) if believed else None,
        metadata,
        _in_utc(answer.get("LastModified")),
        answer.get("ServerSideEncryption"),
    )


def listed_info(entry: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        entry["Key"],
        entry["Size"],
        bare_etag(entry.get("ETag")),
        None,
        None,
        {},
        _in_utc(entry.get("LastModified")),
    )


def _in_utc(moment: datetime | None) -> datetime | None:
    """Return a time with its zone; a store's time without a zone is in UTC."""
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
