"""Signatures as botocore makes them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.unit.store.endpoint import SECRET, TOKEN, Endpoint, Seen


def signed_headers(seen: Seen) -> set[str]:
    """Return the names of the headers that a request's signature covers."""
    return set(seen.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";"))


def is_signed_right(endpoint: Endpoint, seen: Seen) -> bool:
    """Return whether botocore makes the same signature for this request, and it covers what decides its effect."""
    names = signed_headers(seen)
    decisive = {name for name in seen.headers if name.startswith("x-amz-")} | {"host"}
    assert decisive | ({"content-type"} & seen.headers.keys()) <= names
    parts = urlsplit(seen.path)
    request: Any = AWSRequest(
        seen.method,
        f"{endpoint.url}{parts.path}",
        headers={name: seen.headers[name] for name in names},
        params=dict(parse_qsl(parts.query, keep_blank_values=True)),
        data=seen.body,
    )
    request.context["timestamp"] = seen.headers["x-amz-date"]
    auth: Any = S3SigV4Auth(Credentials("AKIATEST", SECRET, TOKEN), "s3", "us-east-1")
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return seen.headers["authorization"].endswith(f"Signature={signature}")
