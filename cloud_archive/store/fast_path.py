"""When small requests go past the SDK, and when the SDK has to send them.

They go past it where every promise of the SDK's way is kept; where that can't be, as behind a proxy, none does. After
anything unexpected the SDK sends the same request, and once it has succeeded, its request shows the bucket's address
and region, with which the next ones go past it again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import address as addresses
from .address import Address
from .client import certificate_authorities
from .direct_client import DirectClient, Endless, KeyTaken, Missing, Unexpected
from .evidence import md5_of
from .proxies import proxy_of
from .signature import Keys

if TYPE_CHECKING:
    from ..config.settings import Settings

logger = logging.getLogger("cloud_archive.store")

ALWAYS_BYTES = 256 * 1024  # a body of this size shows no progress by the SDK either
FIRST_BYTES = 2 * 1024 * 1024  # the largest body while the line's pace is not known
LONGEST_SECONDS = 5.0  # then the SDK sends the body, and shows its progress
PACE_BYTES = 1024 * 1024  # of smaller bodies the time is mostly the request's own
MOST_FAILURES = 3  # requests that failed and succeeded by the SDK, before everything is left to the SDK
_HEADERS = {
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentType": "content-type",
    "IfNoneMatch": "if-none-match",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
}


class FastPath:
    """Sends small requests to the bucket of `settings` past the SDK; safe to use from any thread.

    Args:
        user_agent: sent with each request.
        read_seconds: how long the SDK waits for an answer; here it is no longer than `LONGEST_SECONDS`.
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
        self._client: DirectClient | None = None
        self._address = Address.of_settings(settings)
        self._keys = _fixed_keys(settings)
        self._trusted = True
        self._failures = 0
        self._seconds_per_byte: float | None = None
        self._why_not = why_not(settings)

    @property
    def address(self) -> Address | None:
        """Where requests go; None where only the SDK knows."""
        return self._address

    def client(self) -> DirectClient | None:
        """Return what sends the requests; None where the SDK has to."""
        if self._why_not is not None or not self._trusted or self._address is None or self._keys is None:
            return None
        keys, address = self._keys(), self._address
        client = self._client
        if client is not None and client.is_for(address, keys):
            return client
        with self._lock:
            if self._client is not None and self._client.is_for(address, keys):
                return self._client  # another thread was first
            self._drop_client()
            try:
                self._client = self._make(address, keys)
            except Exception as error:
                self.give_up(f"no other client can be made ({type(error).__name__})")
                return None
            return self._client

    def put(
        self, key: str, body: bytes, sha256: str, parameters: Mapping[str, Any], *, with_md5: bool
    ) -> dict[str, Any] | None:
        """Write an object with boto3's parameters, and return what boto3 would; None: let the SDK do it.

        Args:
            sha256: of the body, hexadecimal.
            with_md5: the answer also holds `BodyMD5`, which is computed while it is waited for.

        Raises:
            KeyTaken: the key is taken.
        """
        headers = _headers(parameters) if self._takes(len(body)) else None
        client = None if headers is None or not key else self.client()
        if client is None or headers is None:
            return None
        digests: list[str] = []
        began = self._clock()
        try:
            answer = client.put(
                key,
                body,
                headers,
                sha256,
                meanwhile=lambda: digests.append(md5_of(body)) if with_md5 else None,
            )
        except (Unexpected, Missing) as error:
            self._hand_over(error)
            self._note_pace(len(body), self._clock() - began)
            return None
        self._note_pace(len(body), self._clock() - began)
        self._failures = 0
        return answer | ({"BodyMD5": digests[0]} if digests else {})

    def head(self, key: str, *, checksum: bool) -> dict[str, Any] | None:
        """Return what boto3 would to a HEAD; None: ask the SDK.

        Args:
            checksum: ask for the object's checksum.

        Raises:
            Missing: there is no such object.
        """
        client = self.client() if key else None
        if client is None:
            return None
        try:
            return client.head(key, checksum=checksum)
        except Unexpected as error:
            self._hand_over(error)
            return None

    def read(self, key: str, limit_bytes: int) -> tuple[dict[str, Any], bytes] | None:
        """Return what boto3 would to a GET of a small object, and its bytes; None: ask the SDK.

        Raises:
            Missing: there is no such object.
        """
        client = self.client() if key else None
        if client is None:
            return None
        try:
            return client.read(key, limit_bytes)
        except Unexpected as error:
            self._hand_over(error)
            return None

    def learn(self, address: Address, keys: Callable[[], Keys]) -> None:
        """Take over from the SDK, which has just written an object at this address."""
        with self._lock:
            self._address, self._keys = address, keys
            if self._failures >= MOST_FAILURES:
                self.give_up("others fail where the SDK's do not")
            self._trusted = True

    def give_up(self, why: str) -> None:
        """Let the SDK send everything from now on."""
        if self._why_not is None:
            logger.info("Small uploads go through the SDK: %s", why)
        self._why_not = why

    def forget(self) -> None:
        """Wait for the SDK to succeed, because the credentials have changed."""
        self._trusted = False

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            self._drop_client()

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _make(self, address: Address, keys: Keys) -> DirectClient:
        return DirectClient(
            address,
            keys,
            user_agent=self._user_agent,
            ca_file=certificate_authorities(self._settings) or os.environ.get("AWS_CA_BUNDLE"),
            seconds=min(self._seconds, LONGEST_SECONDS),
        )

    def _takes(self, size_bytes: int) -> bool:
        """Return whether a body of this size is sent too quickly for its progress to matter."""
        pace = self._seconds_per_byte
        if size_bytes <= ALWAYS_BYTES:
            return True
        return size_bytes <= FIRST_BYTES if pace is None else size_bytes * pace <= LONGEST_SECONDS

    def _note_pace(self, size_bytes: int, seconds: float) -> None:
        new, old = seconds / max(size_bytes, PACE_BYTES), self._seconds_per_byte
        self._seconds_per_byte = new if old is None or new > old else (3 * old + new) / 4

    def _hand_over(self, error: Exception) -> None:
        if isinstance(error, Endless):
            self.give_up("the store sends answers that do not end")
        with self._lock:
            self._failures += self._trusted
            self._trusted = False


