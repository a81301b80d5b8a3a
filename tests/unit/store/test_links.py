"""Presigned links: how they are signed, and when they expire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.store.links import MAX_LINK_SECONDS, AnswerHeaders, credentials_end, expiry_of
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import Endpoint, Reply, Seen, environ, refusal

SECRET = "planted+SECRET/0123456789abcdefghijklmnop"
BASE = {"S3_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "S3_SECRET_ACCESS_KEY": SECRET, "S3_BUCKET": "bucket"}
ANSWER = AnswerHeaders("image/png", "inline; filename*=UTF-8''f%C3%BCchse.png")
DAY = 86_400.0


def store_with(**environ: str) -> S3Store:
    return S3Store(load_settings(BASE | environ))


@pytest.fixture(
    params=[{}, {"S3_ENDPOINT_URL": "http://127.0.0.1:9"}, {"S3_REGION": "eu-central-1"}], ids=str
)
def store(request: pytest.FixtureRequest) -> Iterator[S3Store]:
    store = store_with(**request.param)
    yield store
    store.close()


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_link_is_signed_with_version_4_and_says_how_the_store_answers(store: S3Store) -> None:
    link = store.presign("out/füchse.png", DAY, ANSWER)
    query = query_of(link.url)
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["response-content-type"] == "image/png"
    assert query["response-content-disposition"] == ANSWER.content_disposition
    assert urlsplit(link.url).path.endswith("out/f%C3%BCchse.png")
    assert link.expires_at == pytest.approx(time.time() + DAY, abs=60)
    assert not link.may_end_early
    assert SECRET not in link.url
    assert "Signature" not in repr(link)


def test_a_link_lasts_seven_days_at_the_most(store: S3Store) -> None:
    link = store.presign("a.png", 30 * DAY, ANSWER)
    assert int(query_of(link.url)["X-Amz-Expires"]) == MAX_LINK_SECONDS
    assert link.expires_at == pytest.approx(time.time() + MAX_LINK_SECONDS, abs=60)


def test_links_of_a_session_token_may_end_early() -> None:
    store = store_with(S3_SESSION_TOKEN="planted-token-0123456789")
    assert store.presign("a.png", DAY, ANSWER).may_end_early
    store.close()


def test_links_end_with_the_credentials_of_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = datetime.now(timezone.utc) + timedelta(seconds=100)
    monkeypatch.setattr("cloud_archive.store.links.credentials_end", lambda sdk: ends.timestamp())
    store = store_with()
    assert store.presign("a.png", DAY, ANSWER).expires_at <= ends.timestamp()
    five_seconds_ago = SimpleNamespace(time=lambda: time.time() - 5)  # as if the SDK took so long to sign
    monkeypatch.setattr("cloud_archive.store.links.time", five_seconds_ago)
    assert store.presign("a.png", DAY, ANSWER).expires_at == ends.timestamp()
    ends -= timedelta(seconds=200)
    with pytest.raises(StoreError):
        store.presign("a.png", DAY, ANSWER)
    store.close()


def test_the_end_of_renewed_credentials_is_read() -> None:
    class Credentials:
        _expiry_time = datetime(2030, 1, 1, tzinfo=timezone.utc)
        asked = 0

        def get_frozen_credentials(self) -> None:
            self.asked += 1

    class Signer:
        _credentials = Credentials()

    class Sdk:
        _request_signer = Signer()

    sdk: Any = Sdk()
    assert credentials_end(sdk) == 1_893_456_000.0
    assert Signer._credentials.asked == 1
    assert credentials_end(object()) is None


def test_another_url_is_no_link() -> None:
    with pytest.raises(ValueError, match="presigned"):
        expiry_of("https://host/key?X-Amz-Expires=3")


def test_links_are_signed_for_the_region_to_which_the_store_redirected(endpoint: Endpoint) -> None:
    def elsewhere(seen: Seen) -> Reply:
        if "/eu-central-1/" in seen.headers["authorization"]:
            return Reply(headers={"ETag": '"e"'})
        return refusal(400, "AuthorizationHeaderMalformed", Region="eu-central-1")

    endpoint.replies = [elsewhere]
    store = S3Store(load_settings(environ(endpoint.url)))
    store.use_sdk_only()
    list(store.read("a.png", 100))
    query = query_of(store.presign("a.png", DAY, ANSWER).url)
    assert query["X-Amz-Credential"].split("/")[2] == "eu-central-1"
    store.close()


@pytest.mark.parametrize(("set_region", "redirected"), [("", ""), ("eu-west-3", ""), ("", "eu-west-3")])
def test_links_of_aws_are_signed_for_the_region_of_the_bucket(set_region: str, redirected: str) -> None:
    def redirect(builtins: dict[str, Any], **_: object) -> None:
        builtins["AWS::Region"] = redirected

    store = store_with(S3_REGION=set_region)
    if redirected:
        sdk: Any = store._requests.client().sdk
        sdk.meta.events.register("before-endpoint-resolution.s3", redirect)
    url = store.presign("a.png", DAY, ANSWER).url
    assert query_of(url)["X-Amz-Credential"].split("/")[2] == (redirected or set_region or "us-east-1")
    # The address without a region leads to each of them.
    regional = f"s3.{redirected}.amazonaws.com" if redirected else "s3.amazonaws.com"
    assert urlsplit(url).netloc == f"bucket.{regional}"
    store.close()
