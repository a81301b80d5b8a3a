"""The connection check: does what the settings say work, and if not, what is to be done?

Steps run in the order in which a connection comes about. The first that fails says its cause and cure; what comes
after it is "not tried". Three or four small requests find out the rest, and leave one small object whose key is
the same at every check, so that no right to delete is needed.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ..errors import SettingsError, StoreError
from ..store.base import CreateOnly
from ..store.client import certificate_authorities
from ..store.evidence import head_if_allowed
from ..store.failures import BUCKET_CODES, CREDENTIAL_CODES, explain
from ..store.probe import PROBE_BODY, PROBE_METADATA, put_probe_object
from ..store.proxies import is_loopback, proxy_of
from ..store.s3 import S3Store
from ..store.translate import SKEW_SECONDS, translate

if TYPE_CHECKING:
    from ..config.settings import Settings

Found = TypeVar("Found")

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
NO_TLS = "Not used (http)."
NOTICE_SKEW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One step of the check.

    Attributes:
        name: one of `STEPS`.
        ok: None where the step was not tried, does not apply or its outcome is unknown.
        seconds: how long it took.
        cause: why it failed; of a step that went well, a remark, or empty.
        cure: what to do; with a step that went well it makes the remark a warning.
        said: what the store or the system itself said; never a secret.
    """

    name: str
    ok: bool | None
    seconds: float = 0.0
    cause: str = ""
    cure: str = ""
    said: str = ""

    def to_json(self) -> dict[str, str | float | bool | None]:
        """As `POST /cloud-sync/check` and `cloud-archive check --json` show it."""
        return {
            "name": self.name,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "cause": self.cause,
            "cure": self.cure,
            "said": self.said,
        }


class _Failed(Exception):
    """A step failed; `name` is that of the step that the failure belongs to, not always the one that met it."""

    def __init__(self, name: str, cause: str, cure: str, said: str = "") -> None:
        self.name, self.cause, self.cure, self.said = name, cause, cure, said
        super().__init__(cause)


def run_check(
    load: Callable[[], Settings], *, make_store: Callable[[Settings], S3Store] = S3Store
) -> list[CheckStep]:
    """Check everything between here and an object in the bucket.

    Args:
        load: gives the settings; may raise `SettingsError`.
        make_store: without anything remembered, so that what the store can do is found out anew.

    Returns:
        One entry for each of `STEPS`, in their order. Nothing is raised for what a store or a setting does.
    """
    check = _Check()
    try:
        settings = check.settings(load)
        check.way(settings)
        store = make_store(settings)
        try:
            check.store(settings, store)
        finally:
            store.close()
    except _Failed as failed:
        check.fail(failed)
    return check.steps()


def all_well(steps: list[CheckStep]) -> bool:
    """Whether nothing failed: the command's exit status 0."""
    return all(step.ok is not False for step in steps)


