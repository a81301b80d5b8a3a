"""When small requests go through obstore, and when the SDK has to send them.

obstore is used where it keeps every promise of the SDK's way; where it can't, as behind a proxy or with a CA file, it
is never used. After anything unexpected the SDK sends the same request, and once it has succeeded, its request shows
the bucket's address and region, with which obstore is tried again.
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
from .evidence import md5_of
from .guarded_requests import GuardedRequests
from .obstore_client import Endless, Keys, KeyTaken, Missing, ObstoreClient, Unexpected
from .proxies import proxy_of

if TYPE_CHECKING:
    from ..config.settings import Settings

logger = logging.getLogger("cloud_archive.store")

# obstore takes options from all other variables of AWS, which with S3_CREDENTIALS=env must decide nothing.
HARMLESS_VARIABLES = frozenset(
    (
        "AWS_ACCESS_KEY_ID",
        "AWS_CA_BUNDLE",  # see `why_not`; nothing to plain HTTP
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
ALWAYS_BYTES = 256 * 1024  # a body of this size shows no progress by the SDK either
FIRST_BYTES = 2 * 1024 * 1024  # the largest body while the line's pace is not known
LONGEST_SECONDS = 5.0  # then the SDK sends the body, and shows its progress
PACE_BYTES = 1024 * 1024  # of smaller bodies the time is mostly the request's own
MOST_FAILURES = 3  # requests that obstore failed and the SDK did not, before obstore is given up
_ATTRIBUTES = {"ContentType": "Content-Type", "StorageClass": "Storage-Class"}
_CONFIGURED = frozenset(("IfNoneMatch", "ChecksumSHA256", "Metadata", "ServerSideEncryption", *_ATTRIBUTES))


class FastPath:
    """Sends small requests to the bucket of `settings` past the SDK; safe to use from any thread.

    Args:
        user_agent: sent with each request.
        read_seconds: how long the SDK waits for an answer; obstore waits no longer than `LONGEST_SECONDS`.
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
        self._keys = _fixed_keys(settings)
        self._trusted = True
        self._failures = 0
        self._failed_lists = 0  # in a row
        self._seconds_per_byte: float | None = None
        self._why_not = why_not(settings)

    @property
    def address(self) -> Address | None:
        """Where requests go; None where only the SDK knows."""
        return self._address

    def client(self) -> ObstoreClient | None:
        """Return what sends the requests; None where the SDK has to."""
        if self._why_not is not None or not self._trusted or self._address is None or self._keys is None:
            return None
        keys = self._keys()
        client = self._client
        if client is not None and client.keys == keys and client.address == self._address:
            return client
        with self._lock:
            try:
                self._client = self._make(self._address, keys)
            except Exception as error:
                self.give_up(f"obstore can't be used ({type(error).__name__})")
                return None
            return self._client

    def put(self, key: str, body: bytes, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Write an object with boto3's parameters, and return what boto3 would; None: let the SDK do it.

        The answer also holds `BodyMD5`, which was computed while it was waited for, because most ETags are that.

        Raises:
            KeyTaken: the key is taken.
        """
        if not self._takes(len(body)) or not _CONFIGURED.issuperset(parameters) or not _is_plain(key):
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
            self._hand_over(error)
            self._note_pace(len(body), self._clock() - began)
            return None
        self._note_pace(len(body), self._clock() - began)
        self._failures = 0
        return {"ETag": etag, "BodyMD5": digests[0]}

    def head(self, key: str) -> dict[str, Any] | None:
        """Return what boto3 would to a HEAD, but no checksum; None: ask the SDK.

        Raises:
            Missing: there is no such object.
        """
        client = self.client() if _is_plain(key) else None
        if client is None:
            return None
        try:
            return client.head(key)
        except Unexpected as error:
            self._hand_over(error)
            return None

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Return the bytes of a small object; None: ask the SDK.

        Raises:
            Missing: there is no such object.
        """
        client = self.client() if _is_plain(key) else None
        if client is None:
            return None
        try:
            return client.read(key, limit_bytes)
        except Unexpected as error:
            self._hand_over(error)
            return None

    def list(self, folder: str) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the objects in a folder, up to 1,000 at a time, with obstore's names for their facts.

        Raises:
            Unexpected: let the SDK list it, and note `list_failed` if it can.
        """
        client = self.client() if self._failed_lists < MOST_FAILURES else None
        if client is None:
            raise Unexpected
        try:
            yield from client.list(folder)
        except Endless as error:
            self._hand_over(error)
            raise
        self._failed_lists = 0

    def list_failed(self) -> None:
        """Note that the SDK could list what obstore could not; after some times the SDK lists everything.

        Other requests than listings still go through obstore: a key may lack the right to list.
        """
        self._failed_lists += 1

    def learn(self, address: Address, keys: Callable[[], Keys]) -> None:
        """Take over from the SDK, which has just written an object at this address."""
        with self._lock:
            self._address, self._keys = address, keys
            if self._failures >= MOST_FAILURES:
                self.give_up("obstore fails where the SDK does not")
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
        self._client = None
        self._requests.close()

    def _make(self, address: Address, keys: Keys) -> ObstoreClient:
        # obstore follows redirects and can't be told not to: what is for another host ends at a proxy that is none.
        options: dict[str, Any] = {
            "user_agent": self._user_agent,
            "proxy_url": "http://127.0.0.1:9",
            "proxy_excludes": urlsplit(address.url).hostname or "",
        }
        return ObstoreClient(
            address,
            keys,
            encryption=self._settings.server_side_encryption,
            client_options=options,
            seconds=min(self._seconds, LONGEST_SECONDS),
            requests=self._requests,
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
    """Return why obstore can't keep a promise of these settings; None: it can."""
    endpoint = settings.endpoint_url
    is_tls = urlsplit(endpoint or "https://").scheme == "https"
    interfering = {name for name in os.environ if name.upper().startswith("AWS_")} - HARMLESS_VARIABLES
    reasons = {
        "a proxy is between": proxy_of(endpoint) is not None,
        "a CA file is set": is_tls and (settings.ca_bundle is not None or "AWS_CA_BUNDLE" in os.environ),
        "the bandwidth is limited": settings.max_bandwidth_bytes is not None,
        "the checksum is MD5": settings.checksum == "md5",
        "the encryption changes ETags": settings.server_side_encryption not in (None, "AES256"),
        "create-only writes need another header": addresses.forbid_overwrite(endpoint) is not None,
        "variables of AWS are set": bool(interfering),
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


def _is_plain(key: str) -> bool:
    """Return whether obstore sends this very key; it takes slashes off at both ends."""
    return bool(key) and not key.startswith("/") and not key.endswith("/")


__all__ = ["FastPath", "KeyTaken", "why_not"]
