"""A wire with latency: passes bytes on unchanged, but delays the beginning of each request.

python -m tests.benchmarks.relay TARGET_PORT DELAY_SECONDS    prints its port; ends when standard input does

The delay is what a round trip adds to each request (and to what follows a `100 Continue`), whatever its size: a line
with high latency and high bandwidth. It does not parse HTTP: bytes from the client that follow bytes from the server
count as a beginning.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from tests.servers import S3Server

PIECE_BYTES = 256 * 1024
_REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) (\S+) HTTP/1\.1\r\n")


class Relay:
    """Listens on a port of 127.0.0.1 and passes bytes on to another port, until it is closed.

    Attributes:
        sent_bytes: from clients so far, heads included.
        requests: (method, target) of each request so far.
    """

    def __init__(self, target_port: int, delay_seconds: float = 0.0) -> None:
        self._target_port = target_port
        self._delay_seconds = delay_seconds
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._connections: list[_Connection] = []
        self._closing = False
        self.port: int = self._listener.getsockname()[1]
        self.sent_bytes = 0
        self.requests: list[tuple[str, str]] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with suppress(OSError):
            socket.create_connection(
                ("127.0.0.1", self.port)
            ).close()  # the only way to wake `accept` on every system
        self._acceptor.join()
        for connection in self._connections:
            connection.end()

    def _accept(self) -> None:
        with self._listener:
            while True:
                client, _ = self._listener.accept()
                if self._closing:
                    client.close()
                    return
                self._connections.append(_Connection(self, client, self._target_port, self._delay_seconds))


class _Connection:
    """Two threads, one for each direction."""

    def __init__(self, relay: Relay, client: socket.socket, target_port: int, delay_seconds: float) -> None:
        self._relay = relay
        self._delay_seconds = delay_seconds
        self._client = client
        self._server = socket.create_connection(("127.0.0.1", target_port))
        self._beginning = True  # the client's next bytes begin something
        for end in (self._client, self._server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = threading.Thread(target=self._down, daemon=True)
        self._questions = threading.Thread(target=self._up, daemon=True)
        self._answers.start()
        self._questions.start()

    def end(self) -> None:
        """Close both ends, and return when both threads ended."""
        self._hang_up()
        self._questions.join()

    def _up(self) -> None:
        view = memoryview(bytearray(PIECE_BYTES))
        with self._client, self._server:
            with suppress(OSError):
                while count := self._client.recv_into(view):
                    self._begin(view)
                    self._server.sendall(view[:count])
                    self._relay.sent_bytes += count
            self._hang_up()
            self._answers.join()

    def _begin(self, view: memoryview) -> None:
        """Delay a beginning; record it if it is the head of a request."""
        if not self._beginning:
            return
        self._beginning = False
        found = _REQUEST.match(view)
        if found is not None:
            self._relay.requests.append((found[1].decode(), found[2].decode("latin-1")))
        if self._delay_seconds:
            time.sleep(self._delay_seconds)

    def _down(self) -> None:
        view = memoryview(bytearray(PIECE_BYTES))
        with suppress(OSError):
            while count := self._server.recv_into(view):
                self._beginning = True
                self._client.sendall(view[:count])
        self._hang_up()

    def _hang_up(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def through_port(server: S3Server, port: int) -> S3Server:
    """Return the same server and bucket with another port in its endpoint; its client keeps the direct one."""
    other = object.__new__(S3Server)
    other.__dict__.update(server.__dict__, endpoint=f"http://127.0.0.1:{port}")
    return other


def port_of(server: S3Server) -> int:
    port = urlsplit(server.endpoint).port
    assert port is not None
    return port


@contextmanager
def far_away(server: S3Server, delay_seconds: float) -> Iterator[S3Server]:
    """Yield the server behind a relay in a process of its own, which shares no interpreter with what is measured."""
    arguments = [sys.executable, "-m", "tests.benchmarks.relay", str(port_of(server)), str(delay_seconds)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield through_port(server, int(process.stdout.readline()))
        finally:
            process.kill()


def main() -> None:
    """Serve until standard input ends."""
    with Relay(int(sys.argv[1]), float(sys.argv[2])) as relay:
        print(relay.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
