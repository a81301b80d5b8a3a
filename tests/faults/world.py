"""One watched directory with its ledger and workers, without an engine's threads: the test starts each attempt.

The ledger, the store's client, the uploader and the worker that judges how an attempt ended are the real ones; the
store is a real one behind the fault proxy. Only what would cost time is left out: events, settling and pauses.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cloud_archive.archive.events import Event, UploadFailed
from cloud_archive.archive.workers import WorkerPool
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import LedgerError
from cloud_archive.files import stat_version
from cloud_archive.intake.walk import scan
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim, FileState, PlannedUpload, ProvenUpload
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.s3 import S3Store
from cloud_archive.upload import source as content
from cloud_archive.upload.abandoned import INTENT
from cloud_archive.upload.uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Mapping

Trip = Callable[[str, str], None]
"""Called with a commit's name and `before` or `after`."""

SMALL_PART_BYTES = 5 * content.MEBIBYTE  # the smallest that S3 allows
ATTEMPT_SECONDS = 30.0  # each attempt moves the ledger's clock on by this, longer than any hold
MOST_CLAIMS = 20


def no_trip(step: str, when: str) -> None:
    """No-op."""


@contextmanager
def small_parts() -> Iterator[None]:
    """Let multipart uploads begin at 5 MiB, the smallest part size of S3, so that cases send less."""
    before = content.SINGLE_PUT_BYTES, content.MIN_PART_BYTES
    content.SINGLE_PUT_BYTES = content.MIN_PART_BYTES = SMALL_PART_BYTES
    try:
        yield
    finally:
        content.SINGLE_PUT_BYTES, content.MIN_PART_BYTES = before


class TrippedLedger(Ledger):
    """A ledger that calls `trip` before and after each commit of the upload protocol."""

    def __init__(self, path: Path, *, clock: Callable[[], float], trip: Trip) -> None:
        super().__init__(path, clock=clock)
        self.trip = trip

    def record_attempts(self, attempts: Sequence[PlannedUpload]) -> set[str]:
        self.trip("attempt", "before")
        pruned = super().record_attempts(attempts)
        self.trip("attempt", "after")
        return pruned

    def record_multipart(self, claim: Claim, upload_id: str | None, part_size_bytes: int | None) -> None:
        name = "ended" if upload_id is None else "intent" if upload_id.startswith(INTENT) else "upload id"
        self.trip(name, "before")
        super().record_multipart(claim, upload_id, part_size_bytes)
        self.trip(name, "after")

    def abandon_multipart(self, claim: Claim, key: str, upload_id: str) -> None:
        self.trip("abandon", "before")
        super().abandon_multipart(claim, key, upload_id)
        self.trip("abandon", "after")

    def mark_all_archived(self, archived: Sequence[ProvenUpload]) -> None:
        self.trip("archived", "before")
        super().mark_all_archived(archived)
        self.trip("archived", "after")

    def unclaim(self, claims: Sequence[Claim]) -> None:
        if claims:
            self.trip("unclaim", "before")
        super().unclaim(claims)
        if claims:
            self.trip("unclaim", "after")

    def mark_failed(self, claim: Claim, *, code: str, cause: str, cure: str, next_try: float | None) -> None:
        self.trip("failed", "before")
        super().mark_failed(claim, code=code, cause=cause, cure=cure, next_try=next_try)
        self.trip("failed", "after")


Knowing = Literal["all", "puts", "nothing"]


class Stores:
    """Makes stores that share one client for each of two timeouts: making a client costs 100 ms.

    Args:
        patient, hasty: the two read timeouts, in seconds.
    """

    def __init__(self, environ: Mapping[str, str], *, patient: float = 20.0, hasty: float = 0.7) -> None:
        self._settings = load_settings(environ)
        self._first = {
            seconds: S3Store(self._settings, connect_seconds=5, read_seconds=seconds)
            for seconds in (patient, hasty)
        }
        self._patient, self._hasty = patient, hasty
        for store in self._first.values():
            store._requests.client()
        self.known: Capabilities | None = None

    def make(self, *, hasty: bool = False, knowing: Knowing = "all", prefix: str | None = None) -> S3Store:
        """Return a store of its own, with the known capabilities of the bucket.

        Args:
            knowing: `all` that is known, only what single `puts` do, or `nothing`.
            prefix: where a probe writes its own object; default: that of the environment.
        """
        seconds = self._hasty if hasty else self._patient
        known = None if knowing == "nothing" else self.known
        if known is not None and knowing == "puts":
            known = replace(known, create_only_multipart=CreateOnly.UNKNOWN)
        settings = self._settings if prefix is None else replace(self._settings, prefix=prefix)
        store = S3Store(settings, capabilities=known)
        first = self._first[seconds]
        store._requests._client_made = first._requests.client()
        store._requests.fast = first._requests.fast
        store._requests._sending = first._requests._sending  # where the client records what it sent
        return store

    def warm(self, key: str) -> None:
        """Send a body by each client, after which both can bypass the SDK."""
        for store in self._first.values():
            sha256 = hashlib.sha256(b"warm").hexdigest()
            store.put(key, b"warm", sha256=sha256, content_type="text/plain", metadata={}, create_only=False)

    def close(self) -> None:
        for store in self._first.values():
            store.close()


