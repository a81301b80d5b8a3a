"""Make stores of the real servers, and write to them in one request or in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloud_archive.store.s3 import S3Store
from tests.servers import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MEBIBYTE = 1024 * 1024
Make = Callable[..., S3Store]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def put(store: S3Store, key: str, body: bytes, *, create_only: bool = True) -> bool:
    metadata = {"sha256": sha256(body), "archive-token": "t-1"}
    return store.put(
        key, body, sha256=sha256(body), content_type="image/png", metadata=metadata, create_only=create_only
    ).proven


def put_in_parts(store: S3Store, key: str, pieces: list[bytes], *, create_only: bool = True) -> str | None:
    whole = b"".join(pieces)
    upload_id = store.create_multipart(key, content_type="video/mp4", metadata={"sha256": sha256(whole)})
    parts = [
        store.upload_part(key, upload_id, number, piece, sha256=sha256(piece))
        for number, piece in enumerate(pieces, 1)
    ]
    assert all(part.proven for part in parts)
    return store.complete_multipart(key, upload_id, parts, create_only=create_only)


def put_once_known(client: S3Client, bucket: str, key: str) -> None:
    """Put an object with a new access key, which the server learns a moment after it was stored."""

    def is_put() -> bool:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=b"a")
        except client.exceptions.ClientError:
            return False
        return True

    wait_until(is_put, "the server knows the key")
