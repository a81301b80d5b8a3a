"""HTTP/1.1 by hand: every way in which an answer may end, and connections that are used again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from cloud_archive.store.connections import (
    HEAD_BYTES,
    IDLE_SECONDS,
    JOINED_BYTES,
    Answer,
    AnswerTooLarge,
    Connections,
    NotHttp,
)

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class RawServer:
    """Answers each request with the next bytes of a script; None hangs up, and so does b"" behind an answer."""

    def __init__(self) -> None:
        self.script: list[bytes | None] = []
        self.connections = 0
        self.requests: list[bytes] = []
        self.hung_up = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            came = b""
            while self.script:
                while b"\r\n\r\n" not in came:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    came += piece
                head, _, body = came.partition(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
                while len(body) < length and (piece := connection.recv(65536)):
                    body += piece
                self.requests.append(body)
                came = b""
                answer = self.script.pop(0)
                if answer is None:
                    break
                hangs_up = bool(self.script) and self.script[0] == b""
                if hangs_up:
                    self.script.pop(0)
                connection.sendall(answer)
                if hangs_up:
                    break
        self.hung_up.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def server() -> Iterator[RawServer]:
    made = RawServer()
    yield made
    made.close()


@pytest.fixture
def connections(server: RawServer) -> Iterator[Connections]:
    made = Connections("127.0.0.1", server.port, tls=None, seconds=60)
    yield made
    made.close()


def ask(connections: Connections, *, limit_bytes: int = 100, has_body: bool = True) -> Answer:
    return connections.exchange(REQUEST, limit_bytes=limit_bytes, has_body=has_body)


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 412 Precondition Failed\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\nTrailer: x\r\n\r\n", 412, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
    ],
)  # fmt: skip
def test_an_answer_with_an_end_keeps_the_connection(
    server: RawServer, connections: Connections, raw: bytes, status: int, body: bytes
) -> None:
    server.script = [raw, raw]
    for _ in range(2):
        answer = ask(connections)
        assert (answer.status, answer.body) == (status, body)
    assert server.connections == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
    ids=["it says so", "HTTP/1.0", "more than an answer", "the end is the end of the connection"],
)
def test_such_a_connection_is_not_used_again(server: RawServer, connections: Connections, raw: bytes) -> None:
    server.script = [raw, b"", raw, b""]
    for _ in range(2):
        assert ask(connections).body == b"hello"
    assert server.connections == 2


def test_the_answer_to_a_head_has_no_body(server: RawServer, connections: Connections) -> None:
    server.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"] * 2
    for _ in range(2):
        answer = ask(connections, has_body=False)
        assert answer.headers["content-length"] == "5000"
        assert answer.body == b""
    assert server.connections == 1


def test_names_of_headers_are_in_lower_case_and_values_are_joined(
    server: RawServer, connections: Connections
) -> None:
    server.script = [b"HTTP/1.1 200 OK\r\nETag:  a \r\nVary: x\r\nvary: y\r\nContent-Length: 0\r\n\r\n"]
    assert ask(connections).headers == {"etag": "a", "vary": "x, y", "content-length": "0"}


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(101),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n62\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_BYTES + 1),
    ],
)
def test_an_answer_above_the_limit_is_not_read(
    server: RawServer, connections: Connections, raw: bytes
) -> None:
    server.script = [raw, b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    with pytest.raises(AnswerTooLarge):
        ask(connections)
    assert ask(connections).status == 200
    assert server.connections == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    ],
)
def test_what_is_no_answer_is_refused(server: RawServer, connections: Connections, raw: bytes) -> None:
    server.script = [raw]
    with pytest.raises(NotHttp):
        ask(connections)


@pytest.mark.parametrize("raw", [None, b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])
def test_an_answer_that_is_cut_off_is_an_error(
    server: RawServer, connections: Connections, raw: bytes | None
) -> None:
    server.script = [raw] if raw is None else [raw, b""]
    with pytest.raises(ConnectionError):
        ask(connections)


def test_no_answer_in_time_is_an_error(server: RawServer) -> None:
    connections = Connections("127.0.0.1", server.port, tls=None, seconds=0.2)
    server.script = [b"HTTP/1.1 200 OK\r\n", b"never"]
    with pytest.raises(TimeoutError):
        ask(connections)
    connections.close()


def test_a_connection_that_the_host_closed_meanwhile_is_replaced(server: RawServer) -> None:
    moments = iter(number * IDLE_SECONDS * 2 for number in range(100))
    connections = Connections("127.0.0.1", server.port, tls=None, seconds=1e6, clock=lambda: next(moments))
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    server.script = [whole, b"", whole]
    assert ask(connections).status == 200
    assert server.hung_up.wait(60)
    assert ask(connections).status == 200
    assert server.connections == 2
    connections.close()


def test_a_connection_that_was_idle_is_used_again(server: RawServer) -> None:
    moments = iter(number * IDLE_SECONDS * 2 for number in range(100))
    connections = Connections("127.0.0.1", server.port, tls=None, seconds=1e6, clock=lambda: next(moments))
    server.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] * 2
    assert [ask(connections).status for _ in range(2)] == [200, 200]
    assert server.connections == 1
    connections.close()


def test_something_is_done_while_the_answer_is_awaited(server: RawServer, connections: Connections) -> None:
    asked = threading.Event()
    server.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    connections.exchange(REQUEST, limit_bytes=0, meanwhile=asked.set)
    assert asked.is_set()


@pytest.mark.parametrize("size_bytes", [0, 1, JOINED_BYTES, JOINED_BYTES + 1, 3_000_000])
def test_a_body_of_any_size_is_sent_whole(
    server: RawServer, connections: Connections, size_bytes: int
) -> None:
    server.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    head = f"PUT / HTTP/1.1\r\ncontent-length: {size_bytes}\r\n\r\n".encode()
    body = bytes(number % 251 for number in range(size_bytes))
    connections.exchange(head, body, limit_bytes=0)
    assert server.requests == [body]


def test_after_closing_no_connection_is_kept(server: RawServer, connections: Connections) -> None:
    server.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] * 2
    ask(connections)
    connections.close()
    ask(connections)
    assert connections._idle == []
    assert server.connections == 2
