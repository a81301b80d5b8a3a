"""Bodies that are read while they are sent: the SDK sends them as it sends bytes."""

from __future__ import annotations

import gc
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest

from cloud_archive.errors import FileChanged, StoreError
from cloud_archive.store.base import Body, Part
from cloud_archive.store.client import BodyProgress, MeteredBody
from cloud_archive.store.s3 import S3Store
from tests.unit.store.conftest import MakeStore
from tests.unit.store.endpoint import BODY, MD5, SHA256, SHA256_BASE64, Endpoint, Reply, refusal

ACCEPTED = Reply(headers={"ETag": f'"{MD5}"', "x-amz-checksum-sha256": SHA256_BASE64})
CHANGING = frozenset(("amz-sdk-invocation-id", "amz-sdk-request", "authorization", "x-amz-date"))


class Streamed:
    """A body in two pieces; counts how often it was read."""

    def __init__(self) -> None:
        self.times_read = 0

    def __len__(self) -> int:
        return len(BODY)

    def __iter__(self) -> Iterator[memoryview]:
        self.times_read += 1
        yield memoryview(BODY[:5])
        yield memoryview(BODY[5:])

    def __bytes__(self) -> bytes:
        self.times_read += 1
        return BODY


class Changed(Streamed):
    """A body whose file is cut off while it is sent."""

    def __iter__(self) -> Iterator[memoryview]:
        yield memoryview(BODY[:5])
        raise FileChanged("b.png")


@pytest.fixture
def make(make: MakeStore) -> Callable[..., S3Store]:
    return partial(make, ACCEPTED)


def send(store: S3Store, body: Body, progress: Callable[[int], None] | None = None) -> Part:
    return store.upload_part("a/b.png", "id", 7, body, sha256=SHA256, progress=progress)


def test_it_is_sent_as_bytes_are_and_read_once(endpoint: Endpoint, make: Any) -> None:
    body, store = Streamed(), make()
    steps: list[int] = []
    assert send(store, body, steps.append).proven
    assert send(store, BODY).proven
    streamed, whole = (
        (seen.path, seen.body, {n: v for n, v in seen.headers.items() if n not in CHANGING})
        for seen in endpoint.seen
    )
    assert streamed == whole  # also without Expect, which would cost a round trip
    assert steps == [5, len(BODY) - 5]
    assert body.times_read == 1


@pytest.mark.parametrize("extra", [{"CLOUD_ARCHIVE_MAX_BANDWIDTH": "1GB/s"}, {"S3_CHECKSUM": "md5"}])
def test_it_is_whole_also_with_a_limit_and_with_an_md5(
    endpoint: Endpoint, make: Any, extra: dict[str, str]
) -> None:
    assert send(make(**extra), Streamed()).proven
    assert endpoint.seen[0].body == BODY


@pytest.mark.parametrize("body", [BODY, Streamed()], ids=["bytes", "streamed"])
def test_it_begins_anew_where_the_sdk_sends_it_again(body: Body) -> None:
    """As with other credentials, once the first ones were refused."""
    steps: list[int] = []
    metered = MeteredBody(body, BodyProgress(steps.append), 4, None)
    for _ in range(2):
        assert b"".join(iter(metered.read, b"")) == BODY
    assert metered.read() == BODY[:4]
    metered.seek(0)
    assert b"".join(iter(metered.read, b"")) == BODY
    assert sum(steps) == len(BODY)


@pytest.mark.parametrize("body", [BODY, Streamed()], ids=["bytes", "streamed"])
def test_its_bytes_are_freed_when_it_is_sent_not_at_the_next_collection(body: Body) -> None:
    metered = MeteredBody(body, BodyProgress(None), 4, None)
    assert metered.read() == BODY[:4]
    alive = weakref.ref(metered)
    gc.disable()
    try:
        del metered
        assert alive() is None
    finally:
        gc.enable()


def test_its_bytes_are_freed_when_it_is_refused_not_at_the_next_collection(
    endpoint: Endpoint, make: Any
) -> None:
    store, body = make(), Streamed()
    endpoint.replies = [refusal(500, "InternalError")]
    alive = weakref.ref(body)
    gc.disable()
    try:
        with suppress(StoreError):
            send(store, body)
        del body
        assert alive() is None
    finally:
        gc.enable()


def test_a_body_that_ends_too_soon_is_never_taken(make: Any) -> None:
    with pytest.raises((StoreError, FileChanged)):
        send(make(), Changed())


def test_a_body_may_stall_longer_than_a_connect_may_take_and_an_idle_connection_is_kept_alive(
    make: Callable[..., S3Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a line of 1 Mbit/s the system takes no more bytes for 10 seconds, because it has taken 4 MB at once."""
    limits: list[float] = []
    pauses: list[int] = []
    send_bytes = HTTPConnection.send

    def noted(self: Any, data: Any) -> None:
        send_bytes(self, data)
        limits.append(self.sock.gettimeout())
        if sys.platform == "linux":
            pauses.append(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))

    monkeypatch.setattr(HTTPConnection, "send", noted)
    store = make(read_seconds=61.0)
    for _ in range(2):  # the second one uses the same connection
        send(store, Streamed())
    assert set(limits) == {61.0}
    assert set(pauses) <= {60}, "an idle connection is kept alive"
