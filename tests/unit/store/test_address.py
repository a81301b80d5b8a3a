"""The address of a bucket: as the SDK uses it, and as the settings say it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from hypothesis import given

from cloud_archive.config.settings import load_settings
from cloud_archive.store.address import Address
from cloud_archive.store.client import make_client
from tests.unit.store.endpoint import BODY, object_keys


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
        address = Address.of_request(request.url, text, key)
        assert address is not None
        assert f"{address.url}/" == base
        assert request.url == base + quote(key, safe="/-_.~")
        assert address.region == "eu-west-1"


def variables_for(style: str, endpoint: str, **more: str) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": endpoint,
        "S3_BUCKET": "pictures",
        "S3_ACCESS_KEY_ID": "AKIATEST",
        "S3_SECRET_ACCESS_KEY": "planted+SECRET/0123456789",
        "S3_REGION": "eu-west-1",
        "S3_ADDRESSING_STYLE": style,
    } | more


def client_for(style: str, endpoint: str) -> Any:
    return make_client(load_settings(variables_for(style, endpoint)), 1, 1, lambda **_: None).sdk


CLIENTS = [
    (client_for("path", "http://s3.example.com:9000"), "http://s3.example.com:9000/pictures/"),
    (client_for("virtual", "https://s3.example.com"), "https://pictures.s3.example.com/"),
    (client_for("auto", ""), "https://pictures.s3.eu-west-1.amazonaws.com/"),
]


@pytest.mark.parametrize(
    ("style", "endpoint", "bucket"),
    [
        ("auto", "", "pictures"),
        ("auto", "", "with.dots"),
        ("path", "", "pictures"),
        ("auto", "https://s3.eu-west-1.amazonaws.com", "pictures"),
        ("auto", "http://s3.example.com:9000", "pictures"),
        ("path", "https://s3.example.com/base/path", "pictures"),
        ("virtual", "https://s3.example.com", "pictures"),
        ("auto", "http://127.0.0.1:9000", "pictures"),
        ("auto", "http://[::1]:9000", "pictures"),
    ],
)
def test_the_address_of_the_settings_is_the_sdks(style: str, endpoint: str, bucket: str) -> None:
    settings = load_settings(variables_for(style, endpoint, S3_BUCKET=bucket))
    sent: list[str] = []

    def keep(request: Any, **_: object) -> AWSResponse:
        sent.append(request.url)
        empty: Any = SimpleNamespace(stream=lambda: iter(()))
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 200, headers, empty)

    client: Any = make_client(settings, 1, 1, lambda **_: None).sdk
    client.meta.events.register_first("before-send.s3.PutObject", keep)
    client.put_object(Bucket=bucket, Key="k", Body=BODY)
    address = Address.of_settings(settings)
    assert address is not None
    assert sent == [f"{address.url}/k"]


@pytest.mark.parametrize(
    ("style", "endpoint", "bucket"),
    [
        ("virtual", "http://127.0.0.1:9000", "pictures"),
        ("virtual", "http://[::1]:9000", "pictures"),
        ("virtual", "https://s3.example.com", "with.dots"),
        ("virtual", "https://s3.example.com", "Upper_Case"),
        ("virtual", "", "with.dots"),
        ("auto", "https://oss-cn-hangzhou.aliyuncs.com", "with.dots"),
    ],
)
def test_the_address_of_a_bucket_that_can_be_no_part_of_the_host_is_left_to_the_sdk(
    style: str, endpoint: str, bucket: str
) -> None:
    assert Address.of_settings(load_settings(variables_for(style, endpoint, S3_BUCKET=bucket))) is None


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "us-iso-east-1", "auto"])
def test_the_address_of_other_clouds_is_left_to_the_sdk(region: str) -> None:
    assert Address.of_settings(load_settings(variables_for("auto", "", S3_REGION=region))) is None


@pytest.mark.parametrize(
    ("url", "authorization"),
    [
        ("http://a/b/key", "AWS AKIATEST:signature"),  # version 2
        ("http://a/b/key", "AWS4-HMAC-SHA256 Credential=A/20261121/eu/s3express/aws4_request, S"),
        ("http://a/b/other", "AWS4-HMAC-SHA256 Credential=A/20261121/eu/s3/aws4_request, S"),
        ("http://a/b/notthekey", "AWS4-HMAC-SHA256 Credential=A/20261121/eu/s3/aws4_request, S"),
    ],
)
def test_what_is_signed_or_addressed_in_another_way_teaches_nothing(url: str, authorization: str) -> None:
    assert Address.of_request(url, authorization, "key") is None
