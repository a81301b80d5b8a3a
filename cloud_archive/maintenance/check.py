"""Check the connection: do the settings work, and if not, what should the user do?

The first step that fails has a cause and a cure; those that would follow are "not tried". The check sends a HEAD and a
listing, because a refused HEAD does not say why. Then it sends the requests of uploads and a GET. They write one small
object, always at the same key, so the check needs no right to delete.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import SettingsError, StoreError
from ..redaction import redact
from ..store.address import Address, aws_endpoint
from ..store.base import CreateOnly
from ..store.evidence import head_if_allowed
from ..store.failures import BUCKET_CODES, CREDENTIAL_CODES, RUN_CHECK, is_denied
from ..store.probe import PROBE_BODY, PROBE_METADATA, put_probe_object
from ..store.proxies import is_loopback, proxy_of
from ..store.s3 import S3Store
from ..store.translate import SKEW_SECONDS
from ..text import end_sentence
from .check_network import call_system, connect_tls
from .host_lookup import resolve

if TYPE_CHECKING:
    from ..config.settings import Settings

STEPS = (
    "settings",
    "name resolution",
    "TLS",
    "connection",
    "clock",
    "credentials",
    "bucket",
    "write",
    "create-only",
    "read back",
    "cleanup",
)
CONNECT_SECONDS = 10
NOT_TRIED = "Not tried."
NOT_TRIED_CURE = "First cure the step that failed."
NO_TLS = "Not used (http)."
WARN_SKEW_SECONDS = 60
MAY_NOT_LIST = (
    "This access key may not list the bucket; restore, prune, report --bucket, unshare and reading the catalog need"
    " s3:ListBucket."
)
CUT_OFF_CURE = (
    "Check S3_ENDPOINT_URL: https:// or http://, host and port. A proxy or firewall may also cut connections."
)
MAY_NOT_READ = (
    "This access key may not read objects; restore, verify, free, share and the catalog need s3:GetObject."
)


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One step of the check.

    Attributes:
        name: one of `STEPS`.
        ok: True also if the step does not apply; None if it was not tried, or its outcome is unknown.
        cause: why it failed; if it did not fail, a remark or empty.
        cure: what to do; if a step that succeeded has a cure, its remark is a warning.
        message: the message of the store or the system, without secrets.
    """

    name: str
    ok: bool | None
    seconds: float = 0.0
    cause: str = ""
    cure: str = ""
    message: str = ""

    def to_json(self) -> dict[str, str | float | bool | None]:
        return {
            "name": self.name,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "cause": self.cause,
            "cure": self.cure,
            "said": self.message,
        }


class StepFailed(Exception):
    """A step failed. `name` is the step that the failure belongs to, which may not be the current one."""

    def __init__(self, name: str, cause: str, cure: str, message: str = "") -> None:
        self.name, self.cause, self.cure, self.message = name, cause, cure, message
        super().__init__(cause)


def run_check(
    load: Callable[[], Settings], *, make_store: Callable[[Settings], S3Store] = S3Store
) -> list[CheckStep]:
    """Check settings, network and store, and return one entry for each of `STEPS`, in order.

    Args:
        load: returns the settings; a `SettingsError` is a failed step.
        make_store: returns a store without known capabilities.
    """
    check = _Check()
    try:
        settings = check.check_settings(load)
        check.check_network(settings)
        store = make_store(settings)
        store.use_sdk_only()
        try:
            check.check_store(settings, store)
        finally:
            store.close()
    except StepFailed as failed:
        check.fail(failed)
    return check.steps()


def has_no_failure(steps: list[CheckStep]) -> bool:
    return all(step.ok is not False for step in steps)


