"""The few requests of small files past the SDK, at a tenth of what it costs.

Only a plain success, a key that is taken and a missing object are distinguished here. Everything else is
`Unexpected`: the SDK then sends the same request, because its errors name the cause.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from .address import Address
from .connections import Answer, AnswerTooLarge, Connections
from .signature import EMPTY_SHA256, Keys, Signer

logger = logging.getLogger("cloud_archive.store")

ANSWER_BYTES = 1024 * 1024  # the most that an answer about an object may have
_METADATA = "x-amz-meta-"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHOWN = {
    "etag": "ETag",
    "content-type": "ContentType",
    "x-amz-checksum-sha256": "ChecksumSHA256",
    "x-amz-checksum-type": "ChecksumType",
}


class Unexpected(Exception):
    """Anything but the answers that this module knows; nothing of its text may be shown."""


class Missing(Exception):
    """There is no such object."""


class Endless(Unexpected):
    """The answer was longer than any that the protocol has."""


class KeyTaken(Exception):
    """A create-only write was refused with 412, in the shape of botocore's `ClientError`."""

    response: Mapping[str, Any] = {
        "Error": {"Code": "PreconditionFailed", "Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": 412, "HTTPHeaders": {}},
    }


class DirectClient:
    """Sends requests to one bucket; safe to use from any thread. It follows no redirect.

    Args:
        address: of the bucket.
        keys: what signs the requests.
        user_agent: sent with each request.
        ca_file: the authorities to trust; None: the system's.
        seconds: until a request is given up.
        clock: seconds since 1970.

    Raises:
        OSError: the CA file can't be used.
    """

    def __init__(
        self,
        address: Address,
        keys: Keys,
        *,
        user_agent: str,
        ca_file: str | None,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address = address
        self._keys = keys
        self._clock = clock
        self._signer = Signer(keys, address.region)
        self._unsigned = f"user-agent: {user_agent}\r\n"
        parts = urlsplit(address.url)
        default_port = _DEFAULT_PORTS[address.scheme]
        name, port = parts.hostname or "", parts.port or default_port
        shown_name = f"[{name}]" if ":" in name else name
        self._host = shown_name if port == default_port else f"{shown_name}:{port}"
        tls = ssl.create_default_context(cafile=ca_file) if address.scheme == "https" else None
        self._connections = Connections(name, port, tls=tls, seconds=seconds)

    def is_for(self, address: Address, keys: Keys) -> bool:
        """Return whether it was made for these."""
        return self._keys == keys and self.address == address

    def put(
        self,
        key: str,
        body: bytes,
        headers: Mapping[str, str],
        sha256: str,
        *,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> dict[str, Any]:
        """Write an object and return what boto3 would.

        Args:
            headers: of the request, with names in lower case.
            sha256: of the body, hexadecimal.
            meanwhile: called in this thread while the request is under way.

        Raises:
            KeyTaken: the store answers 412 to a create-only write.
            Unexpected: see there; the object may have been written.
        """
        answer = self._ask("PUT", key, headers, body, sha256, meanwhile=meanwhile)
        if answer.status == 412 and "if-none-match" in headers:
            raise KeyTaken
        return _shown(_successful(answer))

    def head(self, key: str, *, checksum: bool) -> dict[str, Any]:
        """Return what an object's HEAD says, as boto3 would.

        Args:
            checksum: ask for the object's checksum.

        Raises:
            Missing: there is no such object, or no such bucket.
            Unexpected: see there.
        """
        asked = {"x-amz-checksum-mode": "ENABLED"} if checksum else {}
        answer = self._ask("HEAD", key, asked)
        if answer.status == 404:
            raise Missing
        return _shown(_successful(answer))

    def read(self, key: str, limit_bytes: int) -> tuple[dict[str, Any], bytes] | None:
        """Return what GET says of an object, and its bytes; None where they are more than the limit.

        Raises:
            Missing: the store says that there is no such key.
            Unexpected: see there.
        """
        try:
            answer = self._ask("GET", key, {}, limit_bytes=max(limit_bytes, ANSWER_BYTES))
        except Endless:
            return None
        if answer.status == 404 and b"<Code>NoSuchKey</Code>" in answer.body:  # the bucket exists
            raise Missing
        shown = _shown(_successful(answer))
        return (shown, answer.body) if len(answer.body) <= limit_bytes else None

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _ask(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        sha256: str = EMPTY_SHA256,
        *,
        limit_bytes: int = ANSWER_BYTES,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Answer:
        path = self.address.base + quote(key, safe="/-_.~")
        signed = self._signer.sign(method, path, {"host": self._host, **headers}, sha256, self._clock())
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        length = f"content-length: {len(body)}\r\n" if method == "PUT" else ""
        head = f"{method} {path} HTTP/1.1\r\n{lines}{length}{self._unsigned}\r\n"
        if head.count("\r") != head.count("\n") or head.count("\n") != len(signed) + (3 if length else 2) + 1:
            raise Unexpected  # a value holds a line break
        try:
            return self._connections.exchange(
                head.encode("ascii"),
                body,
                limit_bytes=limit_bytes,
                has_body=method != "HEAD",
                meanwhile=meanwhile,
            )
        except AnswerTooLarge:
            raise Endless from None
        except Exception as error:
            logger.debug("No answer past the SDK: %s", type(error).__name__)
            raise Unexpected from None


def _successful(answer: Answer) -> Answer:
    """Return the answer if it is a success.

    Raises:
        Unexpected: it is not, or it has no ETag, which every answer of S3 about an object has.
    """
    if answer.status != 200 or not answer.headers.get("etag"):
        logger.debug("An answer past the SDK: status %d", answer.status)
        raise Unexpected
    return answer


def _shown(answer: Answer) -> dict[str, Any]:
    """Return what an answer says about an object, as boto3 would.

    Raises:
        Unexpected: a header of it can't be read.
    """
    headers = answer.headers
    shown: dict[str, Any] = {name: headers[of] for of, name in _SHOWN.items() if of in headers}
    try:
        if "content-length" in headers:
            shown["ContentLength"] = int(headers["content-length"])
        if "last-modified" in headers:
            shown["LastModified"] = parsedate_to_datetime(headers["last-modified"])
    except (TypeError, ValueError):
        raise Unexpected from None
    start = len(_METADATA)
    shown["Metadata"] = {name[start:]: value for name, value in headers.items() if name.startswith(_METADATA)}
    shown["ResponseMetadata"] = {"HTTPStatusCode": answer.status, "HTTPHeaders": headers}
    return shown
