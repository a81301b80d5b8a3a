"""Find the proxy in front of a store, from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or from the system's settings.

`urllib.request` loads an HTTP client and an e-mail parser, so it is imported only if there may be a proxy.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from urllib.parse import urlsplit

AWS_URL = "https://s3.amazonaws.com"  # represents all of AWS's own addresses


def is_loopback(endpoint_url: str | None) -> bool:
    host = urlsplit(endpoint_url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def proxy_of(endpoint_url: str | None) -> str | None:
    """Return the proxy before the endpoint (None: AWS), as `host:port`; None if requests go there directly."""
    if is_loopback(endpoint_url) or not _may_be_set():
        return None
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(endpoint_url or AWS_URL)
    if proxy_bypass(parts.netloc) or _in_network(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    if not proxy:
        return None
    # Not by `urlsplit`: it raises ValueError for a `[` in the password, and takes one with a `/` for the host.
    return re.split(r"[/?#]", proxy.rpartition("@")[2].rpartition("://")[2], maxsplit=1)[0]


def _may_be_set() -> bool:
    """Return whether there may be a proxy; on Windows and macOS the system's settings may name one, too."""
    return sys.platform in ("win32", "darwin") or any(name.lower().endswith("_proxy") for name in os.environ)


def _in_network(host: str) -> bool:
    """Return whether NO_PROXY names a network (`10.0.0.0/8`) with this address; urllib knows no networks."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    from urllib.request import getproxies_environment

    for entry in getproxies_environment().get("no", "").split(","):
        try:
            if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                return True
        except ValueError:
            continue
    return False
