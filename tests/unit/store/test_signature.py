"""Signatures are those of the SDK."""

from __future__ import annotations

import calendar
import hashlib
import time
from typing import Any
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.store.signature import EMPTY_SHA256, Keys, Signer

KEYS = Keys("AKIATEST", "planted+SECRET/0123456789", "planted-token")
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


def sdk_signature(method: str, path: str, signed: dict[str, str]) -> str:
    headers = {name: value for name, value in signed.items() if name != "authorization"}
    request: Any = AWSRequest(method, f"http://s3.example.com{path}", headers=headers)
    request.context["timestamp"] = headers["x-amz-date"]
    credentials = Credentials(KEYS.access_key_id, KEYS.secret_access_key, KEYS.session_token)
    auth: Any = S3SigV4Auth(credentials, "s3", "eu-west-1")
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), value=values)
def test_a_request_is_signed_as_the_sdk_signs_it(key: str, value: str) -> None:
    path = "/pictures/" + quote(key, safe="/-_.~")
    sha256 = hashlib.sha256(b"body").hexdigest()
    headers = {"host": "s3.example.com", "content-type": "image/png", "x-amz-meta-path": value}
    signed = Signer(KEYS, "eu-west-1").sign("PUT", path, headers, sha256, time.time())
    assert signed["authorization"].endswith(f"Signature={sdk_signature('PUT', path, signed)}")
    assert signed["x-amz-content-sha256"] == sha256


def test_each_day_has_a_key_of_its_own() -> None:
    signer = Signer(KEYS, "eu-west-1")
    midnight = calendar.timegm((2026, 11, 28, 0, 0, 0))
    for now in (midnight - 1, midnight, midnight - 1):
        signed = signer.sign("HEAD", "/k", {"host": "s3.example.com"}, EMPTY_SHA256, now)
        assert signed["authorization"].endswith(f"Signature={sdk_signature('HEAD', '/k', signed)}")