def why_not(settings: Settings) -> str | None:
    """Return why only the SDK can keep the promises of these settings; None: it is not needed."""
    endpoint = settings.endpoint_url
    reasons = {
        "a proxy is between": proxy_of(endpoint) is not None,
        "the bandwidth is limited": settings.max_bandwidth_bytes is not None,
        "the checksum is MD5": settings.checksum == "md5",
        "the encryption changes ETags": settings.server_side_encryption not in (None, "AES256"),
        "create-only writes need another header": addresses.forbid_overwrite(endpoint) is not None,
    }
    return next((why for why, applies in reasons.items() if applies), None)


def _fixed_keys(settings: Settings) -> Callable[[], Keys] | None:
    """Return the keys that the settings name; None where the SDK has to find them."""
    secret, token = settings.secret_access_key, settings.session_token
    if settings.credentials != "env" or not settings.access_key_id or secret is None:
        return None
    keys = Keys(
        settings.access_key_id, secret.get_secret_value(), token.get_secret_value() if token else None
    )
    return lambda: keys


def _headers(parameters: Mapping[str, Any]) -> dict[str, str] | None:
    """Return boto3's parameters as headers; None where one is not known here."""
    headers: dict[str, str] = {}
    for parameter, value in parameters.items():
        if parameter == "Metadata":
            headers |= {f"x-amz-meta-{name.lower()}": text for name, text in value.items()}
        elif (name := _HEADERS.get(parameter)) is not None:
            headers[name] = value
        else:
            return None
    return headers


__all__ = ["FastPath", "KeyTaken", "why_not"]