class World:
    """The directory with its ledger and workers: see the module.

    Args:
        base: takes the files and the ledger; continues those of a world that was killed.
        prefix: of all keys.
        store: takes the uploads.
        trip: called before and after each commit.
        side_by_side: upload parts in the pool's threads; else one after another.
        workers: the pool's number of workers, which decides how many small files one claim takes.
        rename: see `Uploader`.
    """

    def __init__(
        self,
        base: Path,
        prefix: str,
        store: S3Store,
        *,
        trip: Trip = no_trip,
        side_by_side: bool = False,
        workers: int = 2,
        rename: bool = True,
    ) -> None:
        self.root = base / "output"
        self.root.mkdir(parents=True, exist_ok=True)
        self.prefix = prefix
        self._ahead_seconds = 0.0
        self._side_by_side = side_by_side
        self._workers = workers
        self._rename = rename
        self._failures: list[str] = []  # in words
        self.ledger = TrippedLedger(base / "ledger.db", clock=self._clock, trip=trip)
        self.ledger.open()
        self.ledger.release_all(retry_failed=True)
        self._store = store
        self._pool = self._make_pool()

    def _clock(self) -> float:
        return time.time() + self._ahead_seconds

    def _make_pool(self) -> WorkerPool:
        return WorkerPool(
            self.ledger,
            self._make_uploader,
            self.root,
            count=self._workers,
            name="world",
            on_event=self._on_event,
        )

    def _on_event(self, event: Event) -> None:
        if isinstance(event, UploadFailed):
            self._failures.append(str(event.error))

    def _make_uploader(self, parts: Executor) -> Uploader:
        return Uploader(
            self._store,
            self.root,
            make_key=lambda path: f"{self.prefix}/{path}",
            session_id="world",
            rename=self._rename,
            part_executor=parts if self._side_by_side else None,
            on_aborted=self.ledger.forget_abandoned,
        )

    def use(self, store: S3Store) -> None:
        """Upload through this store from now on."""
        self._store = store
        self._pool.stop(5)
        self._pool = self._make_pool()

    def close(self) -> None:
        self._pool.stop(5)
        self.ledger.close()

    # -- one attempt --------------------------------------------------------------------------------------------

    def attempt(self) -> list[str]:
        """Scan the directory, then try everything that is due once. Returns what went wrong, in words."""
        self._ahead_seconds += ATTEMPT_SECONDS
        self._failures.clear()
        said: list[str] = []
        try:
            self.ledger.add(self.ledger.unknown(list(scan(self.root))))
            self.ledger.retry_failed()
            for _ in range(MOST_CLAIMS):
                claims = self._pool.claim("world", oldest=False)
                if not claims:
                    break
                if len(claims) == 1:
                    self._pool.upload(claims[0])
                else:
                    self._pool.upload_several(claims)
        except LedgerError as error:
            said.append(str(error))
        return self._failures + said

    def tidy(self) -> None:
        """Abort the multipart uploads that the ledger lists as abandoned."""
        self._pool.abort_abandoned()

    def heal(self, seconds: float = 30.0) -> bool:
        """Try again until nothing is left to do, at most `seconds`. Returns whether that was enough."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.attempt()
            self.tidy()
            if self.at_rest:
                return True
        return False

    @property
    def at_rest(self) -> bool:
        """Whether the ledger has nothing left to upload or abort.

        A CreateMultipartUpload whose answer was lost stays noted for as long as it could still arrive.
        """
        named = [upload_id for _, upload_id in self.ledger.abandoned() if not upload_id.startswith(INTENT)]
        return not self.ledger.totals().open.files and not named

    def state_of(self, path: str) -> tuple[FileState | None, str]:
        """Return the state of the present version of `path`, and the cause if it failed."""
        row = self.ledger.find(stat_version(self.root, path))
        return (None, "") if row is None else (row.state, row.cause or "")

    def vanished(self) -> set[str]:
        """Return the paths that the ledger counts as vanished."""
        return {row.version.path for row in self.ledger.rows(states=(FileState.VANISHED,), limit=1000)}
