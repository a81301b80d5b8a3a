"""Decide which small requests go through libcurl; the SDK sends the others.

After anything unexpected the SDK sends the same request. Unless that was a listing, it also sends those that follow,
until a write succeeds: this shows the bucket's address and region, and libcurl is used again with them.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import address as addresses
from .address import Address
from .client import certificate_authorities
from .credentials import Credentials, credentials_source
from .curl_answers import as_boto3, head_as_boto3, list_query, listing
from .curl_client import CurlClient, TooLarge, Unexpected
from .proxies import proxy_of

if TYPE_CHECKING:
    from ..config.settings import Settings

logger = logging.getLogger("cloud_archive.store")

ALWAYS_BYTES = 256 * 1024  # up to this size the SDK reports no progress within a body either
FIRST_BYTES = 2 * 1024 * 1024  # the largest body until it is known how fast the line is
MAX_SECONDS = 5.0  # a body that takes longer goes through the SDK, which reports its progress
PACE_BYTES = 1024 * 1024  # smaller bodies say little about the line: most of the time is the request's own
MAX_FAILURES = 3  # of libcurl in a row; then the SDK takes over for a while
SDK_SECONDS = 600.0  # the line may have failed, and not libcurl
# The headers of boto3's parameters: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
_HEADERS = {
    "ChecksumMode": "x-amz-checksum-mode",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "content-md5",
    "ContentType": "content-type",
    "IfNoneMatch": "if-none-match",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
}


class FastPath:
    """Send small requests to the bucket of `settings` through libcurl. Thread-safe.

    Args:
        read_seconds: how long to wait for an answer; shortened to `MAX_SECONDS`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        user_agent: str,
        read_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._user_agent = user_agent
        self._seconds = read_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._client: CurlClient | None = None
        self._address = Address.of_settings(settings)
        # The AWS chain may take seconds, so its credentials come with the SDK's first write; see `learn`.
        self._credentials = credentials_source(settings) if settings.credentials == "env" else None
        self._trusted = True
        self._failures = 0
        self._sdk_until = -math.inf
        self._failed_lists = 0  # in a row
        self._seconds_per_byte: float | None = None
        self._sdk_only = sdk_only_reason(settings) is not None

    @property
    def address(self) -> Address | None:
        """Where requests go; None if only the SDK can find it."""
        return self._address

    def client(self) -> CurlClient | None:
        """Return the client for the address and the credentials of now; None: the SDK must send the request."""
        if self._sdk_only or not self._trusted or self._address is None or self._credentials is None:
            return None
        if self._clock() < self._sdk_until:
            return None
        try:
            credentials = self._credentials()
        except Exception:
            return None  # a role's credentials can't be renewed; the SDK finds the same, and its error is explained
        client = self._client_for(self._address, credentials)
        if client is not None:
            return client
        with self._lock:
            client = self._client_for(self._address, credentials)  # that another thread has made
            if client is None:
                try:
                    client = self._client = self._make(self._address, credentials)
                except Exception as error:
                    self.use_sdk_only(f"libcurl can't be used ({type(error).__name__})")
            return client

    def _client_for(self, address: Address, credentials: Credentials) -> CurlClient | None:
        client = self._client
        is_for = client is not None and client.credentials == credentials and client.address == address
        return client if is_for else None

    def put(self, key: str, body: bytes, sha256: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Write an object with boto3's parameters, and return what boto3 would; None: the SDK must write it.

        Args:
            sha256: of `body`, hexadecimal.

        Raises:
            KeyTaken: the key is taken.
        """
        headers = _headers_of(parameters)
        if headers is None or not _stays_as_it_is(key) or not self._sends_quickly(len(body)):
            return None
        client = self.client()
        if client is None:
            return None
        began = self._clock()
        try:
            answer = as_boto3(client.put(key, body, sha256, headers))
        except Unexpected:
            self._suspend()
            self.note_pace(len(body), self._clock() - began, arrived=False)
            return None
        self.note_pace(len(body), self._clock() - began)
        self._failures = 0
        return answer

    def head(self, key: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send a HEAD with boto3's parameters, and return what boto3 would; None: the SDK must send it.

        Raises:
            Missing: there is no such object.
        """
        headers = _headers_of(parameters)
        if headers is None:
            return None
        return self._asked(key, lambda client: head_as_boto3(client.head(key, headers)))

    def read(self, key: str, limit_bytes: int) -> dict[str, Any] | None:
        """Read a small object, and return what boto3 would, with `Body` as bytes; None: the SDK must read it.

        Raises:
            Missing: there is no such object.
        """
        return self._asked(key, lambda client: as_boto3(client.get(key, limit_bytes)))

    def _asked(self, key: str, ask: Callable[[CurlClient], dict[str, Any]]) -> dict[str, Any] | None:
        client = self.client() if _stays_as_it_is(key) else None
        if client is None:
            return None
        try:
            return ask(client)
        except TooLarge:
            return None  # which is no failure
        except Unexpected:
            self._suspend()
            return None

    def list(self, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a page of ListObjectsV2 for boto3's parameters, as boto3 would; None: the SDK must ask for it.

        After `MAX_FAILURES` failures in a row the SDK asks for all pages, until `learn` is called. Other requests still
        go through libcurl: the credentials may lack the right to list.
        """
        client = self.client() if self._failed_lists < MAX_FAILURES else None
        if client is None:
            return None
        try:
            found = listing(client.query(list_query(parameters)))
        except Unexpected:
            self._failed_lists += 1
            return None
        self._failed_lists = 0
        return found

    def learn(self, address: Address, credentials: Callable[[], Credentials]) -> None:
        """Use libcurl with the address and credentials with which the SDK has just sent a body.

        After `MAX_FAILURES` failures of libcurl in a row, and after each further one, the SDK sends everything for
        `SDK_SECONDS`.
        """
        with self._lock:
            self._address, self._credentials = address, credentials
            if self._failures >= MAX_FAILURES and not self._trusted:
                self._sdk_until = self._clock() + SDK_SECONDS
                if self._failures == MAX_FAILURES:
                    logger.info(
                        "Small uploads go through the SDK for %.0f minutes: libcurl failed %d times, the SDK did not",
                        SDK_SECONDS / 60,
                        MAX_FAILURES,
                    )
            self._trusted = True
            self._failed_lists = 0

    def use_sdk_only(self, reason: str = "") -> None:
        """Let the SDK send everything from now on. Log the reason, if there is one."""
        if reason and not self._sdk_only:
            logger.info("Small uploads go through the SDK: %s", reason)
        self._sdk_only = True

    def suspend(self) -> None:
        """Use no libcurl until `learn` is called."""
        self._trusted = False

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _make(self, address: Address, credentials: Credentials) -> CurlClient:
        return CurlClient(
            address,
            credentials,
            user_agent=self._user_agent,
            seconds=min(self._seconds, MAX_SECONDS),
            ca_file=_ca_file(self._settings) if address.scheme == "https" else None,
        )

    def _sends_quickly(self, size_bytes: int) -> bool:
        """Return whether a body takes so little time that its progress need not be reported."""
        pace = self._seconds_per_byte
        if size_bytes <= ALWAYS_BYTES:
            return True
        return size_bytes <= FIRST_BYTES if pace is None else size_bytes * pace <= MAX_SECONDS

    def note_pace(self, size_bytes: int, seconds: float, *, arrived: bool = True) -> None:
        """Learn how fast the line is: a slower pace counts at once, a faster one by a quarter if the body arrived."""
        new, old = seconds / max(size_bytes, PACE_BYTES), self._seconds_per_byte
        if not arrived and new <= (old or MAX_SECONDS / FIRST_BYTES):
            return
        self._seconds_per_byte = new if old is None or new > old else (3 * old + new) / 4

    def _suspend(self) -> None:
        """Use no libcurl until `learn` is called, and count the failure."""
        with self._lock:
            if self._trusted:
                self._failures += 1
            self._trusted = False


def sdk_only_reason(settings: Settings) -> str | None:
    """Return why only the SDK can do what these settings ask for; None: libcurl can, too."""
    endpoint = settings.endpoint_url
    reasons = {
        "requests go through a proxy": proxy_of(endpoint) is not None,
        "the bandwidth is limited": settings.max_bandwidth_bytes is not None,
        "create-only writes need another header": addresses.forbid_overwrite_handler(endpoint) is not None,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _ca_file(settings: Settings) -> str:
    """Return the file of authorities that the SDK trusts: if the system has none, that of certifi, or its own."""
    if (found := certificate_authorities(settings)) is not None:
        return found
    spec = importlib.util.find_spec("certifi") or importlib.util.find_spec("botocore")  # imports nothing
    if spec is None or spec.origin is None:
        raise ImportError("botocore is missing")
    return str(Path(spec.origin).with_name("cacert.pem"))


def _stays_as_it_is(key: str) -> bool:
    """Return whether libcurl sends this key unchanged: it resolves dots as in a path."""
    return {".", ".."}.isdisjoint(key.split("/"))


def _headers_of(parameters: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the headers for boto3's parameters; None: there are others, or libcurl would change a value."""
    headers = {f"x-amz-meta-{name}": value for name, value in parameters.get("Metadata", {}).items()}
    for name, value in parameters.items():
        if name in _HEADERS:
            headers[_HEADERS[name]] = str(value)
        elif name != "Metadata":
            return None
    unchanged = all(value and value.strip() == value and value.isprintable() for value in headers.values())
    return headers if unchanged else None
