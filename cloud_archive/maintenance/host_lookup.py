"""Resolve a host name with a time limit; the system has none that a program can set."""

from __future__ import annotations

import socket

from ..executor import CallTimeout, call_within

RESOLVE_SECONDS = 10.0


def resolve(host: str, port: int) -> str:
    """Return the first address of a host.

    Raises:
        OSError: it has none, or there was no answer within `RESOLVE_SECONDS`. Its text names the host.
    """

    def look_up() -> str:
        return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])

    try:
        return call_within(RESOLVE_SECONDS, look_up, "cloud-archive-resolve")
    except CallTimeout:
        number, text = socket.EAI_AGAIN, f"no answer within {RESOLVE_SECONDS:g} s"
    except socket.gaierror as error:
        number, text = error.args
    # Not in the blocks above: users see the text of the innermost error.
    raise socket.gaierror(number, f"{host}: {text}")