class _Check:
    def __init__(self) -> None:
        self._done: dict[str, CheckStep] = {}
        self._seconds: dict[str, float] = {}

    def steps(self) -> list[CheckStep]:
        return [
            self._done.get(name) or CheckStep(name, None, cause=NOT_TRIED, cure=NOT_TRIED_CURE)
            for name in STEPS
        ]

    def fail(self, failed: StepFailed) -> None:
        self._record(failed.name, False, failed.cause, failed.cure, failed.message)

    def _record(self, name: str, ok: bool | None, cause: str = "", cure: str = "", message: str = "") -> None:
        self._done[name] = CheckStep(name, ok, self._seconds.get(name, 0.0), cause, cure, message)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        except StoreError as error:
            self._seconds[name] = time.monotonic() - begun
            raise self._assign_to_step(error, name) from error
        finally:
            self._seconds[name] = time.monotonic() - begun

    def _assign_to_step(self, error: StoreError, current: str) -> StepFailed:
        """Return the error as the failure of its own step; of the current one if its own has succeeded."""
        name = _find_step(error) or current
        done = self._done.get(name)
        name = current if done is not None and done.ok else name
        cure = error.failure.cure
        if error.failure.code == "ConnectionClosed" and name in ("connection", "TLS"):
            cure = CUT_OFF_CURE
        if cure == RUN_CHECK:
            cure = "Ask the store's provider what this answer means."
        elif not cure:
            cure = "Check again; if it fails again, look into the store's log or ask its provider."
        return StepFailed(name, error.failure.cause, cure, error.store_message)

    # --- without the store

    def check_settings(self, load: Callable[[], Settings]) -> Settings:
        try:
            with self._timed("settings"):
                settings = load()
        except SettingsError as error:
            sentences = " ".join(map(end_sentence, error.sentences))
            raise StepFailed("settings", sentences, "Correct this and start again.") from error
        shown = settings.shown
        cause, cure = f"{shown(settings.endpoint_label)}, bucket {shown(settings.bucket)}.", ""
        if settings.endpoint_remark:
            cause += f" {settings.endpoint_remark}"
        parts = urlsplit(settings.endpoint_url or "https://aws")
        if parts.scheme == "http" and not is_loopback(settings.endpoint_url):
            cause += " The endpoint is plain http, so others on the network can read the files."
            cure = "Use https:// in S3_ENDPOINT_URL, if the store offers it."
        self._record("settings", True, cause, " ".join([cure, *settings.misspelt]).strip())
        return settings

    def check_network(self, settings: Settings) -> None:
        """Check name, connection and TLS one after the other; none of them behind a proxy."""
        address = Address.of_settings(settings)
        url = settings.endpoint_url or aws_endpoint(settings.region) if address is None else address.url
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        proxy = proxy_of(f"{parts.scheme}://{parts.netloc}")
        if proxy is not None:
            self._record("name resolution", True, f"Left to the proxy {proxy}.")
            self._record(
                "TLS", True, f"Goes through the proxy {proxy}." if parts.scheme == "https" else NO_TLS
            )
            return
        with self._timed("name resolution"):
            found = call_system(lambda: resolve(host, port))
        shown = redact(host, settings.secrets())
        self._record("name resolution", True, "" if found == host else f"{shown} is {found}.")
        # A refused connection belongs to the step "connection", not to "TLS".
        with self._timed("connection"):
            plain = call_system(lambda: socket.create_connection((host, port), timeout=CONNECT_SECONDS))
        with plain:
            if parts.scheme != "https":
                self._record("TLS", True, NO_TLS)
                return
            with self._timed("TLS"):
                version = call_system(lambda: connect_tls(settings, plain, host))
        self._record("TLS", True, f"{version}.")

    # --- with the store

    def check_store(self, settings: Settings, store: S3Store) -> None:
        allowed_to_list = self._ask_first(store)
        self._record("connection", True)
        self._check_clock(store)
        if allowed_to_list:
            self._record("credentials", True)
            self._record("bucket", True)
        self._check_write(settings, store, allowed_to_list)
        self._check_create_only(settings, store)
        self._check_read_back(settings, store)
        self._record("cleanup", True, f"Not needed: {store.probe_key} stays, and is written again each time.")

    def _ask_first(self, store: S3Store) -> bool:
        """Send the first requests. Return False if the store denies the listing; the credentials may be valid."""
        begun = time.monotonic()
        try:
            head_if_allowed(store, store.probe_key)
            next(store.list(store.probe_key, limit=1), None)
        except StoreError as error:
            step = _find_step(error)
            if step is None and is_denied(error):
                return False
            # If the store answered, the connection works.
            if error.status is not None and step != "connection":
                self._record("connection", True)
                if step != "clock":
                    self._check_clock(store)
            raise self._assign_to_step(error, "connection") from error
        finally:
            taken = time.monotonic() - begun
            self._seconds["connection"] = self._seconds.get("connection", 0.0) + taken
            self._seconds["bucket"] = taken
        return True

    def _check_clock(self, store: S3Store) -> None:
        offset = store.clock_offset_seconds
        if offset is None:
            self._record("clock", None, "The store's answers have no time.")
        elif abs(offset) > WARN_SKEW_SECONDS:
            direction = "behind" if offset > 0 else "ahead of"
            cause = f"This machine's clock is {abs(round(offset))} seconds {direction} the store's;"
            self._record(
                "clock", True, f"{cause} stores refuse more than {SKEW_SECONDS}.", "Set the clock (NTP)."
            )
        else:
            self._record("clock", True)

    def _check_write(self, settings: Settings, store: S3Store, allowed_to_list: bool) -> None:
        try:
            with self._timed("write"):
                result = put_probe_object(store)
        except StepFailed as failed:
            if failed.name == "write" and not allowed_to_list:
                unknown = "The store does not say whether the key and the bucket exist."
                self._record("credentials", None, unknown)
                self._record("bucket", None, unknown)
            raise
        cause, cure = ("", "") if allowed_to_list else (MAY_NOT_LIST, "")
        if store.region != settings.region:
            cause = f"The bucket is in the region {store.region}, not {settings.region}. {cause}".strip()
            cure = f"Set S3_REGION={store.region}; until then requests are sent twice."
        self._record("credentials", True)
        self._record("bucket", True, cause, cure)
        remarks = []
        if not result.proven:
            remarks.append("The store's answer doesn't prove the bytes, so each upload is read back.")
        if store.capabilities.checksum == "md5" and settings.checksum == "auto":
            remarks.append("The store accepts Content-MD5, but no SHA-256.")
        self._record("write", True, " ".join(remarks))

    def _check_create_only(self, settings: Settings, store: S3Store) -> None:
        with self._timed("create-only"):
            store.probe_create_only(
                store.probe_key, PROBE_BODY, content_type="text/plain", metadata=PROBE_METADATA
            )
        capabilities, apart = store.capabilities, "{session_id}" in settings.prefix
        results = {capabilities.create_only, capabilities.create_only_multipart}
        if results == {CreateOnly.HONOURED}:
            self._record("create-only", True)
        elif not settings.conflict_rename:
            self._record(
                "create-only", True, "Not used: S3_ENABLE_CONFLICT_RENAME is off, so uploads replace objects."
            )
        elif CreateOnly.UNKNOWN in results:
            self._record(
                "create-only", None, "The test gave no clear answer; uploads check with a HEAD first."
            )
        elif capabilities.create_only_multipart is CreateOnly.HONOURED:
            looks_again = (
                "" if capabilities.can_head is False else ", and are checked again two seconds later"
            )
            self._record(
                "create-only",
                True,
                "The store refuses to overwrite only at the end of a multipart upload, so all files go that"
                f" way{looks_again}.",
            )
        elif capabilities.can_head is False:
            raise StepFailed(
                "create-only",
                "The store overwrites objects, and these credentials may not check for them first, so an object of"
                " the same name would be lost.",
                "Allow s3:GetObject for them.",
            )
        else:
            kind = "large files" if capabilities.create_only is CreateOnly.HONOURED else "files"
            self._record(
                "create-only",
                True,
                f"The store can't refuse to overwrite {kind}, so their uploads check with a HEAD first, and again"
                " two seconds later.",
                ""
                if apart
                else "Where several machines write the same names, put {session_id} into S3_PREFIX.",
            )

    def _check_read_back(self, settings: Settings, store: S3Store) -> None:
        begun = time.monotonic()
        try:
            body = b"".join(store.read(store.probe_key, len(PROBE_BODY)))
        except StoreError as error:
            self._seconds["read back"] = time.monotonic() - begun
            if _find_step(error) is not None or not is_denied(error):
                raise self._assign_to_step(error, "read back") from error
            self._record("read back", None, MAY_NOT_READ, message=error.store_message)
            return
        self._seconds["read back"] = time.monotonic() - begun
        if body != PROBE_BODY:
            raise StepFailed(
                "read back",
                "The store returned other bytes than were written.",
                "Look for a cache or proxy in front of the store.",
            )
        self._record("read back", True, *_find_lost(settings, store))