class _Check:
    """Collects the steps; a step that is not in `done` was not tried."""

    def __init__(self) -> None:
        self._done: dict[str, CheckStep] = {}
        self._seconds: dict[str, float] = {}

    def steps(self) -> list[CheckStep]:
        return [self._done.get(name) or CheckStep(name, None, cause=NOT_TRIED) for name in STEPS]

    def fail(self, failed: _Failed) -> None:
        self._note(failed.name, False, failed.cause, failed.cure, failed.said)

    def _note(self, name: str, ok: bool | None, cause: str = "", cure: str = "", said: str = "") -> None:
        self._done[name] = CheckStep(name, ok, self._seconds.get(name, 0.0), cause, cure, said)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        except StoreError as error:
            self._seconds[name] = time.monotonic() - begun
            raise self._attributed(error, name) from error
        finally:
            self._seconds[name] = time.monotonic() - begun

    def _attributed(self, error: StoreError, met_in: str) -> _Failed:
        """The failure under the step that it belongs to, unless that one went well before."""
        name = _step_of(error) or met_in
        done = self._done.get(name)
        name = met_in if done is not None and done.ok else name
        return _Failed(name, error.failure.cause, error.failure.cure, error.said)

    # --- without the store

    def settings(self, load: Callable[[], Settings]) -> Settings:
        try:
            with self._timed("settings"):
                settings = load()
        except SettingsError as error:
            cause = "; ".join(str(problem) for problem in error.problems)
            raise _Failed("settings", f"{cause}.", "Correct this and start again.") from error
        cause, cure = f"{settings.endpoint_label}, bucket {settings.bucket}.", ""
        if settings.endpoint_remark:
            cause += f" {settings.endpoint_remark}"
        parts = urlsplit(settings.endpoint_url or "https://aws")
        if parts.scheme == "http" and not is_loopback(settings.endpoint_url):
            cause += " The endpoint is plain http: whoever is on the way can read the files."
            cure = "Use https:// in S3_ENDPOINT_URL, if the store offers it."
        self._note("settings", True, cause, cure)
        return settings

    def way(self, settings: Settings) -> None:
        """Name, connection and TLS, each by itself, as far as no proxy stands in between."""
        parts = urlsplit(settings.endpoint_url or f"https://s3.{settings.region}.amazonaws.com")
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        proxy = proxy_of(f"{parts.scheme}://{parts.netloc}")
        if proxy is not None:
            self._note("name resolution", None, f"Left to the proxy {proxy}.")
            self._note("TLS", None, f"Goes through the proxy {proxy}." if parts.scheme == "https" else NO_TLS)
            return
        with self._timed("name resolution"):
            address = _system(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        self._note("name resolution", True, "" if address == host else f"{host} is {address}.")
        # A refused connection is no matter of TLS, though it is met here.
        with self._timed("connection"):
            plain = _system(lambda: socket.create_connection((host, port), timeout=CONNECT_SECONDS))
        with plain:
            if parts.scheme != "https":
                self._note("TLS", None, NO_TLS)
                return
            with self._timed("TLS"):
                version = _system(lambda: _handshake(settings, plain, host))
        self._note("TLS", True, f"{version}.")

    # --- with the store

    def store(self, settings: Settings, store: S3Store) -> None:
        allowed_to_list = self._look(store)
        self._note("connection", True)
        self._clock(store)
        if allowed_to_list:
            self._note("credentials", True)
            self._note("bucket", True)
        self._write(settings, store, allowed_to_list)
        self._create_only(settings, store)
        self._read_back(store)
        self._note("cleanup", True, f"Not needed: {store.probe_key} stays, and is written again each time.")

    def _look(self, store: S3Store) -> bool:
        """The first request; False where this key may not list, which tells nothing else."""
        begun = time.monotonic()
        try:
            # A listing, since the answer to a HEAD has no room for what is wrong.
            next(store.list(store.probe_key, limit=1), None)
        except StoreError as error:
            if _denied(error):
                return False
            step = _step_of(error)
            if error.status is not None and step != "connection":  # it answered, so it was reached
                self._note("connection", True)
                if step != "clock":
                    self._clock(store)
            raise self._attributed(error, "connection") from error
        finally:
            taken = time.monotonic() - begun
            self._seconds["connection"] = self._seconds.get("connection", 0.0) + taken
            self._seconds["bucket"] = taken
        return True

    def _clock(self, store: S3Store) -> None:
        offset = store.clock_offset_seconds
        if offset is None:
            self._note("clock", None, "The store tells no time.")
        elif abs(offset) > NOTICE_SKEW_SECONDS:
            direction = "behind" if offset > 0 else "ahead of"
            cause = f"This machine's clock is {abs(round(offset))} seconds {direction} the store's;"
            self._note(
                "clock", True, f"{cause} stores refuse more than {SKEW_SECONDS}.", "Set the clock (NTP)."
            )
        else:
            self._note("clock", True)

    def _write(self, settings: Settings, store: S3Store, allowed_to_list: bool) -> None:
        try:
            with self._timed("write"):
                result = put_probe_object(store)
        except _Failed as failed:
            if failed.name == "write" and not allowed_to_list:
                unknown = "The store does not tell whether it knows the key and the bucket."
                self._note("credentials", None, unknown)
                self._note("bucket", None, unknown)
            raise
        if not allowed_to_list:
            self._note("credentials", True)
            self._note("bucket", True, "This key may not list it; only verify, report and prune need that.")
        if store.region != settings.region:
            cause = f"The bucket is in the region {store.region}, not {settings.region}."
            self._note(
                "bucket", True, cause, f"Set S3_REGION={store.region}; until then requests are sent twice."
            )
        remarks = []
        if not result.proven:
            remarks.append("The store's answer proves nothing, so each upload is read back.")
        if store.capabilities.checksum == "md5" and settings.checksum == "auto":
            remarks.append("The store takes Content-MD5 and no SHA-256.")
        self._note("write", True, " ".join(remarks))

    def _create_only(self, settings: Settings, store: S3Store) -> None:
        with self._timed("create-only"):
            store.probe_create_only(
                store.probe_key, PROBE_BODY, content_type="text/plain", metadata=PROBE_METADATA
            )
        able = store.capabilities
        found = {able.create_only, able.create_only_multipart}
        if found == {CreateOnly.HONOURED}:
            self._note("create-only", True)
        elif CreateOnly.UNKNOWN in found:
            self._note("create-only", None, "It could not be found out; uploads look first.")
        elif able.can_head is False and settings.conflict_rename:
            raise _Failed(
                "create-only",
                "The store overwrites, and this key may not look first: an object of the same name would be lost.",
                "Allow s3:GetObject for this key, or keep names apart with {session_id} in S3_PREFIX.",
            )
        elif able.create_only_multipart is CreateOnly.HONOURED:
            self._note(
                "create-only",
                True,
                "The store refuses to overwrite only at the end of a multipart upload, so all files go that way.",
            )
        else:
            kind = "large files" if able.create_only is CreateOnly.HONOURED else "files"
            self._note(
                "create-only",
                True,
                f"The store cannot refuse to overwrite, so uploads of {kind} look first, and again two seconds later.",
                "Where several machines write the same names, put {session_id} into S3_PREFIX.",
            )

    def _read_back(self, store: S3Store) -> None:
        begun = time.monotonic()
        try:
            found = b"".join(store.read(store.probe_key, len(PROBE_BODY)))
        except StoreError as error:
            self._seconds["read back"] = time.monotonic() - begun
            if not _denied(error):
                raise self._attributed(error, "read back") from error
            self._note(
                "read back",
                None,
                "Not allowed; not needed. Only verify and restore need it.",
                said=error.said,
            )
            return
        self._seconds["read back"] = time.monotonic() - begun
        if found != PROBE_BODY:
            raise _Failed(
                "read back",
                "The store gives back other bytes than were written.",
                "Look for a cache or proxy in front of the store.",
            )
        self._note("read back", True, *self._lost_metadata(store))

    def _lost_metadata(self, store: S3Store) -> tuple[str, str]:
        """Return what is lost where the store drops metadata, and what to do; empty where it keeps it."""
        allowed, info = head_if_allowed(store, store.probe_key)
        lost = [name for name, value in PROBE_METADATA.items() if info and info.metadata.get(name) != value]
        if not allowed or not lost:
            return "", ""
        return (
            f"The store drops metadata ({', '.join(lost)}): `restore` cannot bring back the files' times and, where a"
            " key is not the file's path, their names; `verify` may have to read files back.",
            "Use a store or bucket that keeps x-amz-meta-* headers; look for a proxy that drops them.",
        )


def _step_of(error: StoreError) -> str | None:
    """The step that a failure belongs to: wrong keys, say, show only where something is asked for."""
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
    return "connection" if error.status is None or code == "NotS3" else None


def _denied(error: StoreError) -> bool:
    """Denied to this key, as far as can be told from the answer."""
    return error.status == 403 and error.failure.code in ("AccessDenied", "Forbidden", "403")


def _system(call: Callable[[], Found]) -> Found:
    """Make a call to the system; its errors are explained as those of requests are."""
    try:
        return call()
    except OSError as error:
        raise _explained(error) from error


def _explained(error: OSError) -> StoreError:
    told = translate(error, "Connect", None)
    if isinstance(error, TimeoutError):
        return StoreError("Connect", None, explain("ConnectTimeout"), said=told.said)
    if told.failure.code == "ConnectionClosed" and not isinstance(error, ConnectionResetError):
        refused = isinstance(error, ConnectionRefusedError)
        return StoreError(
            "Connect", None, explain("ConnectionRefused" if refused else "Unreachable"), said=told.said
        )
    return told


def _handshake(settings: Settings, plain: socket.socket, host: str) -> str:
    context = ssl.create_default_context(cafile=certificate_authorities(settings))
    with context.wrap_socket(plain, server_hostname=host) as secured:
        return secured.version() or "TLS"
