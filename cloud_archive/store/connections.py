"""HTTP/1.1 connections to one host, kept open between requests: small requests, and answers of a limited size.

A request costs a tenth of what it costs the SDK. What the protocol allows and S3 does not use is refused, and the SDK
makes the request instead: redirects, upgrades, compressed answers, answers without a length in HTTP/1.0 style excepted.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import NamedTuple

HEAD_BYTES = 64 * 1024  # the most that the head of an answer may have
PIECE_BYTES = 64 * 1024
IDLE_SECONDS = 0.5  # a connection that was not used for so long may have been closed by the host
JOINED_BYTES = (
    32 * 1024
)  # bodies of this size are copied behind the head, to be sent in one TLS record or packet


class AnswerTooLarge(Exception):
    """The answer is longer than the limit."""


class NotHttp(Exception):
    """What came is no answer of HTTP/1.1."""


class Answer(NamedTuple):
    """An answer. The names of `headers` are in lower case; `body` is empty after a HEAD."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """Makes requests, each over a connection that nobody else uses meanwhile; safe to use from any thread.

    Args:
        tls: makes connections secure; None: they are plain.
        seconds: until a request is given up.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._is_closed = False
        weakref.finalize(self, _close_all, self._idle)  # where `close` is never called

    def exchange(
        self,
        head: bytes,
        body: bytes = b"",
        *,
        limit_bytes: int,
        has_body: bool = True,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Answer:
        """Make a request and return its answer.

        Args:
            head: the request line and the headers, with the empty line behind them.
            limit_bytes: the most that the answer's body may have.
            has_body: False: a HEAD, whose answer has no body.
            meanwhile: called in this thread once the request was sent.

        Raises:
            AnswerTooLarge, NotHttp: see there.
            OSError: no connection, or no answer in time.
        """
        connection = self._take()
        try:
            deadline = self._clock() + self._seconds
            connection.send(head, body, self._left(deadline))
            meanwhile()
            answer, keeps = connection.receive(limit_bytes, has_body, lambda: self._left(deadline))
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, keeps)
        return answer

    def close(self) -> None:
        """Close what is not in use now; the rest is closed after its request."""
        with self._lock:
            self._is_closed = True
            _close_all(self._idle)

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError
        return left

    def _take(self) -> _Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if self._clock() - connection.used_at < IDLE_SECONDS or connection.is_open():
                return connection
            connection.close()

    def _give_back(self, connection: _Connection, keeps: bool) -> None:
        connection.used_at = self._clock()
        with self._lock:
            if keeps and not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> _Connection:
        plain = socket.create_connection((self._host, self._port), self._seconds)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return _Connection(plain)
            return _Connection(self._tls.wrap_socket(plain, server_hostname=self._host))
        except BaseException:
            plain.close()
            raise


def _close_all(connections: list[_Connection]) -> None:
    while connections:
        connections.pop().close()


class _Connection:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._came = b""  # of the answer, and not used yet
        self.used_at = 0.0
        self.close = sock.close

    def is_open(self) -> bool:
        """Return whether the host has neither closed it nor sent anything."""
        try:
            self._socket.setblocking(False)
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)  # of the system, below TLS
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            pass
        return False

    def send(self, head: bytes, body: bytes, seconds: float) -> None:
        self._socket.settimeout(seconds)
        if len(body) <= JOINED_BYTES:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)

    def receive(self, limit_bytes: int, has_body: bool, left: Callable[[], float]) -> tuple[Answer, bool]:
        """Return the answer, and whether the connection can be used again.

        Args:
            left: returns the seconds that are left; raises TimeoutError.
        """
        status = 100
        while 100 <= status < 200:  # such as 100 Continue, which was not asked for
            while (end := self._came.find(b"\r\n\r\n")) < 0:
                if len(self._came) > HEAD_BYTES:
                    raise AnswerTooLarge
                if not self._more(left):
                    raise ConnectionResetError
            status, keeps, headers = _parse_head(self._came[:end])
            self._came = self._came[end + 4 :]
        if not has_body or status in (204, 304):
            body = b""
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise NotHttp
            body = self._chunks(limit_bytes, left)
        elif "content-length" in headers:
            body = self._exactly(_number(headers["content-length"]), limit_bytes, left)
        else:
            body, keeps = self._to_the_end(limit_bytes, left), False
        # More than the answer is nothing that was asked for.
        return Answer(status, headers, body), keeps and not self._came

    def _more(self, left: Callable[[], float]) -> bool:
        """Receive something; False at the end."""
        self._socket.settimeout(left())
        piece = self._socket.recv(PIECE_BYTES)
        self._came = self._came + piece if self._came else piece
        return bool(piece)

    def _exactly(self, size_bytes: int, limit_bytes: int, left: Callable[[], float]) -> bytes:
        if size_bytes > limit_bytes:
            raise AnswerTooLarge
        while len(self._came) < size_bytes:
            if not self._more(left):
                raise ConnectionResetError
        body, self._came = self._came[:size_bytes], self._came[size_bytes:]
        return body

    def _to_the_end(self, limit_bytes: int, left: Callable[[], float]) -> bytes:
        while len(self._came) <= limit_bytes:
            if not self._more(left):
                body, self._came = self._came, b""
                return body
        raise AnswerTooLarge

    def _chunks(self, limit_bytes: int, left: Callable[[], float]) -> bytes:
        # https://www.rfc-editor.org/rfc/rfc9112#section-7.1
        body = b""
        while size := _number(self._line(left).partition(b";")[0].decode("latin-1"), 16):
            body += self._exactly(size, limit_bytes - len(body), left)
            if self._line(left):
                raise NotHttp
        while self._line(left):
            pass  # trailers
        return body

    def _line(self, left: Callable[[], float]) -> bytes:
        while (end := self._came.find(b"\r\n")) < 0:
            if len(self._came) > HEAD_BYTES or not self._more(left):
                raise NotHttp
        line, self._came = self._came[:end], self._came[end + 2 :]
        return line


def _parse_head(head: bytes) -> tuple[int, bool, dict[str, str]]:
    """Return the status, whether the connection stays open, and the headers."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise NotHttp
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise NotHttp
        name, value = name.lower(), value.strip()
        headers[name] = value if name not in headers else f"{headers[name]}, {value}"
    keeps = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return _number(rest[:3]), keeps, headers


def _number(text: str, base: int = 10) -> int:
    if not text.isascii() or not text.isalnum():
        raise NotHttp
    try:
        return int(text, base)
    except ValueError:
        raise NotHttp from None
