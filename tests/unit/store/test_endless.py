"""A store whose answers do not end or repeat themselves."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.store.guarded_requests import resident_bytes
from cloud_archive.store.s3 import S3Store
from tests.servers import wait_until

MOST_BYTES = 24 * 1024 * 1024  # what one answer may cost, and what the system buffers on the way
STEP_BYTES = 8 * 1024 * 1024
BODY = b"a picture"
SHA256 = hashlib.sha256(BODY).hexdigest()


class EndlessEndpoint:
    """Send a body without an end, or `pages` one after another. `sent` counts the bytes sent of each answer.

    Before each `STEP_BYTES` of an answer to obstore it calls `before_step`.
    """

    def __init__(self) -> None:
        self.status = 500
        self.fine_puts = 0
        self.pages: Iterator[bytes] | None = None
        self.sent: list[int] = []
        self.requests = 0
        self.before_step: Callable[[], object] = lambda: None
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                # So little is on the way at once that the system buffers little on the other side, too.
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
                super().setup()

            def answer(self) -> None:
                endpoint.requests += 1
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.command == "PUT" and endpoint.fine_puts:
                    endpoint.fine_puts -= 1
                    self.whole(b"", ETag=f'"{hashlib.md5(BODY).hexdigest()}"')
                elif endpoint.pages is not None:
                    self.whole(next(endpoint.pages))
                else:
                    self.endless()

            def whole(self, body: bytes, **headers: str) -> None:
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def endless(self) -> None:
                self.send_response(endpoint.status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("ETag", '"x"')
                self.end_headers()
                self.close_connection = True
                sent = 0
                try:
                    self.wfile.write(b"<Error><Code>InternalError</Code><Message>")
                    while sent < 4 * MOST_BYTES:
                        if sent % STEP_BYTES == 0 and "amz-sdk-request" not in self.headers:
                            endpoint.before_step()
                        self.wfile.write(b"x" * 65536)
                        sent += 65536
                except OSError:
                    pass
                endpoint.sent.append(sent)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def most_sent(self) -> int:
        """Return the bytes of the longest answer, once all of them have ended."""
        wait_until(lambda: len(self.sent) == self.requests, "the end of each answer")
        return max(self.sent)


@pytest.fixture
def endpoint() -> Iterator[EndlessEndpoint]:
    made = EndlessEndpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def store(endpoint: EndlessEndpoint) -> Iterator[S3Store]:
    environ = {
        "S3_ACCESS_KEY_ID": "key",
        "S3_SECRET_ACCESS_KEY": "secret",
        "S3_BUCKET": "bucket",
        "S3_ENDPOINT_URL": endpoint.url,
    }
    made = S3Store(load_settings(environ), read_seconds=60)
    made.use_sdk_only()  # only the SDK's way has a limit on bytes
    yield made
    made.close()


def put(store: S3Store) -> Any:
    return store.put("a.png", BODY, sha256=SHA256, content_type="image/png", metadata={}, create_only=False)


CALLS: dict[str, Callable[[S3Store], Any]] = {
    "PutObject": put,
    "GetObject": lambda store: list(store.read("a.png", 10)),
    "ListObjectsV2": lambda store: list(store.list("")),
    "ListParts": lambda store: store.list_parts("a.png", "id"),
    "DeleteObjects": lambda store: next(error for _, error in store.delete(["a", "b"]) if error),
}


# Of GetObject a 200 has the object's bytes, see below; for DeleteObjects a 404 is as good as a success.
ANSWERS = [
    (operation, status)
    for operation in CALLS
    for status in (200, 404, 500)
    if (operation, status) not in (("GetObject", 200), ("DeleteObjects", 404))
]


@pytest.mark.parametrize(("operation", "status"), ANSWERS)
def test_an_answer_without_an_end_is_cut_off(
    endpoint: EndlessEndpoint, store: S3Store, operation: str, status: int
) -> None:
    endpoint.status = status
    try:
        found = CALLS[operation](store)
    except StoreError as error:
        found = error
    assert isinstance(found, StoreError)
    assert endpoint.most_sent() <= MOST_BYTES


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("operation", ["PutObject", "GetObject"])
def test_an_answer_without_an_end_past_the_sdk_is_cut_off(
    endpoint: EndlessEndpoint, store: S3Store, monkeypatch: pytest.MonkeyPatch, operation: str, status: int
) -> None:
    monkeypatch.setattr("cloud_archive.store.guarded_requests.MAX_GROWTH_BYTES", MOST_BYTES)
    monkeypatch.setattr("cloud_archive.store.fast_path.MAX_SECONDS", 600.0)
    measured, is_over = threading.Event(), threading.Event()

    def measure() -> int:
        found = resident_bytes()
        measured.set()
        return found

    def wait_for_a_measurement() -> None:
        measured.clear()
        assert is_over.is_set() or measured.wait(60)

    monkeypatch.setattr("cloud_archive.store.guarded_requests.resident_bytes", measure)
    endpoint.before_step = (
        wait_for_a_measurement  # else it could send everything while this thread has no turn
    )
    endpoint.status = status
    past_the_sdk = S3Store(store._settings, read_seconds=600)
    if operation == "PutObject" and status == 200:
        assert put(past_the_sdk).etag == "x"  # of a success only the head is read
    else:
        with contextlib.suppress(StoreError):
            CALLS[operation](past_the_sdk)
    past_the_sdk.close()
    is_over.set()
    measured.set()
    # The first answer costs what the memory may grow by, and what the system buffers on the way; the SDK's less.
    assert endpoint.most_sent() <= 3 * MOST_BYTES


def test_no_more_is_read_of_an_object_than_it_should_have(endpoint: EndlessEndpoint, store: S3Store) -> None:
    endpoint.status = 200
    assert 5 < sum(map(len, store.read("a.png", 5))) <= 1024 * 1024
    assert endpoint.most_sent() <= MOST_BYTES


def page(token: str, *keys: str) -> bytes:
    entries = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    return (
        f"<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated>{entries}"
        f"<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
    ).encode()


def test_a_listing_that_goes_round_in_circles_ends_with_an_error(
    endpoint: EndlessEndpoint, store: S3Store
) -> None:
    endpoint.pages = (page("same", "a") for _ in range(1000))
    with pytest.raises(StoreError, match="repeats itself"):
        list(store.list(""))
    assert endpoint.requests == 2


def test_a_listing_of_empty_pages_ends_with_an_error(endpoint: EndlessEndpoint, store: S3Store) -> None:
    endpoint.pages = (page(str(number)) for number in range(1000))
    with pytest.raises(StoreError, match="repeats itself"):
        list(store.list(""))
    assert endpoint.requests < 200
