"""How requests are executed: what is sent again, what is remembered, and what a refusal is blamed on."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from botocore.exceptions import ConnectionClosedError

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import FailureScope, ObjectExists, StoreError
from cloud_archive.store import aws_session
from cloud_archive.store.aws_session import AwsConfigurationError, MadeOnce
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.client import Client
from cloud_archive.store.credentials import Credentials
from cloud_archive.store.requests import RequestExecutor

from .scripted_sdk import ENVIRON, OK, ScriptedSdk, executor, refused

BODY = b"the bytes of a picture"
SHA256 = hashlib.sha256(BODY).hexdigest()
B2_REFUSAL = refused(
    400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received for this API call."
)


def sent(requests: RequestExecutor, **how: Any) -> dict[str, Any]:
    return requests.send("PutObject", "a.png", BODY, SHA256, None, **how)


def no_more_threads(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def closed() -> ConnectionClosedError:
    return ConnectionClosedError(endpoint_url="http://127.0.0.1:9")


def test_a_request_names_the_bucket_and_its_success_proves_the_keys() -> None:
    sdk = ScriptedSdk(OK)
    requests = executor(sdk)
    assert not requests.credentials_accepted
    requests.call("GetObject", "a.png", Range="bytes=0-1")
    assert sdk.calls == [("get_object", {"Bucket": "pictures", "Key": "a.png", "Range": "bytes=0-1"})]
    assert requests.credentials_accepted


def test_the_clock_of_the_store_is_learned_from_refusals_too() -> None:
    refusal = refused(403, "AccessDenied")
    refusal.response["ResponseMetadata"]["HTTPHeaders"] = {"date": "Wed, 01 Apr 2020 12:00:00 GMT"}
    requests = executor(ScriptedSdk(refusal))
    assert requests.clock_offset_seconds is None
    with pytest.raises(StoreError):
        requests.call("GetObject", "a")
    assert requests.clock_offset_seconds is not None
    assert requests.clock_offset_seconds < -86400


def test_the_clock_of_the_store_does_not_go_back_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(second: int) -> dict[str, Any]:
        return {"ResponseMetadata": {"HTTPHeaders": {"date": f"Wed, 01 Apr 2020 12:00:{second:02} GMT"}}}

    noon = 1_585_742_400.0
    requests = executor(ScriptedSdk(answer(10), answer(10), answer(11), answer(15)))
    offsets = []
    for local in (10.25, 10.75, 11.125, 20.0):  # the last answer comes after our clock was set
        monkeypatch.setattr(time, "time", lambda local=local: noon + local)
        requests.call("GetObject", "a")
        offsets.append(requests.clock_offset_seconds)
    assert offsets == [-0.25, -0.25, -0.125, -5.0]


def test_only_a_closed_connection_is_tried_again_and_only_once() -> None:
    sdk = ScriptedSdk(closed(), OK)
    executor(sdk).call_with_retry("ListObjectsV2", None)
    assert len(sdk.calls) == 2
    for always, calls in ((closed(), 2), (refused(500, "InternalError"), 1)):
        sdk = ScriptedSdk(always)
        with pytest.raises(StoreError):
            executor(sdk).call_with_retry("ListObjectsV2", None)
        assert len(sdk.calls) == calls


def test_a_capability_is_announced_only_where_it_changes() -> None:
    announced: list[Capabilities] = []
    requests = executor(ScriptedSdk(OK))
    requests._on_capabilities = announced.append
    requests.remember(can_head=True)
    requests.remember(can_head=True)
    requests.remember(echoes_checksum=False)
    assert [(each.can_head, each.echoes_checksum) for each in announced] == [(True, None), (True, False)]


def test_of_two_changes_at_once_the_later_one_is_announced_last() -> None:
    """What was announced last is kept for the next start."""
    announced: list[Capabilities] = []
    began, may_end = threading.Event(), threading.Event()
    requests = executor(ScriptedSdk(OK))

    def announce(found: Capabilities) -> None:
        if not began.is_set():
            began.set()
            may_end.wait(60)
        announced.append(found)

    requests._on_capabilities = announce
    first = threading.Thread(target=lambda: requests.remember(can_head=True))
    later = threading.Thread(target=lambda: requests.remember(echoes_checksum=False))
    first.start()
    began.wait(60)
    later.start()
    later.join(0.2)  # without a lock it would announce its change here
    may_end.set()
    first.join()
    later.join()
    assert announced[-1] == requests.capabilities


# --- integrity headers


def test_a_store_without_the_sha256_header_gets_content_md5_and_is_remembered() -> None:
    sdk = ScriptedSdk(B2_REFUSAL, OK)
    requests = executor(sdk)
    sent(requests)
    assert ["ChecksumSHA256" in sdk.calls[0][1], "ContentMD5" in sdk.calls[1][1]] == [True, True]
    assert requests.capabilities.checksum == "md5"
    sent(requests)
    assert len(sdk.calls) == 3
    assert "ContentMD5" in sdk.calls[2][1]


def test_a_refusal_that_both_headers_get_is_shown_as_it_came_and_nothing_is_remembered() -> None:
    requests = executor(ScriptedSdk(refused(403, "SignatureDoesNotMatch", "no")))
    with pytest.raises(StoreError) as raised:
        sent(requests)
    assert raised.value.failure.code == "SignatureDoesNotMatch"
    assert requests.capabilities.checksum == "sha256"


def test_once_the_header_was_taken_only_a_refusal_that_names_it_is_about_it() -> None:
    sdk = ScriptedSdk(OK, refused(403, "SignatureDoesNotMatch", "no"))
    requests = executor(sdk)
    sent(requests)
    with pytest.raises(StoreError):
        sent(requests)
    assert len(sdk.calls) == 2
    sdk.replies = [B2_REFUSAL, OK]
    sent(requests)
    assert requests.capabilities.checksum == "sha256", "for this one request only"


@pytest.mark.parametrize(
    ("environ", "calls"),
    [({"S3_CHECKSUM": "sha256"}, 1), ({"S3_CHECKSUM": "md5"}, 1), ({"S3_ENDPOINT_URL": ""}, 1), ({}, 2)],
)
def test_a_forced_header_and_aws_get_no_second_request(environ: dict[str, str], calls: int) -> None:
    sdk = ScriptedSdk(B2_REFUSAL)
    with pytest.raises(StoreError):
        sent(executor(sdk, known=None, **environ))
    assert len(sdk.calls) == calls


def test_whether_the_store_returns_the_checksum_is_learned_from_the_first_answer() -> None:
    for answer, echoes in ((OK | {"ChecksumSHA256": "x"}, True), (OK, False)):
        requests = executor(ScriptedSdk(answer))
        sent(requests)
        assert requests.capabilities.echoes_checksum is echoes


def test_progress_reaches_the_whole_body_and_no_further() -> None:
    steps: list[int] = []
    executor(ScriptedSdk(B2_REFUSAL, OK)).send("PutObject", "a", BODY, SHA256, steps.append)
    assert sum(steps) == len(BODY)


# --- refusals


def test_a_refused_create_only_write_shows_that_the_store_honours_it() -> None:
    for operation, name in (
        ("PutObject", "create_only"),
        ("CompleteMultipartUpload", "create_only_multipart"),
    ):
        requests = executor(ScriptedSdk(refused(412, "PreconditionFailed")))
        with pytest.raises(ObjectExists):
            requests.call(operation, "a", conditional=True)
        assert getattr(requests.capabilities, name) is CreateOnly.HONOURED
    requests = executor(ScriptedSdk(refused(412, "PreconditionFailed")))
    with pytest.raises(StoreError):
        requests.call("GetObject", "a")
    assert requests.capabilities.create_only is CreateOnly.UNKNOWN


def test_a_refused_placement_names_the_settings_that_may_be_at_fault() -> None:
    refusal = refused(400, "InvalidArgument", "no")
    requests = executor(ScriptedSdk(refusal), S3_STORAGE_CLASS="GLACIER", S3_SERVER_SIDE_ENCRYPTION="AES256")
    with pytest.raises(StoreError) as raised:
        requests.call("PutObject", "a")
    cure = raised.value.failure.cure
    assert "S3_STORAGE_CLASS=GLACIER and S3_SERVER_SIDE_ENCRYPTION=AES256" in cure
    assert raised.value.failure.scope is FailureScope.STORE
    with pytest.raises(StoreError) as raised:
        requests.call("GetObject", "a")
    assert "S3_STORAGE_CLASS" not in raised.value.failure.cure


def test_a_rejected_signature_is_the_names_fault_where_the_keys_were_accepted() -> None:
    refusal = refused(403, "SignatureDoesNotMatch")
    requests = executor(ScriptedSdk(refusal))
    with pytest.raises(StoreError) as raised:
        requests.send("PutObject", "50%.png", BODY, SHA256, None)
    assert raised.value.failure.code == "SignatureDoesNotMatch"
    requests.credentials_accepted = True
    with pytest.raises(StoreError) as raised:
        requests.send("PutObject", "50%.png", BODY, SHA256, None)
    assert (raised.value.failure.code, raised.value.failure.scope) == ("NameNotSigned", FailureScope.FILE)


def test_no_traceback_holds_a_secret_that_the_sdk_repeats() -> None:
    secret = ENVIRON["S3_SECRET_ACCESS_KEY"]
    for error, is_shown in ((ValueError(f"bad key {secret}"), False), (ValueError("bad"), True)):
        with pytest.raises(StoreError) as raised:
            executor(ScriptedSdk(error)).call("GetObject", "a")
        assert (raised.value.__cause__ is not None) == is_shown
        assert secret not in str(raised.value) + raised.value.store_message


def test_one_entry_of_a_deletion_is_explained_like_an_answer() -> None:
    error = executor(ScriptedSdk(OK)).refused_entry(
        "DeleteObjects", "a", {"Code": "AccessDenied", "Message": "no"}
    )
    assert (error.failure.code, error.key, error.store_message) == ("AccessDenied", "a", "no")


@pytest.mark.parametrize(("credentials", "code"), [("env", "SdkTimeout"), ("aws", "AwsChainTimeout")])
def test_a_slow_sdk_is_no_fault_of_a_chain_that_is_not_used(
    monkeypatch: pytest.MonkeyPatch, credentials: str, code: str
) -> None:
    monkeypatch.setattr(aws_session, "MAKING_SECONDS", 0.01)
    keys = {} if credentials == "env" else dict.fromkeys(("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"), "")
    requests = executor(ScriptedSdk(OK), known=None, **keys | {"S3_CREDENTIALS": credentials})
    requests._client_made, loaded = None, threading.Event()

    def make() -> Client:
        loaded.wait(60)
        return Client(cast(Any, ScriptedSdk(OK)), None)

    requests._maker = MadeOnce(make)
    try:
        with pytest.raises(StoreError) as raised:
            requests.call("GetObject", "a")
    finally:
        loaded.set()
    assert (raised.value.failure.code, raised.value.failure.transient) == (code, True)


# --- AWS credentials that change


def rotating(
    monkeypatch: pytest.MonkeyPatch, first: ScriptedSdk, second: ScriptedSdk, *, new: str
) -> RequestExecutor:
    """Return an executor whose client signs with the access key `old`; the AWS chain has the access key `new` now."""
    requests = executor(first, S3_CREDENTIALS="aws", S3_ACCESS_KEY_ID="", S3_SECRET_ACCESS_KEY="")
    requests._client_made = Client(cast(Any, first), lambda: Credentials("old", "s", None))
    requests._maker = MadeOnce(lambda: Client(cast(Any, second), lambda: Credentials(new, "s", None)))
    monkeypatch.setattr(
        "cloud_archive.store.requests.credentials_source", lambda _: lambda: Credentials(new, "s", None)
    )
    return requests


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "TokenRefreshRequired"])
def test_a_refused_key_is_read_again_and_the_request_made_with_the_new_one(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    first, second = ScriptedSdk(refused(403, code)), ScriptedSdk(OK)
    requests = rotating(monkeypatch, first, second, new="new")
    assert requests.call("GetObject", "a") == OK
    assert (len(first.calls), len(second.calls)) == (1, 1)


def test_with_the_new_key_a_body_is_sent_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may refuse a request, and close the connection, before it has read the whole body."""
    bodies: list[bytes] = []

    class Reading(ScriptedSdk):
        pieces: int

        def upload_part(self, **parameters: Any) -> Any:
            bodies.append(b"".join(itertools.islice(iter(parameters["Body"].read, b""), self.pieces)))
            return self.put_object()

    class Streamed:
        def __len__(self) -> int:
            return len(BODY)

        def __iter__(self) -> Iterator[memoryview]:
            yield from (memoryview(BODY[:5]), memoryview(BODY[5:]))

        def __bytes__(self) -> bytes:
            return BODY

    first, second = Reading(refused(403, "ExpiredToken")), Reading(OK)
    first.pieces, second.pieces = 1, 9
    requests = rotating(monkeypatch, first, second, new="new")
    requests.send("UploadPart", "a.png", Streamed(), SHA256, None)
    assert bodies == [BODY[:5], BODY]


