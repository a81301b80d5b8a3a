"""Which S3 operation a request is, read from its method and address alone (path-style addressing).

Source: the request syntax of each operation, https://docs.aws.amazon.com/AmazonS3/latest/API/.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

_OBJECT_PLAIN = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject"}
_OBJECT_UPLOAD_ID = {
    "PUT": "UploadPart",
    "POST": "CompleteMultipartUpload",
    "GET": "ListParts",
    "DELETE": "AbortMultipartUpload",
}
_BUCKET_PLAIN = {
    "PUT": "CreateBucket",
    "GET": "ListObjects",
    "HEAD": "HeadBucket",
    "DELETE": "DeleteBucket",
}

OPERATIONS = (
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "HeadObject",
    "ListParts",
    "AbortMultipartUpload",
    "GetObject",
)
"""The operations of an upload and of its proof, the ones that faults are aimed at."""


class Operation(NamedTuple):
    """A request in the store's own words; `key` and `bucket` are empty where it names none."""

    name: str
    bucket: str
    key: str


def operation_of(method: str, target: str) -> Operation:
    """Name the operation of `method target`; `Other` for everything that the archive never asks for."""
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    return Operation(_name(method, bucket, key, query), bucket, key)


def _name(method: str, bucket: str, key: str, query: dict[str, list[str]]) -> str:
    if not bucket:
        return "ListBuckets" if method == "GET" else "Other"
    if not key:
        if "uploads" in query:
            return "ListMultipartUploads"
        if "delete" in query:
            return "DeleteObjects"
        if "location" in query:
            return "GetBucketLocation"
        return _BUCKET_PLAIN.get(method, "Other")
    if "uploads" in query and method == "POST":
        return "CreateMultipartUpload"
    if "uploadId" in query:
        return _OBJECT_UPLOAD_ID.get(method, "Other")
    if method == "DELETE":
        return "DeleteObject"
    if query.keys() & {"tagging", "acl", "retention", "legal-hold", "attributes"}:
        return "Other"
    return _OBJECT_PLAIN.get(method, "Other")
