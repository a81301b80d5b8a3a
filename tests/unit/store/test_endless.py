"""A store whose answers do not end or repeat themselves."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.store import curl_client
from cloud_archive.store.bounded import MAX_ANSWER_BYTES, MAX_REFUSAL_BYTES
from cloud_archive.store.listing import MAX_EMPTY_PAGES
from cloud_archive.store.s3 import S3Store
from tests.servers import wait_until

MOST_BYTES = 24 * 1024 * 1024  # what one answer may cost, and what the system buffers on the way
ENDLESS_BYTES = 4 * MOST_BYTES  # an answer that nobody cuts off ends here
PIECE_BYTES = 64 * 1024  # more than libcurl hands over at once
READ_BYTES = 5000
BODY = b"a picture"
SHA256 = hashlib.sha256(BODY).hexdigest()


class Sent(NamedTuple):
    """How much was sent of an answer, and whether the SDK had asked."""

    to_the_sdk: bool
    bytes: int


class EndlessEndpoint:
    """Send a body without an end, or `pages` one after another. `sent` tells the bytes sent of each endless answer."""

    def __init__(self) -> None:
        self.status = 500
        self.fine_puts = 0
        self.pages: Iterator[bytes] | None = None
        self.header = b""  # if set, it is sent again and again instead of a body
        self.sent: list[Sent] = []
        self.requests = 0
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each of many short answers takes 40 ms

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
                    self.whole(next(endpoint.pages), ETag='"x"')
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
                self.close_connection = True
                piece = endpoint.header * 64 or b"x" * 65536
                sent = 0
                try:
                    if endpoint.header:
                        self.flush_headers()
                    else:
                        self.end_headers()
                        self.wfile.write(b"<Error><Code>InternalError</Code><Message>")
                    while sent < ENDLESS_BYTES:
                        self.wfile.write(piece)
                        sent += len(piece)
                except OSError:
                    pass
                endpoint.sent.append(Sent("amz-sdk-request" in self.headers, sent))

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
        return max(sent.bytes for sent in self.sent)


@pytest.fixture
def endpoint() -> Iterator[EndlessEndpoint]:
    made = EndlessEndpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def fast_store(endpoint: EndlessEndpoint) -> Iterator[S3Store]:
    """A store whose small requests go through libcurl."""
    environ = {
        "S3_ACCESS_KEY_ID": "key",
        "S3_SECRET_ACCESS_KEY": "secret",
        "S3_BUCKET": "bucket",
        "S3_ENDPOINT_URL": endpoint.url,
    }
    made = S3Store(load_settings(environ), read_seconds=60)
    yield made
    made.close()


@pytest.fixture
def store(fast_store: S3Store) -> S3Store:
    """A store whose requests all go through the SDK."""
    fast_store.use_sdk_only()
    return fast_store


@pytest.fixture(params=["fast", "sdk"])
def either_store(request: pytest.FixtureRequest, fast_store: S3Store) -> S3Store:
    if request.param == "sdk":
        fast_store.use_sdk_only()
    return fast_store


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces that libcurl hands over."""
    pieces: list[int] = []
    write = curl_client._Received.write

    def noted(received: curl_client._Received, piece: bytes) -> int:
        pieces.append(len(piece))
        return write(received, piece)

    monkeypatch.setattr(curl_client._Received, "write", noted)
    return pieces


def put(store: S3Store) -> Any:
    return store.put("a.png", BODY, sha256=SHA256, content_type="image/png", metadata={}, create_only=False)


CALLS: dict[str, Callable[[S3Store], Any]] = {
    "PutObject": put,
    "GetObject": lambda store: list(store.read("a.png", READ_BYTES)),
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


@pytest.mark.parametrize(
    ("operation", "status", "limit_bytes"),
    [
        ("PutObject", 200, MAX_ANSWER_BYTES),
        ("PutObject", 412, MAX_REFUSAL_BYTES),
        ("PutObject", 500, MAX_REFUSAL_BYTES),
        ("GetObject", 200, READ_BYTES),
        ("GetObject", 404, MAX_REFUSAL_BYTES),
        ("GetObject", 500, MAX_REFUSAL_BYTES),
        ("ListObjectsV2", 200, MAX_ANSWER_BYTES),
        ("ListObjectsV2", 307, MAX_REFUSAL_BYTES),
        ("ListObjectsV2", 500, MAX_REFUSAL_BYTES),
    ],
)
def test_an_answer_without_an_end_past_the_sdk_is_cut_off(
    endpoint: EndlessEndpoint,
    fast_store: S3Store,
    taken: list[int],
    operation: str,
    status: int,
    limit_bytes: int,
) -> None:
    endpoint.status = status
    if (operation, status) == ("GetObject", 200):
        CALLS[operation](fast_store)  # no error: the caller knows the object's size
    else:
        with pytest.raises(StoreError):
            CALLS[operation](fast_store)
    assert limit_bytes < sum(taken) <= limit_bytes + PIECE_BYTES
    assert endpoint.most_sent() < ENDLESS_BYTES, "the connection is closed"
    assert sorted(sent.to_the_sdk for sent in endpoint.sent) == [False, True]


@pytest.mark.parametrize("too_many", [0, 1])
def test_an_object_of_just_the_limit_is_read_without_the_sdk(
    endpoint: EndlessEndpoint, fast_store: S3Store, taken: list[int], too_many: int
) -> None:
    body = b"x" * (READ_BYTES + too_many)
    endpoint.pages = iter([body, body])
    assert b"".join(fast_store.read("a.png", READ_BYTES)) == body
    assert endpoint.requests == 1 + too_many
    assert sum(taken) <= len(body)


def test_a_head_without_an_end_is_cut_off(endpoint: EndlessEndpoint, fast_store: S3Store) -> None:
    endpoint.header = b"X-More: " + b"x" * 1000 + b"\r\n"
    with pytest.raises(StoreError):
        fast_store.head("a.png")
    assert endpoint.most_sent() <= MOST_BYTES
    assert sorted(sent.to_the_sdk for sent in endpoint.sent) == [False, True]


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
    endpoint: EndlessEndpoint, either_store: S3Store
) -> None:
    endpoint.pages = (page("same", "a") for _ in range(1000))
    with pytest.raises(StoreError, match="repeats itself"):
        list(either_store.list(""))
    assert endpoint.requests == 2


def test_a_listing_of_empty_pages_ends_with_an_error(
    endpoint: EndlessEndpoint, either_store: S3Store
) -> None:
    endpoint.pages = (page(str(number)) for number in range(1000))
    with pytest.raises(StoreError, match="repeats itself"):
        list(either_store.list(""))
    assert endpoint.requests == MAX_EMPTY_PAGES + 1
