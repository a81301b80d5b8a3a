"""The body of an upload is gone once the upload has ended, whatever the store answered."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import CloudArchiveError
from cloud_archive.files import stat_version
from cloud_archive.ledger.rows import Claim
from cloud_archive.store.client import MeteredBody
from cloud_archive.store.evidence import md5_of
from cloud_archive.store.s3 import S3Store
from cloud_archive.upload.source import Content
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.unit.store.endpoint import Endpoint, Reply, Seen, environ, refusal


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.stop()


class NoJournal:
    def attempt(self, **_: str) -> None: ...

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None: ...

    def abandon(self, key: str, upload_id: str) -> None: ...


@pytest.mark.parametrize("by_sdk", [False, True])
@pytest.mark.parametrize("method", ["HEAD", "PUT"])
@pytest.mark.parametrize(
    "answer",
    [
        refusal(404, "NoSuchKey"),
        refusal(403, "AccessDenied"),
        refusal(500, "InternalError"),
        Reply(close=True),
    ],
    ids=["missing", "denied", "broken", "cut off"],
)
def test_no_body_outlives_its_upload(
    tmp_path: Path, endpoint: Endpoint, answer: Reply, method: str, by_sdk: bool
) -> None:
    body = bytes(700_000)
    (tmp_path / "a.png").write_bytes(body)
    claim: Claim = claim_of(stat_version(tmp_path, "a.png"))

    def reply(seen: Seen) -> Reply:
        if seen.method == method:
            return answer
        if seen.method == "HEAD":
            return refusal(404, "NoSuchKey")
        if sum(each.method == "PUT" for each in endpoint.seen) > 1:
            return refusal(412, "PreconditionFailed")
        return Reply(headers={"ETag": f'"{md5_of(body)}"'})

    endpoint.replies = [reply]
    store = S3Store(load_settings(environ(endpoint.url)))
    if by_sdk:
        store.use_sdk_only()
    uploader = Uploader(store, tmp_path, make_key=str, session_id="s")
    gc.disable()  # so that generation 0 holds what is made from here on
    try:
        with suppress(CloudArchiveError):
            uploader.upload(claim, NoJournal(), lambda _: None)
        assert endpoint.seen
        made = gc.get_objects(generation=0)
        held = [each for each in made if isinstance(each, (Content, MeteredBody, AWSPreparedRequest))]
        assert [each for each in held if not isinstance(each, Content) or each.body is not None] == []
    finally:
        gc.enable()
        store.close()
