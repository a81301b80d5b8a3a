"""Send requests through libcurl (C), at a fifth of the SDK's cost: it signs them and shows the whole answer.

Only a plain success, a key that is taken and a missing object are distinguished. Everything else is `Unexpected`: the
SDK then sends the same request, because its errors name the cause.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from .address import Address
from .bounded import MAX_ANSWER_BYTES, MAX_REFUSAL_BYTES
from .credentials import Credentials

if TYPE_CHECKING:
    from pycurl import Curl

logger = logging.getLogger("cloud_archive.store")

_OLDEST_LIBCURL = 0x081300  # 8.19; 8.16 signs a listing wrong
_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Unexpected(Exception):
    """Any other error or answer. libcurl's text may name the user's hosts, so it is never shown."""


class TooLarge(Unexpected):
    """The answer is larger than its limit."""


class Missing(Exception):
    """There is no such object."""


class KeyTaken(Exception):
    """A create-only write was refused with 412, in the shape of botocore's `ClientError`."""

    response: Mapping[str, Any] = {
        "Error": {"Code": "PreconditionFailed", "Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": 412, "HTTPHeaders": {}},
    }


class Answer(NamedTuple):
    """An answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CurlClient:
    """Send requests to one bucket; each may raise `Unexpected`. Thread-safe.

    Connections are kept and used again. No redirect is followed, and no proxy is used.

    Args:
        seconds: the time limit of a request, the connection included.
        ca_file: the certificate authorities to trust; None: libcurl's own.

    Raises:
        ImportError: pycurl is not installed, or its libcurl is too old.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        *,
        user_agent: str,
        seconds: float,
        ca_file: str | None = None,
    ) -> None:
        import pycurl

        if pycurl.version_info()[2] < _OLDEST_LIBCURL:
            raise ImportError("libcurl is too old")
        self.address = address
        self.credentials = credentials
        self._pycurl = pycurl
        self._user_agent = user_agent
        self._milliseconds = max(1, int(seconds * 1000))
        self._ca_file = ca_file
        self._unused: deque[Curl] = deque()

    def put(self, key: str, body: bytes, sha256: str, headers: Mapping[str, str]) -> Answer:
        """Write an object. `sha256`: of `body`, hexadecimal; it is part of the signature.

        Raises:
            KeyTaken: the store answers 412.
            Unexpected: the object may have been written.
        """
        answer = self._ask("PUT", key, headers=headers, body=body, sha256=sha256)
        if answer.status == 412:
            raise KeyTaken
        if answer.body or "etag" not in answer.headers:  # such as an error with status 200
            raise Unexpected
        return _expected(answer, 200)

    def head(self, key: str, headers: Mapping[str, str]) -> Answer:
        """Return what an object's HEAD says. Missing: there is no such object, or no such bucket."""
        answer = self._ask("HEAD", key, headers=headers)
        if answer.status == 404:
            raise Missing
        return _expected(answer, 200)

    def get(self, key: str, limit_bytes: int) -> Answer:
        """Read an object.

        Raises:
            Missing: the store says that there is no such key.
            TooLarge: the object is larger than `limit_bytes`.
        """
        answer = self._ask("GET", key, limit_bytes=limit_bytes)
        if answer.status == 404 and b"<Code>NoSuchKey</Code>" in answer.body:
            raise Missing
        return _expected(answer, 200)

    def query(self, parameters: Mapping[str, str]) -> Answer:
        """Ask the bucket itself, such as for a listing."""
        return _expected(self._ask("GET", "", query=parameters), 200)

    def close(self) -> None:
        """Close the unused connections."""
        with contextlib.suppress(IndexError):  # there is none
            while True:
                self._unused.pop().close()

    def _ask(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        sha256: str = _EMPTY_SHA256,
        limit_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        try:
            handle = self._unused.pop()
        except IndexError:
            handle = self._pycurl.Curl()
        received = _Received(limit_bytes)
        try:
            self._prepare(handle, method, key, query, {"x-amz-content-sha256": sha256} | dict(headers or {}))
            if body is not None:
                handle.setopt(self._pycurl.POSTFIELDS, body)
                handle.setopt(self._pycurl.CUSTOMREQUEST, method)
            handle.setopt(self._pycurl.HEADERFUNCTION, received.lines.append)
            handle.setopt(self._pycurl.WRITEFUNCTION, received.write)
            handle.perform()
            status = int(handle.getinfo(self._pycurl.RESPONSE_CODE))
        except (
            self._pycurl.error,
            UnicodeError,
        ) as error:  # pycurl takes only ASCII, such as for a host's name
            handle.close()
            logger.debug("libcurl: error %s", error.args[0])
            raise (TooLarge if error.args[0] == self._pycurl.E_WRITE_ERROR else Unexpected) from None
        except BaseException:
            handle.close()
            raise
        handle.reset()  # keeps the connection
        self._unused.append(handle)
        return Answer(status, _parsed(received.lines), b"".join(received.pieces))

    def _prepare(
        self, handle: Curl, method: str, key: str, query: Mapping[str, str] | None, headers: dict[str, str]
    ) -> None:
        curl, credentials, address = self._pycurl, self.credentials, self.address
        if credentials.session_token is not None:
            headers["x-amz-security-token"] = credentials.session_token
        url = f"{address.scheme}://{address.host}{address.base}{quote(key, safe='/-_.~')}"
        if query is not None:
            url = f"{url.rstrip('/')}?{urlencode(sorted(query.items()), quote_via=quote, safe='-_.~')}"
        for option, value in (
            (curl.URL, url),
            (curl.HTTP_VERSION, curl.CURL_HTTP_VERSION_1_1),
            (curl.NOBODY, method == "HEAD"),
            (curl.PROXY, ""),
            (curl.NOSIGNAL, 1),
            (curl.TCP_NODELAY, 1),
            (curl.TIMEOUT_MS, self._milliseconds),
            (curl.CONNECTTIMEOUT_MS, self._milliseconds),
            (curl.USERAGENT, self._user_agent),
            (curl.AWS_SIGV4, f"aws:amz:{address.region}:s3"),
            (curl.USERNAME, credentials.access_key_id),
            (curl.PASSWORD, credentials.secret_access_key),
            (curl.HTTPHEADER, ["Expect:", *(f"{name}: {value}" for name, value in headers.items())]),
        ):
            handle.setopt(option, value)
        if self._ca_file is not None:
            handle.unsetopt(
                curl.CAPATH
            )  # which pycurl sets where a system has only a folder: it would be trusted, too
            handle.setopt(curl.CAINFO, os.fsencode(self._ca_file))


class _Received:
    """What libcurl received: the lines of the head, and the body up to a limit, where the request ends."""

    def __init__(self, limit_bytes: int) -> None:
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []
        self._limit_bytes = limit_bytes
        self._bytes = 0

    def write(self, piece: bytes) -> int:
        status = next(line for line in reversed(self.lines) if line.startswith(b"HTTP/"))
        is_refusal = not status.split()[1].startswith(b"2")
        self._bytes += len(piece)
        if self._bytes > (MAX_REFUSAL_BYTES if is_refusal else self._limit_bytes):
            return 0
        self.pieces.append(piece)
        return len(piece)


def _expected(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        logger.debug("libcurl: status %d", answer.status)
        raise Unexpected
    return answer


def _parsed(lines: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of the answer: a `103 Early Hints` may come before them, and trailers after them."""
    headers: dict[str, str] = {}
    is_head = False
    for line in lines:
        if line.startswith(b"HTTP/"):
            headers, is_head = {}, True
        elif not line.strip():
            is_head = False
        elif is_head:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
    return headers
