"""Decide which small requests go through obstore; the SDK sends the others.

After anything unexpected the SDK sends the same request. Unless that was a listing, it also sends those that follow,
until a write succeeds: this shows the bucket's address and region, and obstore is used again with them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import address as addresses
from .address import Address
from .credentials import Credentials, credentials_source
from .evidence import md5_of
from .guarded_requests import GuardedRequests
from .obstore_client import Endless, Missing, ObstoreClient, Unexpected
from .proxies import proxy_of

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .base import WholeBody

logger = logging.getLogger("cloud_archive.store")

# These AWS_* variables change no request here. obstore may take options from any other, so then the SDK is used.
HARMLESS_VARIABLES = frozenset(
    (
        "AWS_ACCESS_KEY_ID",
        "AWS_CA_BUNDLE",  # see `sdk_only_reason`; has no effect on plain HTTP
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_DEFAULT_PROFILE",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EXECUTION_ENV",
        "AWS_MAX_ATTEMPTS",
        "AWS_PAGER",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_RETRY_MODE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_SDK_LOAD_CONFIG",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    )
)
ALWAYS_BYTES = 256 * 1024  # up to this size the SDK reports no progress within a body either
FIRST_BYTES = 2 * 1024 * 1024  # the largest body until it is known how fast the line is
MAX_SECONDS = 5.0  # a body that takes longer goes through the SDK, which reports its progress
PACE_BYTES = 1024 * 1024  # smaller bodies say little about the line: most of the time is the request's own
MAX_FAILURES = 3  # after so many requests in a row that failed only here, the SDK sends everything
_ATTRIBUTES = {"ContentType": "Content-Type", "StorageClass": "Storage-Class"}
_SUPPORTED_PARAMETERS = frozenset(
    ("IfNoneMatch", "ChecksumSHA256", "Metadata", "ServerSideEncryption", *_ATTRIBUTES)
)


class FastPath:
    """Send small requests to the bucket of `settings` through obstore. Thread-safe.

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
        self._requests = GuardedRequests()
        self._client: ObstoreClient | None = None
        self._address = Address.of_settings(settings)
        # The AWS chain may take seconds, so its credentials come with the SDK's first write; see `learn`.
        self._credentials = credentials_source(settings) if settings.credentials == "env" else None
        self._trusted = True
        self._failures = 0
        self._failed_lists = 0  # in a row
        self._seconds_per_byte: float | None = None
        self._sdk_only_reason = sdk_only_reason(settings)

    @property
    def address(self) -> Address | None:
        """Where requests go; None if only the SDK can find it."""
        return self._address

    def client(self) -> ObstoreClient | None:
        """Return the client for the address and the credentials of now; None: the SDK must send the request."""
        if (
            self._sdk_only_reason is not None
            or not self._trusted
            or self._address is None
            or self._credentials is None
        ):
            return None
        try:
            credentials = self._credentials()
        except Exception:
            return None  # a role's credentials can't be renewed; the SDK finds the same, and its error is explained
        client = self._client
        if client is not None and client.credentials == credentials and client.address == self._address:
            return client
        with self._lock:
            try:
                self._client = self._make(self._address, credentials)
            except Exception as error:
                self.use_sdk_only(f"obstore can't be used ({type(error).__name__})")
                return None
            return self._client

    def put(self, key: str, body: WholeBody, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Write an object with boto3's parameters, and return its `ETag` as boto3 would; None: the SDK must write it.

        The result also holds `BodyMD5`, computed while the request was under way, because most ETags are this MD5.

        Raises:
            KeyTaken: the key is taken.
        """
        if (
            not self._sends_quickly(len(body))
            or not _SUPPORTED_PARAMETERS.issuperset(parameters)
            or not _is_plain(key)
        ):
            return None
        client = self.client()
        if client is None:
            return None
        attributes = dict(parameters.get("Metadata", {}))
        attributes |= {name: parameters[of] for of, name in _ATTRIBUTES.items() if of in parameters}
        digests: list[str] = []
        began = self._clock()
        try:
            etag = client.put(
                key,
                body,
                attributes=attributes,
                create_only="IfNoneMatch" in parameters,
                meanwhile=lambda: digests.append(md5_of(body)),
            )
        except (Unexpected, Missing) as error:
            self._suspend_after(error)
            self._note_pace(len(body), self._clock() - began, arrived=False)
            return None
        self._note_pace(len(body), self._clock() - began)
        self._failures = 0
        return {"ETag": etag, "BodyMD5": digests[0]}

    def head(self, key: str) -> dict[str, Any] | None:
        """Send a HEAD and return what boto3 would, without a checksum; None: the SDK must send it.

        Raises:
            Missing: there is no such object.
        """
        client = self.client() if _is_plain(key) else None
        if client is None:
            return None
        try:
            return client.head(key)
        except Unexpected as error:
            self._suspend_after(error)
            return None

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return the bytes of a small object; None: the SDK must read it.

        Raises:
            Missing: there is no such object.
        """
        client = self.client() if _is_plain(key) else None
        if client is None:
            return None
        try:
            return client.read(key, limit_bytes)
        except Unexpected as error:
            self._suspend_after(error)
            return None

    def list(self, folder: str) -> Iterator[Sequence[Mapping[str, Any]]] | None:
        """Return the objects in a folder, up to 1,000 at a time, with obstore's names for their facts.

        None: the SDK must list it. If the iterator raises `Unexpected`, the SDK must list it, too; then call
        `list_failed` once it has.
        """
        client = self.client() if self._failed_lists < MAX_FAILURES else None
        return None if client is None else self._pages(client, folder)

    def _pages(self, client: ObstoreClient, folder: str) -> Iterator[Sequence[Mapping[str, Any]]]:
        try:
            yield from client.list(folder)
        except Endless as error:
            self._suspend_after(error)
            raise
        # After any other error obstore stays in use: the credentials may lack the right to list.
        self._failed_lists = 0

    def list_failed(self) -> None:
        """Note that the SDK could list a folder that obstore could not.

        After `MAX_FAILURES` times in a row the SDK lists everything. Other requests still go through obstore.
        """
        self._failed_lists += 1

    def learn(self, address: Address, credentials: Callable[[], Credentials]) -> None:
        """Use obstore with the address and credentials with which the SDK has just sent a body.

        After `MAX_FAILURES` failures of obstore in a row, the SDK sends everything from now on.
        """
        with self._lock:
            self._address, self._credentials = address, credentials
            if self._failures >= MAX_FAILURES:
                self.use_sdk_only("obstore fails where the SDK does not")
            self._trusted = True

    def use_sdk_only(self, reason: str) -> None:
        """Let the SDK send everything from now on."""
        if self._sdk_only_reason is None:
            logger.info("Small uploads go through the SDK: %s", reason)
        self._sdk_only_reason = reason

    def suspend(self) -> None:
        """Use no obstore until `learn` is called."""
        self._trusted = False

    def close(self) -> None:
        self._client = None
        self._requests.close()

    def _make(self, address: Address, credentials: Credentials) -> ObstoreClient:
        # obstore always follows redirects. A request to another host goes to this proxy, which does not exist.
        options: dict[str, Any] = {
            "user_agent": self._user_agent,
            "proxy_url": "http://127.0.0.1:9",
            "proxy_excludes": urlsplit(address.url).hostname or "",
        }
        return ObstoreClient(
            address,
            credentials,
            encryption=self._settings.server_side_encryption,
            client_options=options,
            seconds=min(self._seconds, MAX_SECONDS),
            requests=self._requests,
        )

    def _sends_quickly(self, size_bytes: int) -> bool:
        """Return whether a body takes so little time that its progress need not be reported."""
        pace = self._seconds_per_byte
        if size_bytes <= ALWAYS_BYTES:
            return True
        return size_bytes <= FIRST_BYTES if pace is None else size_bytes * pace <= MAX_SECONDS

    def _note_pace(self, size_bytes: int, seconds: float, *, arrived: bool = True) -> None:
        """Learn how fast the line is: a slower pace counts at once, a faster one by a quarter if the body arrived."""
        new, old = seconds / max(size_bytes, PACE_BYTES), self._seconds_per_byte
        if not arrived and new <= (old or MAX_SECONDS / FIRST_BYTES):
            return
        self._seconds_per_byte = new if old is None or new > old else (3 * old + new) / 4

    def _suspend_after(self, error: Exception) -> None:
        """Use no obstore until `learn` is called; after an endless answer never again."""
        if isinstance(error, Endless):
            self.use_sdk_only("the store sends answers that do not end")
        with self._lock:
            if self._trusted:
                self._failures += 1
            self._trusted = False


def sdk_only_reason(settings: Settings) -> str | None:
    """Return why only the SDK can do what these settings ask for; None: obstore can, too."""
    endpoint = settings.endpoint_url
    is_tls = urlsplit(endpoint or "https://").scheme == "https"
    interfering = {name for name in os.environ if name.upper().startswith("AWS_")} - HARMLESS_VARIABLES
    reasons = {
        "requests go through a proxy": proxy_of(endpoint) is not None,
        "a CA file is set": is_tls and (settings.ca_bundle is not None or "AWS_CA_BUNDLE" in os.environ),
        "the bandwidth is limited": settings.max_bandwidth_bytes is not None,
        "the checksum is MD5": settings.checksum == "md5",
        "the encryption changes ETags": settings.server_side_encryption not in (None, "AES256"),
        "create-only writes need another header": addresses.forbid_overwrite_handler(endpoint) is not None,
        "variables of AWS are set": bool(interfering),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _is_plain(key: str) -> bool:
    """Return whether obstore sends this key unchanged or refuses it; it removes slashes at both ends."""
    return bool(key) and not key.startswith("/") and not key.endswith("/")
