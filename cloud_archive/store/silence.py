"""Explain a request that got no answer: from an exception of the SDK or the system to a `Failure`.

The SDK's exceptions are known by their classes' names, so that importing this loads no SDK.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..errors import Failure
from ..redaction import redact
from .failures import explain

# By the name of an exception's class; the class itself counts before its base classes.
_BY_CLASS = {
    "ConnectTimeoutError": "ConnectTimeout",
    "ReadTimeoutError": "ReadTimeout",
    "ProxyConnectionError": "ProxyUnreachable",
    "InvalidProxiesConfigError": "ProxyUnreachable",
    "SSLError": "TLS",
    "EndpointConnectionError": "ConnectionRefused",
    "NewConnectionError": "ConnectionRefused",
    "ConnectionClosedError": "ConnectionClosed",
    "ResponseStreamingError": "ConnectionClosed",
    "IncompleteReadError": "ConnectionClosed",
    "IncompleteRead": "ConnectionClosed",
    "ProtocolError": "ConnectionClosed",
    "FlexibleChecksumError": "BadDigest",
    "ResponseParserError": "NotS3",
    "AwsConfigurationError": "AwsConfiguration",
    "AwsChainTimeout": "AwsChainTimeout",
    "NoCredentialsError": "NoCredentials",
    "PartialCredentialsError": "NoCredentials",
    "CredentialRetrievalError": "AwsConfiguration",
    "TokenRetrievalError": "AwsConfiguration",
    "NoAuthTokenError": "NoCredentials",
    "SSOError": "AwsConfiguration",
    "ProfileNotFound": "NoCredentials",
    "ConfigParseError": "NoCredentials",
    "InvalidDNSNameError": "InvalidBucketName",
    "InvalidRegionError": "InvalidEndpoint",
    "EndpointProviderError": "InvalidEndpoint",
    "TimeoutError": "ReadTimeout",
    "HTTPClientError": "ConnectionClosed",  # an answer that is not HTTP
    "ConnectionError": "ConnectionClosed",
}

_INVALID_URL = ("ValueError", "LocationParseError")  # of `urlsplit` and of urllib3
_PROXY_CURE = "Correct HTTPS_PROXY and HTTP_PROXY. In user and password write special characters as %XX."


def proxy_refused(proxy: str, answer: str, *, transient: bool) -> Failure:
    cause = f"The proxy {proxy} refuses the connection to the store ({answer})."
    return replace(explain("ProxyRefused"), cause=cause, transient=transient)


def explain_silence(error: BaseException, proxy: str | None, secrets: Sequence[str] = ()) -> Failure:
    """Return why no answer came; for the arguments see `translate`."""
    chain = list(_chain(error))
    if proxy is not None and (refused := _tunnel_refused(chain, secrets)):
        return proxy_refused(proxy, refused, transient=not refused.startswith(("403", "407")))
    if proxy is None and any(_is_name_error(one) for one in chain):
        return explain("NameNotResolved")
    classes = {type(one).__name__ for one in chain}
    # Without the SDK's HTTPClientError, the ValueError is about something else, such as the AWS configuration.
    if proxy is not None and "HTTPClientError" in classes and not classes.isdisjoint(_INVALID_URL):
        return replace(
            explain("ProxyUnreachable"), cause="The proxy's address is not a valid URL.", cure=_PROXY_CURE
        )
    code = next((found for one in chain for name in _names(one) if (found := _BY_CLASS.get(name))), None)
    if code == "ConnectionRefused":
        return _not_connected(chain)
    if code == "ConnectionClosed" and any(isinstance(one, TimeoutError) for one in chain):
        code = "ReadTimeout"  # while a body was sent
    if code == "ProxyUnreachable" and proxy is not None:
        return replace(explain(code), cause=f"The proxy {proxy} in front of the store can't be reached.")
    if code == "TLS" or any(isinstance(one, ssl.SSLError) for one in chain):
        return _tls(" ".join(str(one) for one in chain))
    if code == "NotS3":
        text = str(error).lower()
        return explain("NotS3" if "<html" in text or "<!doctype" in text else "ConnectionClosed")
    text = str(error)
    if code is None and "CA certificate bundle" in text:
        return replace(
            explain("TLS"),
            cause="The file of certificate authorities can't be read.",
            cure="Correct S3_CA_BUNDLE.",
        )
    if code is None and "nvalid bucket name" in text:
        code = "InvalidBucketName"
    if code is None and "nvalid endpoint" in text:
        code = "InvalidEndpoint"
    if code is None and any(isinstance(one, OSError) for one in chain):
        code = "ConnectionClosed"
    return explain(code or type(error).__name__)


def _is_name_error(error: BaseException) -> bool:
    return isinstance(error, socket.gaierror) or type(error).__name__ == "NameResolutionError"


def _tunnel_refused(chain: Sequence[BaseException], secrets: Sequence[str]) -> str:
    """Return how a proxy refused CONNECT, such as `407 Proxy Authentication Required`; empty if none did."""
    for one in chain:
        # Redacted before it is shortened: half a secret would not be recognised.
        found = re.search(r"Tunnel connection failed: ([0-9]{3}[^')]{0,60})", redact(str(one), secrets))
        if found:
            return found[1].strip()
    return ""


def _not_connected(chain: Sequence[BaseException]) -> Failure:
    failure = explain("ConnectionRefused")
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return failure
    text = " ".join(str(one) for one in chain)
    if "refused" in text.lower():
        return failure
    if "unreachable" in text.lower() or "no route" in text.lower():
        return explain("Unreachable")
    return replace(failure, cause="The endpoint can't be reached.")


def _tls(text: str) -> Failure:
    failure = explain("TLS")
    if "EOF occurred in violation of protocol" in text:
        return explain("ConnectionClosed")
    if "WRONG_VERSION_NUMBER" in text or "wrong version number" in text or "record layer failure" in text:
        return replace(
            failure,
            cause="The endpoint does not speak TLS on this port.",
            cure="Correct S3_ENDPOINT_URL: http:// instead of https://, or the port that speaks TLS.",
        )
    if "expired" in text:
        return replace(
            failure,
            cause="The endpoint's TLS certificate has expired.",
            cure="Renew it there; or, if this machine's clock is wrong, set the clock.",
        )
    if "mismatch" in text or "doesn't match" in text or "not valid for" in text:
        return replace(
            failure,
            cause="The endpoint's TLS certificate is for another name.",
            cure="Use the name that the certificate has in S3_ENDPOINT_URL.",
        )
    return failure


def _names(error: BaseException) -> Iterator[str]:
    return (ancestor.__name__ for ancestor in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and all that it wraps: botocore keeps it in `kwargs`, urllib3 in `reason`."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = getattr(one, "kwargs", None)
        if isinstance(inner, Mapping):
            waiting.append(inner.get("error"))
        waiting += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]


def system_message(error: BaseException) -> str:
    """Return the message of the innermost system error: `[Errno 111] Connection refused`; empty if there is none."""
    messages = [
        str(one) for one in _chain(error) if isinstance(one, OSError) and type(one).__module__ in _SYSTEM
    ]
    return messages[-1] if messages else ""


_SYSTEM = ("builtins", "socket", "ssl")
