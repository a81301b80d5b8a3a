"""Receivers of webhooks, good and bad, on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLTcw"


class Receiver(ThreadingHTTPServer):
    """Record every message; `answer(number)` returns its status, or sends its own faulty answer and returns None."""

    daemon_threads = True

    def __init__(self, answer: Callable[[int, BaseHTTPRequestHandler], int | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?key=planted-path-secret"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = ({name.lower(): value for name, value in self.headers.items()}, body)
        self.server.messages.append(message)
        status = self.server.answer(len(self.server.messages), self)
        if status is None:
            self.close_connection = True
            return
        if 200 <= status < 300:
            self.server.taken.append(message)
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def receiving(
    answer: Callable[[int, BaseHTTPRequestHandler], int | None] = lambda number, handler: 204,
) -> Iterator[Receiver]:
    receiver = Receiver(answer)
    thread = threading.Thread(target=receiver.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join(60)


def close_in_the_middle(handler: BaseHTTPRequestHandler) -> None:
    """End the connection within the answer's head."""
    handler.connection.sendall(b"HTTP/1.1 20")
    handler.connection.shutdown(socket.SHUT_RDWR)
