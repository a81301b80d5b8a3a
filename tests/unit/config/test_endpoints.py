"""Settings: the endpoint's URL."""

from __future__ import annotations

import pickle

import pytest

from cloud_archive.redaction import MASK
from tests.unit.config.environments import load, only_problem


@pytest.mark.parametrize(
    ("text", "url", "label"),
    [
        ("https://account.r2.cloudflarestorage.com", None, "account.r2.cloudflarestorage.com:443"),
        ("http://localhost:8333", None, "localhost:8333"),
        ("http://localhost:8333/", "http://localhost:8333", "localhost:8333"),
        ("HTTPS://Host.example", "https://Host.example", "Host.example:443"),
        ("http://127.0.0.1", None, "127.0.0.1:80"),
        ("http://[::1]:9000", None, "[::1]:9000"),
        ("https://s3.example.", None, "s3.example.:443"),
        (
            "s3.us-west-004.example.com",
            "https://s3.us-west-004.example.com",
            "s3.us-west-004.example.com:443",
        ),
        ("S3.example.com/base/", "https://S3.example.com/base", "S3.example.com:443"),
    ],
)
def test_an_endpoint_is_a_scheme_a_host_and_a_port(text: str, url: str | None, label: str) -> None:
    settings = load(S3_ENDPOINT_URL=text)

    assert settings.endpoint_url == (url or text)
    assert settings.endpoint_label == label
    assert not settings.is_aws


@pytest.mark.parametrize(
    ("text", "shown", "accepted"),
    [
        ("localhost:9000", "localhost:9000", "write https://localhost:9000, or http://localhost:9000 for"),
        ("minio.lan:9000/", "minio.lan:9000/", "write https://minio.lan:9000, or"),
        ("127.0.0.1", "127.0.0.1", "write https://127.0.0.1, or"),
        ("s3.example.com?sig=abc", "s3.example.com?…", "http://host[:port]"),
        ("https://host/a b", "https://host/a b", "without spaces"),
        ("https://host/%2e", "https://host/%2e", "a base path of letters, digits"),
        ("https://host/../x", "https://host/../x", "a base path of letters, digits"),
        ("https://host?sig=abc", "https://host?…", "without a query or fragment"),
        ("https://host/b?sig=abc#x", "https://host/b?…", "without a query or fragment"),
        ("https://host#x", "https://host?…", "without a query or fragment"),
        ("ftp://host", "ftp://host", "http://host[:port] or https://host[:port]"),
        ("s3://bucket", "s3://bucket", "http://host[:port] or https://host[:port]"),
        ("https:/host", "https:/host", "http://host[:port] or https://host[:port]"),
        ("https://", "https://", "http://host[:port] or https://host[:port]"),
        ("https://my host", "https://my host", "without spaces"),
        ("https://my_minio:9000", "https://my_minio:9000", "letters, digits, `-` and `.`"),
        ("http://host:99999", "http://host:99999", "port from 1 to 65535"),
        ("http://host:0", "http://host:0", "http://host[:port]"),
        ("http://host:", "http://host:", "http://host[:port]"),
        ("https://user:hunter2@host:9000", "https://***@host:9000", "without user and password"),
        ("https://user:hunter2/x@host:9000", "https://***@host:9000", "without user and password"),
        ("user:hunter2@host", "***@host", "without user and password"),
        ("https://hunter2@host", "https://***@host", "without user and password"),
        ("https://user:hunter2%40host", "https://***@host", "http://host[:port]"),
        ("https://user:hunter2", "https://***", "http://host[:port]"),
        ("https://user:hunter2/?next=http://x", "https://***", "http://host[:port]"),
        ("user:hunter2", MASK, "http://host[:port]"),
        ("https://user:hunter2@host?x=1", "https://***@host?…", "without user and password"),
        ("https://user:hunter2 @host", "https://***@host", "without spaces"),
    ],
)
def test_a_wrong_endpoint_is_explained_and_shows_no_password(text: str, shown: str, accepted: str) -> None:
    said = only_problem(S3_ENDPOINT_URL=text)

    assert said.startswith(f"S3_ENDPOINT_URL is {shown!r}: ")
    assert accepted in said
    assert "hunter2" not in said
    assert "abc" not in said


def test_aws_is_no_endpoint_or_one_of_amazons() -> None:
    assert load().is_aws
    assert load(S3_REGION="eu-west-1").endpoint_label == "AWS eu-west-1"
    assert load(S3_ENDPOINT_URL="https://s3.eu-west-1.amazonaws.com").is_aws
    assert load(S3_ENDPOINT_URL="https://s3.cn-north-1.amazonaws.com.cn").is_aws
    assert not load(S3_ENDPOINT_URL="https://amazonaws.com.evil.example").is_aws
    assert not load(S3_ENDPOINT_URL="https://notamazonaws.com").is_aws


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://account.r2.cloudflarestorage.com/outputs", "https://account.r2.cloudflarestorage.com"),
        ("https://account.r2.cloudflarestorage.com/outputs/", "https://account.r2.cloudflarestorage.com"),
        ("https://outputs.s3.eu-central-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
        ("https://Outputs.nyc3.digitaloceanspaces.com/", "https://nyc3.digitaloceanspaces.com"),
        ("http://outputs.localhost:9000", "http://localhost:9000"),
        ("https://p.supabase.co/storage/v1/s3/outputs", "https://p.supabase.co/storage/v1/s3"),
        ("https://outputs.example.com/outputs", "https://outputs.example.com"),
        ("outputs.s3.example.com", "https://s3.example.com"),
        ("s3.example.com/outputs", "https://s3.example.com"),
    ],
)
def test_the_bucket_is_taken_off_the_endpoint_that_a_console_shows(text: str, url: str) -> None:
    settings = load(S3_ENDPOINT_URL=text)

    assert settings.endpoint_url == url
    assert settings.endpoint_remark == (
        f"The endpoint's URL names the bucket outputs; {url} is used as S3_ENDPOINT_URL."
    )
    assert pickle.loads(pickle.dumps(settings)).endpoint_remark == settings.endpoint_remark


@pytest.mark.parametrize(
    "text",
    [
        "https://p.supabase.co/storage/v1/s3",
        "https://host/outputs-2",
        "https://host/outputs/s3",
        "https://outputs-2.example.com",
        "https://outputs",
    ],
)
def test_another_base_path_and_host_are_kept(text: str) -> None:
    settings = load(S3_ENDPOINT_URL=text)

    assert (settings.endpoint_url, settings.endpoint_remark) == (text, "")


def test_an_address_is_not_taken_for_a_bucket() -> None:
    assert (
        load(S3_BUCKET="127", S3_ENDPOINT_URL="http://127.0.0.1:9000").endpoint_url == "http://127.0.0.1:9000"
    )
