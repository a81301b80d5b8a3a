"""Requests past the SDK: signed as the SDK signs, for every key and header that can occur."""

from __future__ import annotations

import hashlib
import string
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse, HeadersDict
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.config.settings import load_settings
from cloud_archive.store.client import make_client
from cloud_archive.store.fast_put import Address, AnswerError, Keys, Signer, _understood
from cloud_archive.store.proxies import proxy_of

KEYS = Keys("AKIATEST", "planted+SECRET/0123456789", None)
NOW = 1_790_000_000.0
BODY = b"the bytes of a picture"
SHA256 = hashlib.sha256(BODY).hexdigest()

object_keys = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=40
).filter(lambda key: not key.startswith("/") and "//" not in key)
values = st.text(string.ascii_letters + string.digits + " +/=%:,;_-.", max_size=30).map(str.strip)


def by_botocore(method: str, url: str, headers: dict[str, str], keys: Keys) -> str:
    """The Authorization header that botocore makes of the same request at the same moment."""
    request: Any = AWSRequest(method, url, headers=headers, data=BODY)
    request.context["timestamp"] = headers["x-amz-date"]
    auth: Any = S3SigV4Auth(Credentials(*keys), "s3", "eu-west-1")
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    signed = auth.signed_headers(auth.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={signed}, Signature={signature}"


@given(key=object_keys, metadata=st.dictionaries(st.sampled_from("abcdef"), values), token=st.booleans())
def test_the_signature_is_the_sdks(key: str, metadata: dict[str, str], token: bool) -> None:
    keys = KEYS._replace(session_token="a-session/token==") if token else KEYS
    path = f"/pictures/{quote(key, safe='/-_.~')}"
    headers = {"host": "s3.example.com:9000", "content-type": "image/png", "if-none-match": "*"}
    headers |= {f"x-amz-meta-{name}": value for name, value in metadata.items()}
    Signer("eu-west-1").sign("PUT", path, "", headers, SHA256, keys, NOW)
    ours = headers.pop("authorization")
    assert ours == by_botocore("PUT", f"https://s3.example.com:9000{path}", headers, keys)


def test_the_query_of_a_part_is_signed_too_and_a_new_day_has_a_key_of_its_own() -> None:
    signer = Signer("eu-west-1")
    for moment in (NOW, NOW + 86_400):
        headers = {"host": "s3.example.com"}
        query = f"partNumber=7&uploadId={quote('a/b+c=~', safe='-_.~')}"
        signer.sign("PUT", "/pictures/video.mp4", query, headers, SHA256, KEYS, moment)
        ours = headers.pop("authorization")
        assert ours == by_botocore("PUT", f"https://s3.example.com/pictures/video.mp4?{query}", headers, KEYS)


@given(key=object_keys)
def test_the_address_is_learned_from_what_the_sdk_sends(key: str) -> None:
    sent: list[Any] = []

    def keep(request: Any, **_: object) -> AWSResponse:
        sent.append(request)
        empty: Any = SimpleNamespace(stream=lambda: iter(()))
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 200, headers, empty)

    for client, base in CLIENTS:
        client.meta.events.register_first("before-send.s3.PutObject", keep)
        client.put_object(Bucket="pictures", Key=key, Body=BODY)
        client.meta.events.unregister("before-send.s3.PutObject", keep)
        request = sent.pop()
        authorization = request.headers["Authorization"]
        text = authorization.decode() if isinstance(authorization, bytes) else authorization
        address = Address.of(request.url, text, key)
        assert address is not None
        assert f"{address.scheme}://{address.host}{address.base}" == base
        assert request.url == base + quote(key, safe="/-_.~")
        assert address.region == "eu-west-1"


def client_for(style: str, endpoint: str) -> Any:
    environ = {
        "S3_ENDPOINT_URL": endpoint,
        "S3_BUCKET": "pictures",
        "S3_ACCESS_KEY_ID": "AKIATEST",
        "S3_SECRET_ACCESS_KEY": "planted+SECRET/0123456789",
        "S3_REGION": "eu-west-1",
        "S3_ADDRESSING_STYLE": style,
    }
    return make_client(load_settings(environ), 1, 1, lambda **_: None).sdk


CLIENTS = [
    (client_for("path", "http://s3.example.com:9000"), "http://s3.example.com:9000/pictures/"),
    (client_for("virtual", "https://s3.example.com"), "https://pictures.s3.example.com/"),
    (
        client_for("auto", "https://s3.eu-west-1.amazonaws.com"),
        "https://s3.eu-west-1.amazonaws.com/pictures/",
    ),
]


@pytest.mark.parametrize(
    ("url", "authorization"),
    [
        ("http://a/b/key", "AWS AKIATEST:signature"),  # version 2
        ("http://a/b/key", "AWS4-HMAC-SHA256 Credential=A/20261121/eu/s3express/aws4_request, S"),
        ("http://a/b/other", "AWS4-HMAC-SHA256 Credential=A/20261121/eu/s3/aws4_request, S"),
        ("http://a/b/notthekey", "AWS4-HMAC-SHA256 Credential=A/20261121/eu/s3/aws4_request, S"),
    ],
)
def test_what_is_signed_or_addressed_in_another_way_is_left_to_the_sdk(url: str, authorization: str) -> None:
    assert Address.of(url, authorization, "key") is None


def test_where_a_proxy_or_alibabas_own_header_is_needed_all_is_left_to_the_sdk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def past(endpoint: str) -> object:
        environ = {
            "S3_ENDPOINT_URL": endpoint,
            "S3_BUCKET": "b",
            "S3_ACCESS_KEY_ID": "a",
            "S3_SECRET_ACCESS_KEY": "s",
        }
        return make_client(load_settings(environ), 1, 1, lambda **_: None).signed_put

    assert past("https://s3.example.com") is not None
    assert past("https://oss-eu-central-1.aliyuncs.com") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert past("https://s3.example.com") is None
    assert proxy_of("https://s3.example.com") == "127.0.0.1:1"
    assert proxy_of("http://127.0.0.1:9000") is None
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert past("https://s3.example.com") is not None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>less</Message></Error>", "SlowDown"),
        (b"<Error xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Code>SlowDown</Code></Error>", "SlowDown"),
        (b"", "503"),
        (b"<html><body>busy</body></html>", "503"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><Error><Code>&b;</Code></Error>", "503"),
        (b"<Error><Code>SlowD", "503"),
        (b"\xff\xfe", "503"),
    ],
)
def test_an_error_document_is_read_and_anything_else_is_its_status(body: bytes, code: str) -> None:
    with pytest.raises(AnswerError) as raised:
        _understood(503, {"Retry-After": "3"}, body)
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPHeaders"] == {"retry-after": "3"}


def test_keys_do_not_show() -> None:
    assert "SECRET" not in repr(KEYS)
    assert "AKIA" not in repr(KEYS)
