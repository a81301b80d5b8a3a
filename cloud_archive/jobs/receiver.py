"""Send one POST to the webhook's receiver: to an address that was checked, without redirects, and in limited time."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

CONNECT_SECONDS = 10.0
EXCHANGE_SECONDS = 20.0  # from the connection to the end of the answer's head, however slowly it comes

_PIECE_BYTES = 4096
_MAX_HEAD_BYTES = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)\b")
_PRIVATE_SUFFIXES = (
    *(".local", ".localhost", ".internal", ".intranet", ".lan", ".home", ".corp", ".private"),
    ".home.arpa",
)
# OpenSSL's messages of these two name the host: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_OTHER_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
Resolve = Callable[..., Sequence[tuple[Any, ...]]]


class ReceiverFailed(Exception):
    """The receiver did not accept the message. The text is the end of a sentence, and names neither URL nor host."""


class ReceiverGone(ReceiverFailed):
    """The receiver answered 410 Gone: its address is gone for good."""


def is_private_host(host: str) -> bool:
    """Return whether a URL's host is this machine or in its own network, judged by the name or address alone.

    >>> [is_private_host(host) for host in ("127.0.0.1", "n8n", "hooks.lan", "10.0.0.7", "example.com", "8.8.8.8")]
    [True, True, True, True, False, False]
    """
    try:
        return not _is_public(ipaddress.ip_address(host))
    except ValueError:
        name = host.lower().rstrip(".")
        return "." not in name or name.endswith(_PRIVATE_SUFFIXES)


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    resolve: Resolve = socket.getaddrinfo,
    exchange_seconds: float = EXCHANGE_SECONDS,
) -> None:
    """Send `body` to the operator's URL, in one POST request.

    A public name must resolve to public addresses. Otherwise the owner of the name could make this machine send
    requests into the local network. The connection goes to the address that was checked.

    Args:
        exchange_seconds: the limit from the connection to the end of the answer's head.

    Raises:
        ReceiverGone: it answers 410.
        ReceiverFailed: it can't be reached, or answers anything else but 2xx.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with contextlib.closing(_connect(host, port, resolve)) as plain:
            status = _exchange(
                plain, parts.scheme == "https", host, parts.netloc, path, headers, body, exchange_seconds
            )
    except ReceiverFailed:
        raise
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # ValueError and AttributeError are raised if the watchdog shuts the socket down while TLS reads.
        raise ReceiverFailed(_cause(error)) from None
    if 300 <= status < 400:
        raise ReceiverFailed(f"answered {status}: redirects are not followed")
    if status == 410:
        raise ReceiverGone("answered 410: its address is gone for good")
    if not 200 <= status < 300:
        raise ReceiverFailed(f"answered {status}")


def _connect(host: str, port: int, resolve: Resolve) -> socket.socket:
    found = resolve(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((entry[0], entry[4]) for entry in found))
    if not is_private_host(host):
        for _, address in addresses:
            if not _is_public(ipaddress.ip_address(str(address[0]).partition("%")[0])):
                raise ReceiverFailed(
                    "has a public name that resolves to a private address, which is refused:"
                    " put the address itself into CLOUD_ARCHIVE_WEBHOOK_URL if that is intended"
                )
    failure: OSError | None = None
    for family, address in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or OSError("it has no address")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # https://www.rfc-editor.org/rfc/rfc4291#section-2.4


def _exchange(
    plain: socket.socket,
    is_https: bool,
    host: str,
    authority: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    exchange_seconds: float,
) -> int:
    timed_out = threading.Event()

    def give_up() -> None:
        timed_out.set()
        with contextlib.suppress(OSError):
            plain.shutdown(socket.SHUT_RDWR)

    watchdog = threading.Timer(exchange_seconds, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        stream = plain
        if is_https:
            # Wrapping detaches a socket, so it gets a duplicate: the watchdog needs the original.
            stream = ssl.create_default_context().wrap_socket(plain.dup(), server_hostname=host)
        stream.settimeout(exchange_seconds)
        connection = http.client.HTTPConnection(authority)
        connection.sock = stream
        with contextlib.closing(connection):
            connection.request("POST", path, body, {"Host": authority, "Connection": "close", **headers})
            return _status(stream)
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        if timed_out.is_set():
            raise ReceiverFailed("did not answer in time") from None
        raise
    finally:
        watchdog.cancel()


def _status(stream: socket.socket) -> int:
    """Return the status of the final answer once its head has arrived completely; skip interim answers (1xx)."""
    head = b""
    while True:
        while b"\r\n\r\n" not in head:
            piece = stream.recv(_PIECE_BYTES)
            if not piece or len(head) > _MAX_HEAD_BYTES:
                raise http.client.IncompleteRead(b"")
            head += piece
        first, _, head = head.partition(b"\r\n\r\n")
        match = _STATUS_LINE.match(first)
        if match is None:
            raise ReceiverFailed("does not answer HTTP")
        if not match[1].startswith(b"1"):
            return int(match[1])


def _cause(error: Exception) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = "it is another host's" if error.verify_code in _OTHER_HOST else error.verify_message
        return f"has a certificate that is not trusted ({reason})"
    if isinstance(error, socket.gaierror):
        return "has a name that can't be resolved"
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    return "can't be reached, or closed the connection"
