"""Each dialect does what its docstring says, as plain boto3 without retries sees it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from tests.faults.plain_client import plain_client
from tests.quirks import profiles
from tests.quirks.object_facts import NoMetadata, RandomEtags
from tests.quirks.pages import HtmlEverywhere, HtmlWithEtag, PageForWrites
from tests.quirks.server import Profile, QuirkServer, unchunked
from tests.quirks.signatures import OtherRegion, WrongClock
from tests.quirks.spoilt_answers import HangingAnswer, HtmlErrorPage, TruncatedAnswer, WrongLength
from tests.servers import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.servers import S3Server

pytestmark = pytest.mark.store
PART_BYTES = 5 * 1024 * 1024

Speak = Callable[..., AbstractContextManager["Speaker"]]


class Speaker:
    """A client that talks to the store through one dialect."""

    def __init__(self, client: S3Client, bucket: str, server: QuirkServer) -> None:
        self.client = client
        self.bucket = bucket
        self.server = server

    def put(self, key: str, body: bytes = b"picture", **more: Any) -> Any:
        return self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **more)

    def head(self, key: str) -> Any:
        return self.client.head_object(Bucket=self.bucket, Key=key)

    def multipart(self, key: str, sizes: list[int], **more: Any) -> Any:
        where: Any = {"Bucket": self.bucket, "Key": key}
        upload = self.client.create_multipart_upload(**where)["UploadId"]
        parts = [
            {
                "PartNumber": number,
                "ETag": self.client.upload_part(
                    **where, UploadId=upload, PartNumber=number, Body=b"p" * size
                )["ETag"],
            }
            for number, size in enumerate(sizes, 1)
        ]
        done: Any = {"Parts": parts}
        return self.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=done, **more)


@pytest.fixture
def speak(seaweedfs: S3Server) -> Speak:
    @contextlib.contextmanager
    def start(profile: Profile, **options: Any) -> Iterator[Speaker]:
        with QuirkServer(seaweedfs, profile) as server:
            client = plain_client(server.url, seaweedfs, **options)
            yield Speaker(client, seaweedfs.bucket, server)
            client.close()

    return start


@contextlib.contextmanager
def refused(status: int, code: str) -> Iterator[pytest.ExceptionInfo[ClientError]]:
    with pytest.raises(ClientError) as caught:
        yield caught
    found = caught.value.response
    assert (found["ResponseMetadata"]["HTTPStatusCode"], found["Error"]["Code"]) == (status, code)


def test_the_plain_profile_is_the_store_itself(speak: Speak, seaweedfs: S3Server) -> None:
    body = bytes(range(256)) * 40_000
    with speak(Profile()) as store:
        store.put("a b/ü+%.png", body, Metadata={"sha256": "ab"}, IfNoneMatch="*")
        assert store.head("a b/ü+%.png")["Metadata"] == {"sha256": "ab"}
        with refused(412, "PreconditionFailed"):
            store.put("a b/ü+%.png", IfNoneMatch="*")
        store.multipart("multi", [PART_BYTES, 17])
        assert store.head("multi")["ContentLength"] == PART_BYTES + 17
        with refused(404, "404"):
            store.head("none")
        keys = [found["Key"] for found in store.client.list_objects_v2(Bucket=store.bucket)["Contents"]]
    assert keys == seaweedfs.keys() == ["a b/ü+%.png", "multi"]
    assert seaweedfs.read("a b/ü+%.png") == body


def test_b2_refuses_checksum_headers_and_takes_content_md5(speak: Speak) -> None:
    with speak(profiles.BackblazeChecksums(), checksums=True) as store:
        with refused(400, "InvalidArgument") as caught:
            store.put("a")
        assert "Unsupported header" in str(caught.value)
    with speak(profiles.Backblaze()) as store:
        digest = base64.b64encode(hashlib.md5(b"picture").digest()).decode()
        store.put("b", ContentMD5=digest)
        with refused(400, "InvalidArgument"):
            store.put("c", ChecksumSHA256="e" * 43 + "=")
        with refused(501, "NotImplemented"):
            store.put("c", IfNoneMatch="*")


def test_b2_refuses_a_conditional_complete_too(speak: Speak) -> None:
    with speak(profiles.BackblazeConditionals()) as store:
        with refused(501, "NotImplemented"):
            store.multipart("m", [10], IfNoneMatch="*")
        store.multipart("m", [10])


def test_google_calls_checksums_a_wrong_signature(speak: Speak) -> None:
    with speak(profiles.GoogleChecksums(), checksums=True) as store:
        with refused(403, "SignatureDoesNotMatch") as caught:
            store.put("a")
        assert "Invalid argument" in str(caught.value)


def test_google_ignores_if_none_match(speak: Speak, seaweedfs: S3Server) -> None:
    with speak(profiles.GoogleChecksums()) as store:
        store.put("a", b"first", IfNoneMatch="*")
        store.put("a", b"second", IfNoneMatch="*")
    assert seaweedfs.read("a") == b"second"


@pytest.mark.parametrize("how", ["put", "multipart"])
def test_a_silent_overwrite_answers_200(how: str, speak: Speak, seaweedfs: S3Server) -> None:
    seaweedfs.put("a", b"first")
    with speak(profiles.SilentOverwrite()) as store:
        if how == "put":
            store.put("a", b"second", IfNoneMatch="*")
        else:
            store.multipart("a", [6], IfNoneMatch="*")
    assert seaweedfs.read("a") != b"first"


def test_some_stores_are_strict_on_put_and_overwrite_on_complete(speak: Speak, seaweedfs: S3Server) -> None:
    with speak(profiles.StrictOnPutOnly()) as store:
        store.put("a", b"first", IfNoneMatch="*")
        with refused(412, "PreconditionFailed"):
            store.put("a", b"second", IfNoneMatch="*")
        store.multipart("a", [6], IfNoneMatch="*")
    assert seaweedfs.read("a") == b"pppppp"


def test_oss_wants_a_header_of_its_own(speak: Speak, seaweedfs: S3Server) -> None:
    def forbid(request: Any, **_: Any) -> None:
        request.headers["x-oss-forbid-overwrite"] = "true"

    with speak(profiles.AlibabaOverwrite()) as store:
        store.put("a", b"first", IfNoneMatch="*")
        store.put("a", b"second", IfNoneMatch="*")
        store.client.meta.events.register("before-sign.s3.PutObject", forbid)
        with refused(409, "FileAlreadyExists"):
            store.put("a", b"third")
    assert seaweedfs.read("a") == b"second"


def test_a_missing_key_is_forbidden_and_a_present_one_is_not(speak: Speak) -> None:
    with speak(profiles.MissingIsForbidden()) as store:
        with refused(403, "403"):
            store.head("none")
        store.put("there")
        assert store.head("there")["ContentLength"] == 7
        with refused(403, "AccessDenied"):
            store.client.list_objects_v2(Bucket=store.bucket)
    with speak(profiles.MissingIsForbidden(can_read=False)) as store, refused(403, "403"):
        store.head("there")


def test_unequal_parts_are_refused_at_the_end(speak: Speak) -> None:
    with speak(profiles.EqualParts()) as store:
        store.multipart("equal", [PART_BYTES, PART_BYTES, 5])
        with refused(400, "InvalidPart"):
            store.multipart("unequal", [PART_BYTES, PART_BYTES + 1, 5])
        with refused(400, "InvalidPart"):
            store.multipart("long tail", [PART_BYTES, PART_BYTES + 1])


def test_a_part_number_past_the_most_is_refused(speak: Speak) -> None:
    with speak(profiles.FewParts(2)) as store:
        store.multipart("two", [PART_BYTES, 5])
        with refused(400, "InvalidArgument"):
            store.multipart("three", [PART_BYTES, PART_BYTES, 5])


def test_wasabi_throttles_with_400(speak: Speak) -> None:
    with speak(profiles.WasabiThrottle(every=2)) as store:
        store.put("a")
        with refused(400, "RequestRateLimitExceeded"):
            store.put("b")
        store.put("b")


def test_a_conditional_race_is_409_once_and_ends_the_upload(speak: Speak) -> None:
    with speak(profiles.ConditionalRace()) as store:
        with refused(409, "ConditionalRequestConflict"):
            store.put("a", IfNoneMatch="*")
        store.put("a", IfNoneMatch="*")
        with refused(409, "ConditionalRequestConflict"):
            store.multipart("m", [9], IfNoneMatch="*")
        assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)
        store.multipart("m", [9], IfNoneMatch="*")


def test_one_write_a_second_for_each_key(speak: Speak) -> None:
    with speak(profiles.OneWritePerSecond(60)) as store:
        store.put("a")
        store.put("b")
        with refused(429, "TooManyRequests"):
            store.put("a")


def test_random_etags_are_stable_and_no_md5(speak: Speak) -> None:
    body = b"picture"
    with speak(RandomEtags()) as store:
        etag = store.put("a", body)["ETag"]
        assert etag.strip('"') != hashlib.md5(body).hexdigest()
        assert store.head("a")["ETag"] == etag
        listed = store.client.list_objects_v2(Bucket=store.bucket)["Contents"][0]
        assert listed["ETag"].strip('"') == etag.strip('"')
        done = store.multipart("m", [PART_BYTES, 3])
        assert done["ETag"].strip('"') == store.head("m")["ETag"].strip('"')


def test_metadata_is_forgotten(speak: Speak) -> None:
    with speak(NoMetadata(checksums=False)) as store:
        store.put("a", Metadata={"sha256": "ab"}, ChecksumAlgorithm="SHA256")
        assert store.head("a")["Metadata"] == {}
        found = store.client.head_object(Bucket=store.bucket, Key="a", ChecksumMode="ENABLED")
        assert "ChecksumSHA256" not in found


def test_a_wrong_clock_is_refused_with_the_servers_time(speak: Speak) -> None:
    with speak(WrongClock(3600)) as store, refused(403, "RequestTimeTooSkewed") as caught:
        store.put("a")
    assert "date" in caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    with speak(WrongClock(300)) as store:
        store.put("a")


def test_another_region_redirects_until_signed_for_it(speak: Speak) -> None:
    with speak(OtherRegion()) as store:
        store.client.meta.events.unregister("needs-retry.s3")
        with contextlib.suppress(ClientError):
            store.put("a")
        assert store.server.log[0] == ("PutObject", "a", 301)
    with speak(OtherRegion(), region="eu-central-1") as store:
        store.put("a")


def test_a_truncated_answer_comes_after_success_and_once(speak: Speak, seaweedfs: S3Server) -> None:
    with speak(TruncatedAnswer()) as store:
        with pytest.raises(BotoCoreError):
            store.put("a", b"first")
        assert seaweedfs.read("a") == b"first"
        store.put("a", b"second")


def test_an_answer_hangs_after_success_and_once(speak: Speak, seaweedfs: S3Server) -> None:
    with speak(HangingAnswer()) as store:
        hasty = plain_client(store.server.url, seaweedfs, read_timeout=1)
        with contextlib.closing(hasty), pytest.raises(ReadTimeoutError):
            hasty.put_object(Bucket=store.bucket, Key="a", Body=b"first")
        # The timeout may end before the store has the object.
        wait_until(lambda: seaweedfs.objects() == {"a": b"first"}, "the store has it")
        store.put("a", b"second")


def test_a_length_too_great_cuts_the_reading_short(speak: Speak) -> None:
    with speak(WrongLength(100, operations=frozenset({"GetObject"}))) as store:
        store.put("a")
        with pytest.raises((BotoCoreError, HTTPException)):
            store.client.get_object(Bucket=store.bucket, Key="a")["Body"].read()


@pytest.mark.parametrize(
    "profile",
    [
        WrongLength(-40, operations=frozenset({"CompleteMultipartUpload"})),
        TruncatedAnswer(operations=frozenset({"CompleteMultipartUpload"})),
    ],
)
def test_a_document_cut_short_looks_like_a_500_although_the_object_is_there(
    profile: Profile, speak: Speak, seaweedfs: S3Server
) -> None:
    with speak(profile) as store, pytest.raises((ClientError, BotoCoreError)):
        store.multipart("m", [9])
    assert seaweedfs.read("m") == b"ppppppppp"


def test_an_html_page_is_no_s3_answer(speak: Speak) -> None:
    with speak(HtmlErrorPage()) as store:
        with pytest.raises(ClientError) as caught:
            store.put("a")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
        store.put("a")
    with speak(HtmlEverywhere()) as store:
        answer = store.put("a")
        assert "ETag" not in answer


def test_a_page_may_have_an_etag(speak: Speak, seaweedfs: S3Server) -> None:
    with speak(PageForWrites()) as store:
        assert store.put("a")["ETag"] == 'W/"1a2-page"'
    with speak(HtmlWithEtag()) as store:
        assert store.head("a")["ETag"] == '"65f1c2d3-1a2"'
        assert store.client.get_object(Bucket=store.bucket, Key="a")["Body"].read().startswith(b"<!DOCTYPE")
        with pytest.raises(ClientError):
            store.put("a")
    assert seaweedfs.keys() == []


def test_a_slow_answer_comes_in_the_end(speak: Speak) -> None:
    with speak(HangingAnswer(0.3)) as store:
        store.put("a")
        assert store.server.log == [("PutObject", "a", 200)]


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_says_where_it_was_found(name: str) -> None:
    profile = profiles.PROFILES[name]
    profile()
    said = profile.__doc__ or ""
    assert name == "plain" or "https://" in said or "RFC " in said or "classes above" in said


def test_an_aws_chunked_body_is_unwrapped() -> None:
    body = b"4;chunk-signature=ab\r\nabcd\r\n3\r\nefg\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n"
    assert unchunked(body) == b"abcdefg"
