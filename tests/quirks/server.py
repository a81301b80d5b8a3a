"""A proxy in front of a real store that answers in another provider's dialect.

Each request is read whole and passed to a `Profile` (profiles.py). If the profile forwards it, it is signed anew with
the store's own credentials, so that a profile may change any header, signed or not. The client's own
signature is not checked here.

    with QuirkServer(seaweedfs, SilentOverwrite()) as server:
        ...                      # an S3 client of server.url
        server.log               # [(operation, key, status), ...]
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from multidict import CIMultiDict
from yarl import URL

from tests.faults.operations import operation_of
from tests.servers import CATALOG_FOLDER, S3Server, is_catalog_key

_NOT_FORWARDED = (
    "Authorization",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-SHA256",
    "Connection",
    "Expect",
    "Transfer-Encoding",
)

WRITES = frozenset({"PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"})


def counted_key(key: str) -> str:
    """Return the key by which faults are counted: one for all catalog objects, since each try has a new name."""
    return CATALOG_FOLDER if is_catalog_key(key) else key


@dataclass(slots=True)
class Request:
    """A request as the profile sees it, and may change it."""

    operation: str
    bucket: str
    key: str
    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(URL(self.target, encoded=True).query)


@dataclass(slots=True)
class Answer:
    """An answer; `announced_bytes` and `sent_bytes` falsify its length, `hang` never sends it.

    `raw`, where set, is all that goes over the wire, head included, before the connection closes.
    """

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = b""
    announced_bytes: int | None = None
    sent_bytes: int | None = None
    hang: bool = False
    raw: bytes | None = None


Forward = Callable[[Request], Awaitable[Answer]]


class Profile:
    """A dialect. The plain one changes nothing."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        """Answer the request; `forward` asks the real store."""
        return await forward(request)


def error(status: int, code: str, message: str, **more: str) -> Answer:
    """An S3 error document (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""
    rest = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    text = f"<Error><Code>{code}</Code><Message>{message}</Message>{rest}</Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Answer(status, CIMultiDict({"Content-Type": "application/xml"}), body)


class _Signer(S3SigV4Auth):
    """Signs the headers, not the body, which has checksums of its own."""

    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


class QuirkServer:
    """One profile before one store, with a thread and an event loop of its own.

    Args:
        store: the real store, whose credentials it uses; the client may use any.
    """

    def __init__(self, store: S3Server, profile: Profile) -> None:
        self._store = store.endpoint.rstrip("/")
        self._credentials = Credentials(store.access_key_id, store.secret_access_key)
        self.profile = profile
        self.port = 0
        self.log: list[tuple[str, str, int]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="quirk-server", daemon=True)
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None
        self._stopping = asyncio.Event()

    def start(self) -> QuirkServer:
        """Listen on a port of the system's choice."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(60)
        return self

    def stop(self) -> None:
        """Close everything and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def __enter__(self) -> QuirkServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The endpoint for an S3 client."""
        return f"http://127.0.0.1:{self.port}"

    async def _open(self) -> None:
        self._client = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(force_close=True, limit=0)
        )
        application = web.Application(client_max_size=2**40)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        assert self._runner is not None
        assert self._client is not None
        self._stopping.set()
        await self._runner.cleanup()
        await self._client.close()
        await asyncio.sleep(0.01)  # aiohttp closes its transports in the next turns of the loop

    async def _serve(self, received: web.Request) -> web.StreamResponse:
        target = received.raw_path
        operation = operation_of(received.method, target)
        request = Request(
            *operation,
            received.method,
            target,
            CIMultiDict(received.headers),
            await received.read(),
        )
        answer = await self.profile.handle(request, self._forward)
        self.log.append((operation.name, operation.key, answer.status))
        if answer.hang:
            await self._stopping.wait()
        return await self._reply(received, answer)

    async def _reply(self, received: web.Request, answer: Answer) -> web.StreamResponse:
        if answer.raw is not None and received.transport is not None:
            received.transport.write(answer.raw)
            received.transport.close()
        reply = web.StreamResponse(status=answer.status, headers=answer.headers)
        head_of = answer.headers.get("Content-Length") if received.method == "HEAD" else None
        announced = answer.announced_bytes
        reply.content_length = int(head_of or 0) or (len(answer.body) if announced is None else announced)
        reply.headers.setdefault("Date", formatdate(usegmt=True))
        await reply.prepare(received)
        if received.method != "HEAD":
            await reply.write(answer.body[: answer.sent_bytes])
        if announced is None and answer.sent_bytes is None:
            await reply.write_eof()
        elif received.transport is not None:
            received.transport.close()
        return reply

    async def _forward(self, request: Request) -> Answer:
        assert self._client is not None
        headers = request.headers.copy()
        for name in _NOT_FORWARDED:
            headers.popall(name, None)
        chunked = "aws-chunked" in headers.get("Content-Encoding", "")
        body = request.body
        if chunked:
            body = unchunked(body)
            for name in ("Content-Encoding", "X-Amz-Trailer", "X-Amz-Decoded-Content-Length"):
                headers.popall(name, None)
        headers["Host"] = urlsplit(self._store).netloc
        headers.popall("Content-Length", None)
        url = self._store + request.target
        unsigned = AWSRequest(request.method, url, headers=dict(headers), data=body)
        _Signer(self._credentials, "s3", "us-east-1").add_auth(unsigned)
        async with self._client.request(
            request.method,
            URL(url, encoded=True),
            headers=dict(unsigned.headers.items()),
            data=io.BytesIO(body) if body else b"",
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answered:
            found = CIMultiDict(answered.headers)
            for name in ("Transfer-Encoding", "Connection", "Date"):
                found.popall(name, None)
            return Answer(answered.status, found, await answered.read())


def unchunked(body: bytes) -> bytes:
    """The payload of an aws-chunked body, trailers dropped.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
    """
    payload = bytearray()
    position = 0
    while True:
        end = body.index(b"\r\n", position)
        size = int(body[position:end].split(b";")[0], 16)
        if size == 0:
            return bytes(payload)
        payload += body[end + 2 : end + 2 + size]
        position = end + 2 + size + 2
