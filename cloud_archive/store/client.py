"""Make the client of the AWS SDK (botocore), and report and limit how fast it sends bodies."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .. import __version__
from . import address as addresses
from .address import addressing_style
from .aws_session import AwsConfigurationError, chain_session, isolated_session
from .bandwidth import Throttle
from .base import Body
from .bounded import read_bounded
from .checksum_signer import reuse_checksum_in_signature
from .credentials import Credentials, configured_credentials, credentials_source
from .proxies import proxy_of
from .tls import TlsContexts

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_s3.client import S3Client

    from ..config.settings import Settings

CONNECT_SECONDS = 10
READ_SECONDS = 60
# NATs and firewalls forget a connection that is idle for some minutes; the next request on it would time out.
KEEPALIVE_SECONDS = 60
# Above this size a PutObject asks first (Expect: 100-continue), so that a refusal costs no upload. Below it, the extra
# round trip costs more than the body. A part never asks: the store has accepted its CreateMultipartUpload before.
EXPECT_ABOVE_BYTES = 1024 * 1024
PIECE_BYTES = 256 * 1024  # progress is reported in these steps; with a limit, see `Throttle.piece_bytes`


class Client(NamedTuple):
    """The SDK's client, and the credentials that it signs with.

    Attributes:
        credentials: returns those that are valid now, because a role's are renewed; None = there are none.
    """

    sdk: S3Client
    credentials: Callable[[], Credentials] | None


def make_client(
    settings: Settings, connect_seconds: float, read_seconds: float, before_send: Callable[..., None]
) -> Client:
    """Return a client of the SDK.

    Args:
        connect_seconds, read_seconds: timeouts of one request.
        before_send: called with each signed PutObject and UploadPart request (`request=`), in the thread that sends it.

    Raises:
        AwsConfigurationError: with S3_CREDENTIALS=aws, the chain can't be used.
    """
    session = chain_session() if settings.credentials == "aws" else isolated_session()
    try:
        client = _sdk_client(settings, session, connect_seconds, read_seconds)
    except Exception as error:
        if settings.credentials == "aws":
            raise AwsConfigurationError(str(error)) from error
        raise
    return _set_up(settings, session, client, before_send)


def _sdk_client(settings: Settings, session: Session, connect_seconds: float, read_seconds: float) -> Any:
    # Not at the top: a quarter of a second and 25 MB, which `--help` or a wrong setting need not pay.
    from botocore.config import Config

    credentials: dict[str, Any] = {}
    if (configured := configured_credentials(settings)) is not None:
        credentials = {
            "aws_access_key_id": configured.access_key_id,
            "aws_secret_access_key": configured.secret_access_key,
            "aws_session_token": configured.session_token,
        }
    options: dict[str, Any] = {
        # One variable decides where files go. (The type stubs do not know this option yet.)
        "ignore_configured_endpoint_urls": True,
        "s3": {"addressing_style": addressing_style(settings)},
    }
    config = Config(
        region_name=settings.region,
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        max_pool_connections=_connections(settings),
        tcp_keepalive=True,
        retries={"total_max_attempts": 1},
        # Newer SDKs add CRC trailers of their own, which several providers refuse.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent=_user_agent(),
        proxies={} if proxy_of(settings.endpoint_url) is None else None,
        **options,
    )
    return session.create_client(
        "s3",
        endpoint_url=settings.endpoint_url,
        verify=certificate_authorities(settings),
        config=config,
        **credentials,
    )


def _connections(settings: Settings) -> int:
    return max(10, settings.workers * 2)


def _user_agent() -> str:
    import botocore

    return f"cloud-archive/{__version__} Botocore/{botocore.__version__}"


def _set_up(
    settings: Settings,
    session: Session,
    client: Any,
    before_send: Callable[..., None],
) -> Client:
    from botocore.handlers import add_expect_header, convert_body_to_file_like_object

    session_of_requests = client._endpoint.http_session
    session_of_requests.send = _bounded(session_of_requests.send)
    _adapt_pools(session_of_requests._pool_classes_by_scheme, client.meta.config.read_timeout)
    client.meta.events.register("before-call.s3.HeadBucket", cast(Any, _answer_head_bucket))
    if (forbid := addresses.forbid_overwrite_handler(settings.endpoint_url)) is not None:
        for operation in ("PutObject", "CompleteMultipartUpload"):
            client.meta.events.register(f"before-call.s3.{operation}", forbid)
    # Without this, each body that is a readable file would be sent with Expect: 100-continue, a round trip more.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.unregister(
            f"before-parameter-build.s3.{operation}", convert_body_to_file_like_object
        )
        client.meta.events.register(f"before-send.s3.{operation}", before_send)
        reuse_checksum_in_signature(client, operation)
    client.meta.events.register("before-call.s3.PutObject", _ask_first)
    return Client(cast("S3Client", client), credentials_source(settings, session))


def certificate_authorities(settings: Settings) -> str | None:
    """Return the CA file to trust: S3_CA_BUNDLE, else AWS_CA_BUNDLE, else the system's; None: there is none."""
    if settings.ca_bundle is not None:
        return str(settings.ca_bundle)
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        return bundle
    usual = (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt")
    return next((path for path in usual if path and Path(path).is_file()), None)


def _bounded(send: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def bounded(request: Any) -> Any:
        is_streamed, request.stream_output = request.stream_output, True  # leaves the body unread
        answer = send(request)
        if not is_streamed or answer.status_code >= 300:
            answer._content = read_bounded(answer.raw)
        return answer

    return bounded


def _adapt_pools(pools: dict[str, Any], send_seconds: float) -> None:
    """Adapt urllib3's connections to redirects, slow lines, idle times and threads.

    They return each redirect as it is, let a body stall, are kept alive while idle, and share one TLS context.
    On a 303, urllib3 2 would raise a `TypeError`, because botocore's headers are bytes, and leave the connection open.
    It would send with the connect timeout, but on a slow line the system may take no bytes for longer than that.
    It would change the TLS context for each connection; see `TlsContexts`.

    Args:
        pools: botocore's classes of connection pools, by scheme; replaced in place.
        send_seconds: how long a body may stall.
    """
    contexts = TlsContexts()

    class Unredirected:
        def urlopen(self, *positional: Any, **named: Any) -> Any:
            return super().urlopen(*positional, **named, redirect=False)  # type: ignore[misc]

    class Patient:
        sock: Any

        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()  # type: ignore[misc]
            if (idle := getattr(socket, "TCP_KEEPIDLE", None)) is not None:
                with contextlib.suppress(OSError):
                    made.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_SECONDS)
            return made

        def endheaders(self, *positional: Any, **named: Any) -> None:
            if self.sock is None:
                self.connect()  # type: ignore[attr-defined]
            self.sock.settimeout(send_seconds)
            super().endheaders(*positional, **named)  # type: ignore[misc]

    class Encrypted(Patient):
        ca_certs: str | None

        def connect(self) -> None:
            self.ssl_context = contexts.get(self.ca_certs)
            super().connect()  # type: ignore[misc]

    for scheme, pool in pools.items():
        kind = Encrypted if scheme == "https" else Patient
        connection = type(pool.ConnectionCls.__name__, (kind, pool.ConnectionCls), {})
        pools[scheme] = type(pool.__name__, (Unredirected, pool), {"ConnectionCls": connection})


def _answer_head_bucket(**_: object) -> tuple[Any, dict[str, Any]]:
    """Answer botocore's HeadBucket without sending it.

    botocore sends one after a redirect that names no region. It would be redirected too, and botocore
    (`S3RegionRedirectorv2`, seen in 1.44) would send it again until Python's stack is full, as in
    https://github.com/boto/botocore/pull/1512. With this answer it gives up, and the first redirect is explained.
    """
    from botocore.awsrequest import AWSResponse, HeadersDict

    answer = AWSResponse("", 200, cast(Any, HeadersDict()), None)
    return answer, {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}


class BodyProgress:
    """Report how many bytes of one body were sent; none twice if the body is sent again."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self._progress = progress
        self._bytes = 0

    def reach(self, position: int) -> None:
        if self._progress is not None and position > self._bytes:
            step, self._bytes = position - self._bytes, position
            self._progress(step)


class MeteredBody:
    """A body as a readable file. Reports how far it was read, and waits for the bandwidth limit."""

    def __init__(self, body: Body, sent: BodyProgress, piece_bytes: int, throttle: Throttle | None) -> None:
        self._body = body
        self._sent = sent
        self._piece_bytes = piece_bytes
        self._throttle = throttle
        self.seek(0)

    def __len__(self) -> int:
        return len(self._body)

    def read(self, _size: int = -1) -> memoryview | bytes:
        """Return the next piece; after the end `b""`, and then the first piece again.

        A piece may be larger than asked for, because pieces of 16 KiB take the interpreter lock often.
        """
        self._sent.reach(self._position)
        piece = next(self._pieces, b"")
        self._position += len(piece)
        if not piece:
            self.seek(0)
        elif self._throttle is not None:
            self._throttle.take(len(piece))
        return piece

    def seek(self, _position: int, _whence: int = 0) -> int:
        """Go back to the beginning: the SDK goes nowhere else."""
        self._position = 0
        self._pieces = _pieces(self._body, self._piece_bytes)
        return 0


def _pieces(body: Body, piece_bytes: int) -> Iterator[memoryview]:
    # No method: its generator would keep the `MeteredBody` in memory until the next garbage collection.
    for part in (memoryview(body),) if isinstance(body, bytes) else body:
        for begin in range(0, len(part), piece_bytes):
            yield part[begin : begin + piece_bytes]


def _ask_first(params: dict[str, Any], **_: object) -> None:
    body = params.get("body")
    if isinstance(body, (bytes, MeteredBody)) and len(body) > EXPECT_ABOVE_BYTES:
        params["headers"]["Expect"] = "100-continue"
