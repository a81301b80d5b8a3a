"""Connections and TLS of `check` before the first request, with errors like those of requests."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import StoreError
from ..store.client import certificate_authorities
from ..store.failures import explain
from ..store.translate import translate

if TYPE_CHECKING:
    from ..config.settings import Settings

T = TypeVar("T")


def call_system(call: Callable[[], T]) -> T:
    """Return `call()`. An OSError becomes a StoreError, as a request would raise it."""
    try:
        return call()
    except OSError as error:
        raise _explain_os_error(error) from error


def _explain_os_error(error: OSError) -> StoreError:
    translated = translate(error, "Connect", None)
    if isinstance(error, TimeoutError):
        return StoreError("Connect", None, explain("ConnectTimeout"), store_message=translated.store_message)
    is_cut_off = isinstance(
        error, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLError)
    )
    if translated.failure.code == "ConnectionClosed" and not is_cut_off:
        refused = isinstance(error, ConnectionRefusedError)
        return StoreError(
            "Connect",
            None,
            explain("ConnectionRefused" if refused else "Unreachable"),
            store_message=translated.store_message,
        )
    return translated


def connect_tls(settings: Settings, plain: socket.socket, host: str) -> str:
    """Make a TLS connection over `plain`, and return its version.

    Raises:
        OSError: the certificate is not trusted, the other side speaks no TLS, or the CA file is missing.
    """
    authorities = certificate_authorities(settings)
    try:
        context = ssl.create_default_context(cafile=authorities)
    except FileNotFoundError as error:
        # As botocore raises it, because `translate` knows these words.
        raise OSError(
            f"Could not find a suitable TLS CA certificate bundle, invalid path: {authorities}"
        ) from error
    with context.wrap_socket(plain, server_hostname=host) as secured:
        return secured.version() or "TLS"
