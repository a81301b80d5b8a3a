"""Turn libcurl's answers into what boto3 would return, so that one code reads both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from ..text import parse_time
from .curl_client import Answer, Unexpected

_META = "x-amz-meta-"
_NAMES = {
    "content-range": "ContentRange",
    "content-type": "ContentType",
    "etag": "ETag",
    "x-amz-checksum-sha256": "ChecksumSHA256",
    "x-amz-checksum-type": "ChecksumType",
    "x-amz-server-side-encryption": "ServerSideEncryption",
}
_LIST = {"ContinuationToken": "continuation-token", "MaxKeys": "max-keys", "Prefix": "prefix"}


def as_boto3(answer: Answer) -> dict[str, Any]:
    """Return boto3's answer to PutObject or GetObject, `Body` as bytes. Unexpected: a number is invalid."""
    headers = answer.headers
    found: dict[str, Any] = {
        "ResponseMetadata": {"HTTPStatusCode": answer.status, "HTTPHeaders": headers},
        "Metadata": {
            name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)
        },
        "Body": answer.body,
    }
    found |= {name: headers[header] for header, name in _NAMES.items() if header in headers}
    if "content-length" in headers:
        found["ContentLength"] = _parsed(int, headers["content-length"])
    return found


def head_as_boto3(answer: Answer) -> dict[str, Any]:
    """Return boto3's answer to HeadObject. Unexpected: a number or a date is invalid."""
    from email.utils import parsedate_to_datetime  # takes 10 ms

    found = as_boto3(answer)
    if "last-modified" in answer.headers:
        found["LastModified"] = _parsed(parsedate_to_datetime, answer.headers["last-modified"])
    return found


def list_query(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the query of ListObjectsV2 for boto3's parameters, as boto3 sends it."""
    query = {_LIST[name]: str(value) for name, value in parameters.items()}
    return {"list-type": "2", "encoding-type": "url"} | query


def listing(answer: Answer) -> dict[str, Any]:
    """Return boto3's answer to ListObjectsV2. Unexpected: it is no listing."""
    from xml.etree import ElementTree

    try:
        # boto3 uses the same parser, and believes no other encoding either.
        root = ElementTree.fromstring(answer.body, ElementTree.XMLParser(encoding="utf-8"))  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError):
        raise Unexpected from None
    if _local(root.tag) != "ListBucketResult":
        raise Unexpected
    contents: list[dict[str, Any]] = []
    found: dict[str, Any] = {"Contents": contents}
    for child in root:
        name, text = _local(child.tag), child.text or ""
        if name == "Contents":
            contents.append(_entry({_local(field.tag): field.text or "" for field in child}))
        elif name == "IsTruncated":
            found[name] = text == "true"
        else:
            found[name] = text
    if found.get("EncodingType") == "url":
        for entry in contents:
            entry["Key"] = unquote_plus(entry["Key"])
    return found


def _entry(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return what boto3 says of one object. Unexpected: a field is missing or has an unknown form."""
    if not fields.keys() >= {"Key", "Size"}:
        raise Unexpected
    entry: dict[str, Any] = {"Key": fields["Key"], "Size": _parsed(int, fields["Size"])}
    if "ETag" in fields:
        entry["ETag"] = fields["ETag"]
    if "LastModified" in fields:
        entry["LastModified"] = _parsed(parse_time, fields["LastModified"])
    return entry


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        raise Unexpected from None


def _local(tag: str) -> str:
    """Return an XML name without its namespace."""
    return tag.rpartition("}")[2]