@pytest.mark.parametrize(("code", "new"), [("InvalidAccessKeyId", "old"), ("AccessDenied", "new")])
def test_the_same_key_or_another_refusal_is_final(
    monkeypatch: pytest.MonkeyPatch, code: str, new: str
) -> None:
    second = ScriptedSdk(OK)
    requests = rotating(monkeypatch, ScriptedSdk(refused(403, code)), second, new=new)
    with pytest.raises(StoreError):
        requests.call("GetObject", "a")
    assert second.calls == []


def test_credentials_of_the_environment_are_not_read_again() -> None:
    sdk = ScriptedSdk(refused(403, "InvalidAccessKeyId"))
    with pytest.raises(StoreError):
        executor(sdk).call("GetObject", "a")
    assert len(sdk.calls) == 1


def test_a_client_is_made_once_and_again_after_close() -> None:
    made: list[ScriptedSdk] = []
    requests = RequestExecutor(
        load_settings(ENVIRON), capabilities=None, on_capabilities=None, connect_seconds=1, read_seconds=1
    )

    def make() -> Client:
        made.append(ScriptedSdk(OK))
        return Client(cast(Any, made[-1]), None)

    requests._maker = MadeOnce(make)
    requests.call("GetObject", "a")
    requests.call("GetObject", "b")
    assert [sdk.names for sdk in made] == [["get_object", "get_object"]]
    requests.close()
    assert made[0].names[-1] == "close"
    requests.call("GetObject", "c")
    assert len(made) == 2


def test_without_a_thread_for_the_client_the_next_request_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = MadeOnce(lambda: "client")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="new thread"):
            maker.get()
    assert maker.get() == "client"


def test_an_accepted_body_counts_although_the_client_is_gone() -> None:
    """Another request may have found new AWS credentials meanwhile, or `close` was called."""

    class Closing(ScriptedSdk):
        def put_object(self, **_: Any) -> dict[str, Any]:
            requests._client_made = None
            return OK

    def fail() -> Client:
        raise AwsConfigurationError("no profile")

    requests = executor(Closing(OK))
    requests._maker = MadeOnce(fail)
    assert sent(requests) == OK
