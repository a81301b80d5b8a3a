"""An S3 endpoint that answers from a script and keeps the requests that it received."""

from __future__ import annotations

import base64
import hashlib
import http.server
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from hypothesis import strategies as st

from cloud_archive.errors import StoreError
from cloud_archive.store.s3 import S3Store

SECRET = "planted+SECRET/0123456789abcdefghijklmnop"
TOKEN = "planted-session-token-0123456789"
BODY = b"the bytes of a picture"
SHA256 = hashlib.sha256(BODY).hexdigest()
SHA256_BASE64 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    close: bool = False
    silent: bool = False  # no answer until the client hangs up
    hangs_up: bool = False  # the connection is closed after the answer, which does not say so


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    expect_answered: bool


def refusal(status: int, code: str, message: str = "no", **more: str) -> Reply:
    extra = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    text = f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    return Reply(status, {"Content-Type": "application/xml"}, text.encode())


object_keys = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=40
).filter(lambda key: not key.startswith("/") and "//" not in key)
OK = Reply(headers={"ETag": f'"{MD5}"'})  # to a write of `BODY`, which it proves


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may hang up
            super().handle_error(request, client_address)


class Endpoint:
    """Answer each request with the next of `replies`; the last one is repeated. `seen` keeps the requests."""

    def __init__(self) -> None:
        self.replies: list[Reply | Callable[[Seen], Reply]] = []
        self.seen: list[Seen] = []
        self.connections = 0
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                endpoint.connections += 1
                super().setup()

            def handle_expect_100(self) -> bool:
                self.asked = True
                return super().handle_expect_100()

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                seen = Seen(self.command, self.path, headers, body, getattr(self, "asked", False))
                endpoint.seen.append(seen)
                script = endpoint.replies
                found = script.pop(0) if len(script) > 1 else script[0]
                reply = found(seen) if callable(found) else found
                if reply.silent:
                    self.rfile.read(1)
                if reply.close or reply.silent:
                    self.close_connection = True
                    return
                self.send_response_only(reply.status)
                for name, value in ({"Date": formatdate(usegmt=True)} | reply.headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)
                self.close_connection |= reply.hangs_up

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def environ(url: str, **extra: str) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": url,
        "S3_BUCKET": "pictures",
        "S3_ACCESS_KEY_ID": "AKIATEST",
        "S3_SECRET_ACCESS_KEY": SECRET,
        "S3_SESSION_TOKEN": TOKEN,
    } | extra


def put(store: S3Store, body: bytes = BODY, **changes: Any) -> Any:
    wanted: dict[str, Any] = {
        "sha256": hashlib.sha256(body).hexdigest(),
        "content_type": "image/png",
        "metadata": {"sha256": "abc"},
        "create_only": False,
    }
    return store.put("a/b.png", body, **(wanted | changes))


def by_the_sdk(endpoint: Endpoint) -> list[bool]:
    """Return for each request whether the SDK sent it."""
    return ["amz-sdk-request" in seen.headers for seen in endpoint.seen]


def result_or_code(call: Callable[[], object]) -> str:
    """Return what the call returns, as text, or the code of the StoreError that it raises."""
    try:
        return str(call())
    except StoreError as error:
        return error.failure.code
