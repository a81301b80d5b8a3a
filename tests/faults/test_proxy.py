"""Each fault of the proxy does what it says, as plain boto3 without retries sees it."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tests.faults.plain_client import plain_client
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Entry, Fault, Kind, Listening

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.servers import S3Server

pytestmark = pytest.mark.store
PART_BYTES = 5 * 1024 * 1024


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint, seed=1) as running:
        yield running


@pytest.fixture
def client(proxy: FaultProxy, seaweedfs: S3Server) -> Iterator[S3Client]:
    made = plain_client(proxy.url, seaweedfs)
    yield made
    made.close()


@pytest.fixture
def put(client: S3Client, seaweedfs: S3Server) -> Callable[..., str]:
    """A function that puts bytes under a key and returns the ETag."""
    return putting(client, seaweedfs)


@pytest.fixture
def put_hastily(proxy: FaultProxy, seaweedfs: S3Server) -> Iterator[Callable[..., str]]:
    """As `put`, with short timeouts."""
    made = plain_client(proxy.url, seaweedfs, read_timeout=0.3, connect_timeout=1)
    yield putting(made, seaweedfs)
    made.close()


def putting(client: S3Client, seaweedfs: S3Server) -> Callable[..., str]:
    def send(key: str, body: bytes = b"picture" * 100) -> str:
        return client.put_object(Bucket=seaweedfs.bucket, Key=key, Body=body)["ETag"]

    return send


def read_stored(seaweedfs: S3Server, key: str) -> bytes | None:
    """Return the bytes in the real store, read without the proxy."""
    return seaweedfs.objects(key).get(key)


def code_of(error: ClientError) -> tuple[int, str]:
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def test_without_rules_24_mb_pass_unchanged_on_one_connection(
    proxy: FaultProxy, put: Callable[..., str], seaweedfs: S3Server
) -> None:
    body = bytes(range(256)) * (24 * 4096)
    etag = put("plain/large.bin", body)
    assert etag.strip('"') == hashlib.md5(body).hexdigest()
    assert read_stored(seaweedfs, "plain/large.bin") == body
    entry = proxy.journal[-1]
    assert (entry.operation, entry.key, entry.fault, entry.status, entry.sent_bytes) == (
        "PutObject",
        "plain/large.bin",
        None,
        200,
        len(body),
    )


def test_every_operation_of_a_multipart_upload_is_recognised(
    proxy: FaultProxy, client: S3Client, seaweedfs: S3Server
) -> None:
    where: Any = {"Bucket": seaweedfs.bucket, "Key": "multi/part file.bin"}
    upload = client.create_multipart_upload(**where)["UploadId"]
    part = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x" * PART_BYTES)
    client.list_parts(**where, UploadId=upload)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    client.head_object(**where)
    client.get_object(**where)["Body"].read()
    other = client.create_multipart_upload(**where)["UploadId"]
    client.abort_multipart_upload(**where, UploadId=other)
    assert [entry.operation for entry in proxy.journal] == [
        "CreateMultipartUpload",
        "UploadPart",
        "ListParts",
        "CompleteMultipartUpload",
        "HeadObject",
        "GetObject",
        "CreateMultipartUpload",
        "AbortMultipartUpload",
    ]
    assert {entry.key for entry in proxy.journal} == {"multi/part file.bin"}


@pytest.mark.parametrize("kind", [Kind.RESET_BEFORE, Kind.RESET_BODY])
def test_a_reset_before_the_end_of_the_request_stores_nothing(
    kind: Kind, proxy: FaultProxy, put: Callable[..., str], seaweedfs: S3Server
) -> None:
    key = f"reset/{kind.name}"
    proxy.add(Fault(kind), times=1)
    with pytest.raises(BotoCoreError):
        put(key, b"x" * 1_000_000)
    entry = proxy.journal[0]
    assert entry.status is None
    assert entry.sent_bytes <= 500_000
    assert (entry.sent_bytes > 0) == (kind is Kind.RESET_BODY)
    assert read_stored(seaweedfs, key) is None
    put(key)
    assert read_stored(seaweedfs, key) is not None


def test_a_lost_answer_leaves_the_object_and_an_error(
    proxy: FaultProxy, put: Callable[..., str], seaweedfs: S3Server
) -> None:
    proxy.add(Fault(Kind.LOST_ANSWER), operations={"PutObject"}, times=1)
    with pytest.raises(ConnectionClosedError):
        put("lost/a.png")
    assert read_stored(seaweedfs, "lost/a.png") == b"picture" * 100
    assert proxy.count(operation="PutObject", fault=Kind.LOST_ANSWER, status=200) == 1


def test_a_lost_answer_lets_a_refusal_through(
    proxy: FaultProxy, client: S3Client, seaweedfs: S3Server
) -> None:
    proxy.add(Fault(Kind.LOST_ANSWER))
    with pytest.raises(ClientError) as caught:
        client.head_object(Bucket=seaweedfs.bucket, Key="never/there")
    assert code_of(caught.value) == (404, "404")


def test_a_truncated_answer_is_an_error_after_success(
    proxy: FaultProxy, client: S3Client, put: Callable[..., str], seaweedfs: S3Server
) -> None:
    proxy.add(Fault(Kind.TRUNCATED, share=0.02), operations={"PutObject"})
    proxy.add(Fault(Kind.TRUNCATED), operations={"GetObject"})
    with pytest.raises(BotoCoreError):
        put("cut/a.png")
    assert read_stored(seaweedfs, "cut/a.png") is not None
    with pytest.raises(BotoCoreError):
        client.get_object(Bucket=seaweedfs.bucket, Key="cut/a.png")["Body"].read()


def test_a_head_cut_in_the_middle_reads_as_a_success_that_proves_nothing(
    proxy: FaultProxy, client: S3Client, seaweedfs: S3Server
) -> None:
    """http.client accepts the end of the connection as the end of the head."""
    proxy.add(Fault(Kind.TRUNCATED, share=0.12), operations={"PutObject"})
    answer = client.put_object(Bucket=seaweedfs.bucket, Key="cut/head", Body=b"x")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "ETag" not in answer


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (Kind.ERROR_500, 500, "InternalError"),
        (Kind.SLOW_DOWN, 503, "SlowDown"),
        (Kind.TOO_MANY, 429, "TooManyRequests"),
    ],
)
def test_an_answer_of_its_own_keeps_the_store_out(
    kind: Kind,
    status: int,
    code: str,
    proxy: FaultProxy,
    put: Callable[..., str],
    seaweedfs: S3Server,
) -> None:
    proxy.add(Fault(kind, seconds=7), times=1)
    with pytest.raises(ClientError) as caught:
        put(f"refused/{status}", b"x" * 3_000_000)
    assert code_of(caught.value) == (status, code)
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers.get("retry-after") == ("7" if status == 429 else None)
    assert read_stored(seaweedfs, f"refused/{status}") is None
    put(f"refused/{status}")


@pytest.mark.parametrize("kind", [Kind.HANG, Kind.HANG_AFTER])
def test_a_hang_ends_in_a_read_timeout(
    kind: Kind, proxy: FaultProxy, put_hastily: Callable[..., str], seaweedfs: S3Server
) -> None:
    rule = proxy.add(Fault(kind), times=1)
    with pytest.raises(ReadTimeoutError):
        put_hastily(f"hang/{kind.name}")
    assert proxy.wait_for(lambda _: rule.held == 1)
    assert (read_stored(seaweedfs, f"hang/{kind.name}") is not None) == (kind is Kind.HANG_AFTER)


def test_what_hangs_is_reset_on_release(proxy: FaultProxy, client: S3Client, seaweedfs: S3Server) -> None:
    proxy.add(Fault(Kind.HANG), times=1)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.put_object, Bucket=seaweedfs.bucket, Key="hang/x", Body=b"x")
        assert proxy.wait_for(lambda entries: bool(entries))
        proxy.release()
        assert isinstance(sending.exception(60), ConnectionClosedError)


def test_a_blackhole_takes_the_head_and_no_more(
    proxy: FaultProxy, put_hastily: Callable[..., str], seaweedfs: S3Server
) -> None:
    rule = proxy.add(Fault(Kind.BLACKHOLE), times=1)
    with pytest.raises((ReadTimeoutError, ConnectionClosedError, ConnectTimeoutError)):
        put_hastily("blackhole", b"x" * 20_000_000)
    assert proxy.wait_for(lambda _: rule.held == 1)
    assert proxy.journal[0].sent_bytes == 0
    assert read_stored(seaweedfs, "blackhole") is None


def test_latency_and_bandwidth_take_the_time_they_say(proxy: FaultProxy, put: Callable[..., str]) -> None:
    rule = proxy.add(Fault(Kind.LATENCY, seconds=0.5))
    started = time.monotonic()
    put("slow/latency")
    assert time.monotonic() - started >= 0.5
    proxy.remove(rule)
    proxy.add(Fault(Kind.BANDWIDTH, bytes_per_second=2_000_000))
    started = time.monotonic()
    put("slow/bandwidth", b"x" * 1_500_000)
    assert time.monotonic() - started >= 0.75


def test_a_wrong_checksum_differs_from_the_true_one(
    proxy: FaultProxy, client: S3Client, seaweedfs: S3Server
) -> None:
    body = b"the true bytes"
    where: Any = {"Bucket": seaweedfs.bucket, "Key": "checksum/a"}
    truth = client.put_object(**where, Body=body, ChecksumAlgorithm="SHA256")
    proxy.add(Fault(Kind.WRONG_CHECKSUM))
    lie = client.put_object(**where, Body=body, ChecksumAlgorithm="SHA256")
    assert len(lie["ETag"]) == len(truth["ETag"])
    assert lie["ETag"] != truth["ETag"]
    assert lie["ChecksumSHA256"] != truth["ChecksumSHA256"]
    assert read_stored(seaweedfs, "checksum/a") == body


def test_a_wrong_checksum_reaches_into_the_document_of_a_complete(
    proxy: FaultProxy, client: S3Client, seaweedfs: S3Server
) -> None:
    proxy.add(Fault(Kind.WRONG_CHECKSUM), operations={"CompleteMultipartUpload"})
    where: Any = {"Bucket": seaweedfs.bucket, "Key": "checksum/multi"}
    upload = client.create_multipart_upload(**where)["UploadId"]
    part = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x" * PART_BYTES)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    lie = client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    assert lie["ETag"] != client.head_object(**where)["ETag"]


def test_a_refused_connection_comes_back_on_the_same_port(proxy: FaultProxy, put: Callable[..., str]) -> None:
    port = proxy.port
    put("refused/before")
    proxy.listen(Listening.REFUSED)
    with pytest.raises(EndpointConnectionError):
        put("refused/now")
    proxy.listen(Listening.OPEN)
    assert proxy.port == port
    put("refused/after")


@pytest.mark.parametrize(
    ("mode", "error"),
    [(Listening.ACCEPTS, ReadTimeoutError), (Listening.SILENT, ConnectTimeoutError)],
)
def test_a_dead_endpoint_times_out(
    mode: Listening,
    error: type[BotoCoreError],
    proxy: FaultProxy,
    put: Callable[..., str],
    put_hastily: Callable[..., str],
) -> None:
    proxy.listen(mode)
    with pytest.raises(error):
        put_hastily("dead/now")
    proxy.listen(Listening.OPEN)
    put("dead/after")


def test_a_rule_strikes_as_often_as_it_may_and_where_it_should(
    proxy: FaultProxy, put: Callable[..., str], client: S3Client, seaweedfs: S3Server
) -> None:
    rule = proxy.add(
        Fault(Kind.ERROR_500),
        operations={"PutObject"},
        when=lambda request: request.key.startswith("struck/"),
        times=2,
        skip=1,
    )
    put("struck/0")
    for number in (1, 2):
        with pytest.raises(ClientError):
            put(f"struck/{number}")
    put("struck/3")
    put("spared/0")
    client.head_object(Bucket=seaweedfs.bucket, Key="struck/3")
    assert rule.applied == 2
    assert proxy.count(fault=Kind.ERROR_500) == 2


def test_chance_repeats_itself_with_its_seed(seaweedfs: S3Server) -> None:
    def outcome(seed: int) -> list[bool]:
        with FaultProxy(seaweedfs.endpoint, seed=seed) as proxy:
            client = plain_client(proxy.url, seaweedfs)
            proxy.add(Fault(Kind.ERROR_500), probability=0.5)
            for _ in range(24):
                try:
                    client.head_bucket(Bucket=seaweedfs.bucket)
                except ClientError:
                    continue
            client.close()
            return [entry.fault is not None for entry in proxy.journal]

    first = outcome(11)
    assert outcome(11) == first
    assert outcome(12) != first
    assert {True, False} == {*first}


def test_the_seed_is_printed(seaweedfs: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        assert f"seed {proxy.seed}" in capsys.readouterr().out


def test_entries_are_done_when_their_answer_is_out(proxy: FaultProxy, put: Callable[..., str]) -> None:
    def all_done(entries: list[Entry]) -> bool:
        return bool(entries) and all(entry.done for entry in entries)

    put("done")
    assert proxy.wait_for(all_done)


def test_connections_that_come_while_it_stops_are_closed() -> None:
    """Otherwise the garbage collector would report them in a later test."""
    for _ in range(20):
        made: list[socket.socket] = []
        first = threading.Event()
        proxy = FaultProxy("http://127.0.0.1:9", seed=1).start()

        def connect(
            port: int = proxy.port, to: list[socket.socket] = made, one: threading.Event = first
        ) -> None:
            with contextlib.suppress(OSError):
                while len(to) < 30:
                    to.append(socket.create_connection(("127.0.0.1", port), timeout=60))
                    one.set()

        thread = threading.Thread(target=connect)
        thread.start()
        assert first.wait(60)
        proxy.stop()
        thread.join(60)
        for each in made:
            each.close()
        del proxy
        gc.collect()
