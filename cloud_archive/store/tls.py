"""One TLS context for all connections of the SDK's client."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

ALPN_PROTOCOLS = ["http/1.1"]  # as urllib3 sets them


class TlsContexts:
    """Make the TLS context that connections share. A new one is made once the file of authorities has changed.

    For each connection, urllib3 would set the protocols of the shared context again, and load the authorities again.
    Meanwhile another thread may begin a handshake with it, which then sends a damaged greeting, or crashes:
    https://github.com/python/cpython/issues/141012. So nothing changes these contexts once they are made, except that
    urllib3 sets `verify_mode` again, always to the same value.
    A context with the usual authorities takes about 20 ms and 0.8 MB.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[object, ssl.SSLContext] | None = None

    def get(self, authorities: str | None) -> ssl.SSLContext:
        """Return the context that trusts the authorities in this file; None: it trusts none.

        If the file can't be loaded, urllib3 tries it again with the context, and raises the error.
        """
        from botocore.httpsession import create_urllib3_context

        with self._lock:
            version = _version(authorities)
            if self._made is not None and self._made[0] == version:
                return self._made[1]
            context: ssl.SSLContext = create_urllib3_context()
            if authorities is not None:
                try:
                    context.load_verify_locations(authorities)
                except OSError:
                    return context
            context.set_alpn_protocols(ALPN_PROTOCOLS)
            for change in ("load_verify_locations", "set_alpn_protocols"):
                setattr(context, change, _ignore)
            self._made = version, context
            return context


def _version(path: str | None) -> object:
    if path is None:
        return None
    try:
        stat = Path(path).stat()
    except OSError:
        return path
    return path, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _ignore(*_: object) -> None:
    """Change nothing."""