def _find_lost(settings: Settings, store: S3Store) -> tuple[str, str]:
    """Return what the store ignored of the object's headers, and what to do; empty if it kept all."""
    allowed, info = head_if_allowed(store, store.probe_key)
    if not allowed or info is None:
        return "", ""
    encryption = settings.server_side_encryption
    if encryption is not None and info.encryption is None:
        return (
            f"The store accepts S3_SERVER_SIDE_ENCRYPTION={encryption}, but does not say that it encrypts.",
            "Find out from its provider whether it encrypts objects; the setting may have no effect.",
        )
    lost = [name for name, value in PROBE_METADATA.items() if info.metadata.get(name) != value]
    if not lost:
        return "", ""
    return (
        f"The store drops metadata ({', '.join(lost)}). So `restore` can't restore the files' times, nor their"
        " names if a key is not the file's path, and `verify` may have to read files back.",
        "Use a store or bucket that keeps x-amz-meta-* headers; look for a proxy that drops them.",
    )


def _find_step(error: StoreError) -> str | None:
    """Return the step that a failure belongs to; None = the current one."""
    code = error.failure.code
    if code == "RequestTimeTooSkewed":
        return "clock"
    if code in CREDENTIAL_CODES or error.status == 401:
        return "credentials"
    if code in BUCKET_CODES or (error.status in (301, 307) and code != "NotS3"):
        return "bucket"
    if code == "NameNotResolved":
        return "name resolution"
    if code == "TLS":
        return "TLS"
    if code == "ConnectionClosed":
        return None
    return "connection" if error.status is None or code == "NotS3" else None
