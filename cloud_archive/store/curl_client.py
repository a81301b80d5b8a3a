"""Send requests through libcurl (C), at a fraction of the SDK's cost: it signs them and shows the whole answer.

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
        self._unused: deque[tuple[str, Curl]] = deque()  # with the method of their last request

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
        return _succeeded(answer)

    def head(self, key: str, headers: Mapping[str, str]) -> Answer:
        """Return what an object's HEAD says. Missing: there is no such object, or no such bucket."""
        answer = self._ask("HEAD", key, headers=headers)
        if answer.status == 404:
            raise Missing
        return _succeeded(answer)

    def get(self, key: str, limit_bytes: int) -> Answer:
        """Read an object.

        Raises:
            Missing: the store says that there is no such key.
            TooLarge: the object is larger than `limit_bytes`.
        """
        answer = self._ask("GET", key, limit_bytes=limit_bytes)
        if answer.status == 404 and b"<Code>NoSuchKey</Code>" in answer.body:
            raise Missing
        return _succeeded(answer)

    def query(self, parameters: Mapping[str, str]) -> Answer:
        """Ask the bucket itself, such as for a listing."""
        return _succeeded(self._ask("GET", "", query=parameters))

    def close(self) -> None:
        """Close the unused connections."""
        with contextlib.suppress(IndexError):  # there is none
            while True:
                self._unused.pop()[1].close()

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
        handle = self._handle(method)
        received = _Received(limit_bytes)
        try:
            handle.setopt(self._pycurl.URL, self._url(key, query))
            lines = self._header_lines({"x-amz-content-sha256": sha256, **(headers or {})})
            handle.setopt(self._pycurl.HTTPHEADER, lines)
            if body is not None:
                handle.setopt(self._pycurl.POSTFIELDS, body)
            handle.setopt(self._pycurl.HEADERFUNCTION, received.lines.append)
            handle.setopt(self._pycurl.WRITEFUNCTION, received.write)
            handle.perform()
            answer = received.answer(int(handle.getinfo(self._pycurl.RESPONSE_CODE)))
            if body is not None:
                handle.setopt(self._pycurl.POSTFIELDS, b"")  # else the handle would keep the body
        except (self._pycurl.error, UnicodeError) as error:  # pycurl takes ASCII only, also for a host
            handle.close()
            logger.debug("libcurl: error %s", error.args[0])
            raise (TooLarge if error.args[0] == self._pycurl.E_WRITE_ERROR else Unexpected) from None
        except BaseException:
            handle.close()
            raise
        self._unused.append((method, handle))
        return answer

    def _handle(self, method: str) -> Curl:
        """Return a handle for requests with this method; it keeps its connection and its options between them."""
        try:
            before, handle = self._unused.pop()
        except IndexError:
            before, handle = "", self._pycurl.Curl()
        if before != method:
            handle.reset()
            self._prepare(handle, method)
        return handle

    def _prepare(self, handle: Curl, method: str) -> None:
        curl, credentials = self._pycurl, self.credentials
        options: dict[int, object] = {
            curl.HTTP_VERSION: curl.CURL_HTTP_VERSION_1_1,
            curl.PROXY: "",
            curl.NOSIGNAL: 1,
            curl.TCP_NODELAY: 1,
            curl.TIMEOUT_MS: self._milliseconds,
            curl.CONNECTTIMEOUT_MS: self._milliseconds,
            curl.USERAGENT: self._user_agent,
            curl.AWS_SIGV4: f"aws:amz:{self.address.region}:s3",
            curl.USERNAME: credentials.access_key_id,
            curl.PASSWORD: credentials.secret_access_key,
        }
        if method == "HEAD":
            options[curl.NOBODY] = 1
        elif method == "PUT":
            options |= {curl.POST: 1, curl.CUSTOMREQUEST: method}
        if self._ca_file is not None:
            options[curl.CAINFO] = os.fsencode(self._ca_file)
            # pycurl sets it where the system has only a folder of authorities; they would be trusted, too.
            handle.unsetopt(curl.CAPATH)
        for option, value in options.items():
            handle.setopt(option, value)

    def _url(self, key: str, query: Mapping[str, str] | None) -> str:
        address = self.address
        if query is None:
            return f"{address.scheme}://{address.host}{address.base}{quote(key, safe='/-_.~')}"
        return f"{address.url}?{urlencode(sorted(query.items()), quote_via=quote, safe='-_.~')}"

    def _header_lines(self, headers: dict[str, str]) -> list[str]:
        token = self.credentials.session_token
        if token is not None:
            headers["x-amz-security-token"] = token
        return ["Expect:", *(f"{name}: {value}" for name, value in headers.items())]


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

    def answer(self, status: int) -> Answer:
        """Return what was received, and let go of the body: the handle keeps this object until the next request."""
        found = Answer(status, _headers_of(self.lines), b"".join(self.pieces))
        self.pieces.clear()
        return found


def _succeeded(answer: Answer) -> Answer:
    """Return the answer. Unexpected: its status is not 200."""
    if answer.status != 200:
        logger.debug("libcurl: status %d", answer.status)
        raise Unexpected
    return answer


def _headers_of(lines: Sequence[bytes]) -> dict[str, str]:
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
