"""One watched directory with its ledger and workers, without an engine's threads: a test says when to try.

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
from cloud_archive.ledger.rows import Attempt, Claim, FileState, ProvenUpload
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
ATTEMPT_SECONDS = 30.0  # by which the ledger's clock is ahead after each attempt: nothing is held for longer
MOST_CLAIMS = 20


def no_trip(step: str, when: str) -> None:
    """Nothing happens."""


@contextmanager
def small_parts() -> Iterator[None]:
    """Multipart uploads from 5 MiB on, the smallest part that a store takes: less to send in each run."""
    before = content.SINGLE_PUT_BYTES, content.MIN_PART_BYTES
    content.SINGLE_PUT_BYTES = content.MIN_PART_BYTES = SMALL_PART_BYTES
    try:
        yield
    finally:
        content.SINGLE_PUT_BYTES, content.MIN_PART_BYTES = before


class TrippedLedger(Ledger):
    """A ledger that tells before and after each commit of the upload protocol."""

    def __init__(self, path: Path, *, clock: Callable[[], float], trip: Trip) -> None:
        super().__init__(path, clock=clock)
        self.trip = trip

    def record_attempts(self, attempts: Sequence[Attempt]) -> None:
        self.trip("attempt", "before")
        super().record_attempts(attempts)
        self.trip("attempt", "after")

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
    """Stores that share the connections of one client for each patience: making a client costs 100 ms."""

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
        """A store of its own, with what is known by now about what the bucket can do.

        Args:
            knowing: all of it, only what PUTs in one request do, or nothing.
            prefix: where a probe writes its own object; default: as the environment says.
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
        store._requests._sending = first._requests._sending  # where the client tells what it sent
        return store

    def warm(self, key: str) -> None:
        """Send a body by each client, after which they know the way past the SDK."""
        for store in self._first.values():
            sha256 = hashlib.sha256(b"warm").hexdigest()
            store.put(key, b"warm", sha256=sha256, content_type="text/plain", metadata={}, create_only=False)

    def close(self) -> None:
        for store in self._first.values():
            store.close()


class World:
    """See the module.

    Args:
        base: takes the files and the ledger; what a world that was killed left there is taken up.
        prefix: of the keys.
        store: where to.
        trip: told of each commit.
        side_by_side: parts are sent by the pool's threads, else one after another.
        workers: as many as the pool would have; small files are shared out among them, several at once.
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
            parts=parts if self._side_by_side else None,
            on_aborted=self.ledger.forget_abandoned,
        )

    def use(self, store: S3Store) -> None:
        """From now on through this store."""
        self._store = store
        self._pool.stop(5)
        self._pool = self._make_pool()

    def close(self) -> None:
        self._pool.stop(5)
        self.ledger.close()

    # -- one attempt --------------------------------------------------------------------------------------------

    def attempt(self) -> list[str]:
        """Look at the directory, then try once whatever is due. Returns what went wrong, in words."""
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
        """Abort what is noted as to be aborted."""
        self._pool.abort_abandoned()

    def heal(self, seconds: float = 30.0) -> bool:
        """Again and again until nothing is left to be done; whether that came in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.attempt()
            self.tidy()
            if self.at_rest:
                return True
        return False

    @property
    def at_rest(self) -> bool:
        """Nothing is left to be sent or aborted, as far as the ledger knows.

        A CreateMultipartUpload whose answer was lost stays noted for as long as it could still arrive.
        """
        named = [upload_id for _, upload_id in self.ledger.abandoned() if not upload_id.startswith(INTENT)]
        return not self.ledger.totals().open.files and not named

    def state_of(self, path: str) -> tuple[FileState | None, str]:
        """Where the present version of `path` is, and the cause where it failed."""
        row = self.ledger.find(stat_version(self.root, path))
        return (None, "") if row is None else (row.state, row.cause or "")

    def vanished(self) -> set[str]:
        """The paths that the ledger counts as gone."""
        return {row.version.path for row in self.ledger.rows(states=(FileState.VANISHED,), limit=1000)}
