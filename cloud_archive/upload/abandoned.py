"""Note multipart uploads before they exist, abort those that won't be completed, and probe create-only writes."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, wait
from contextlib import contextmanager

from ..errors import StoreError
from ..store.base import OVERWRITES, CreateOnly, ObjectStore
from ..store.failures import is_refused_for_good
from ..store.probe import CLOCK_SKEW_SECONDS, abort_unnamed
from .outcome import Journal
from .source import Content

logger = logging.getLogger("cloud_archive.upload")

# Before a CreateMultipartUpload request, this and the store's time are noted in place of the upload id.
INTENT = "?"
CREATE_SECONDS = 70.0  # the longest that this request may take: the store's connect and read timeouts
MULTIPART_TRIES = 3  # after so many probes, `probe_multipart` and `probe_beside_parts` make no more


class AbandonedUploads:
    """Abort multipart uploads of ours; see `Uploader` for `on_aborted`."""

    def __init__(self, store: ObjectStore, on_aborted: Callable[[str, str], None]) -> None:
        self._store = store
        self.on_aborted = on_aborted
        self._in_use: Counter[str] = Counter()  # keys of uploads that are under way in this process
        self._in_use_lock = threading.Lock()

    def abort_unless_in_use(self, key: str, upload_id: str) -> None:
        """Abort an upload that an earlier attempt noted, unless this process is uploading to its key."""
        with self._in_use_lock:
            if self._in_use[key]:
                return
        self.abort(key, upload_id)

    def abort(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload of ours, or give up if the store refuses that for good.

        After any other failure, and while a request without an answer may still begin it, the upload stays noted.
        """
        over = True
        try:
            if upload_id.startswith(INTENT):
                over = self._abort_unnamed(key, float(upload_id.removeprefix(INTENT)))
            else:
                self._store.abort_multipart(key, upload_id)
        except StoreError as error:
            if error.failure.transient or not is_refused_for_good(error):
                logger.info("The unfinished upload of %s will be aborted later: %s", key, error)
                return
            logger.warning("The unfinished upload of %s could not be aborted: %s", key, error)
        if over:
            self.on_aborted(key, upload_id)

    def _abort_unnamed(self, key: str, asked_at: float) -> bool:
        """Abort the upload that a CreateMultipartUpload request began, whose answer with the upload id was lost.

        This is an upload to the same key that has no parts and was begun while the request may have run. If it is
        another archiver's after all, that archiver's next request for it fails, and it begins again.

        Return whether the search is over: an upload was aborted, or the request can no longer begin one.
        """
        earliest = asked_at - CLOCK_SKEW_SECONDS
        latest = asked_at + CREATE_SECONDS + CLOCK_SKEW_SECONDS
        is_past = self.store_time() > latest  # before the listing
        return abort_unnamed(self._store, key, earliest, latest) or is_past

    def store_time(self) -> float:
        """Return seconds since 1970 by the store's clock; by ours until that is known."""
        return time.time() + (self._store.clock_offset_seconds or 0.0)

    def intent(self) -> str:
        """Return the note to make before a CreateMultipartUpload request; see `INTENT`."""
        return f"{INTENT}{self.store_time()}"

    @contextmanager
    def in_use(self, key: str) -> Iterator[None]:
        """Keep `abort_unless_in_use` from aborting uploads to `key` during the block."""
        with self._in_use_lock:
            self._in_use[key] += 1
        try:
            yield
        finally:
            with self._in_use_lock:
                self._in_use[key] -= 1
                if not self._in_use[key]:
                    del self._in_use[key]


class ProbeJournal:
    """Note that a probe's multipart upload must be aborted; see `store.base.ProbeNotes`."""

    def __init__(self, uploads: AbandonedUploads, journal: Journal, key: str) -> None:
        self._uploads = uploads
        self._journal = journal
        self._key = key
        self._noted = ""

    def beginning(self) -> None:
        self._noted = self._uploads.intent()
        self._journal.abandon(self._key, self._noted)

    def begun(self, upload_id: str) -> None:
        before, self._noted = self._noted, upload_id
        self._journal.abandon(self._key, upload_id)
        self._uploads.on_aborted(self._key, before)

    def ended(self) -> None:
        self._uploads.on_aborted(self._key, self._noted)


class StoreProbes:
    """Probe, once for all workers, whether the store honours create-only writes."""

    def __init__(self, store: ObjectStore, uploads: AbandonedUploads) -> None:
        self._store = store
        self._uploads = uploads
        self._lock = threading.Lock()
        self._put_is_probed = False
        self._own_object_probes = 0

    def probe_with(
        self, key: str, content: Content, metadata: Mapping[str, str], media_type: str, journal: Journal
    ) -> None:
        """Probe PutObject and HEAD, once, with an object that was just written.

        Does nothing if both answers are known, if a worker is probing or has done so, or if the file is not in memory.
        """
        if content.body is None or self._is_put_known():
            return
        if not self._lock.acquire(blocking=False):
            return  # until the answer is known, a HEAD precedes each PUT
        try:
            if self._put_is_probed or self._is_put_known():
                return
            self._put_is_probed = True
            with self._uploads.in_use(key):
                self._store.probe_create_only(
                    key,
                    content.body,
                    content_type=media_type,
                    metadata=metadata,
                    notes=ProbeJournal(self._uploads, journal, key),
                    in_parts=False,
                )
        finally:
            self._lock.release()

    def _is_put_known(self) -> bool:
        known = self._store.capabilities
        return known.create_only is not CreateOnly.UNKNOWN and known.can_head is not None

    def wait_for_end(self, timeout_seconds: float) -> None:
        """Wait for the probe that is under way, if any, but no longer than this."""
        if self._lock.acquire(timeout=max(0.0, timeout_seconds)):
            self._lock.release()

    def probe_multipart(self, journal: Journal) -> None:
        """Probe whether completing a multipart upload is create-only, if PutObject is not."""
        if self._store.capabilities.create_only in OVERWRITES and self._multipart_is_unknown():
            self._probe_if(self._multipart_is_unknown, journal)

    @contextmanager
    def probe_beside_parts(self, journal: Journal, executor: Executor | None) -> Iterator[None]:
        """Probe what `probe_multipart` does, if PutObject is create-only, while the block sends a file in parts.

        Without `executor`, which sends parts in parallel, the probe follows the block.
        """
        # Not earlier, because an archive without large files needs no answer.
        probe = None
        if executor is not None and self._is_multipart_probe_due():
            probe = executor.submit(self._probe_if, self._is_multipart_probe_due, journal)
        try:
            yield
        finally:
            if probe is not None:
                wait([probe])
        if probe is None:
            self._probe_if(self._is_multipart_probe_due, journal)
        elif not probe.cancelled():
            probe.result()

    def _is_multipart_probe_due(self) -> bool:
        return self._store.capabilities.create_only is CreateOnly.HONOURED and self._multipart_is_unknown()

    def _multipart_is_unknown(self) -> bool:
        unknown = self._store.capabilities.create_only_multipart is CreateOnly.UNKNOWN
        return unknown and self._own_object_probes < MULTIPART_TRIES

    def probe_with_own_object(self, supports: Callable[[], CreateOnly], journal: Journal) -> None:
        """Probe with a small object of its own if `supports` returns UNKNOWN. Workers that ask meanwhile wait."""
        self._probe_if(lambda: supports() is CreateOnly.UNKNOWN, journal)

    def _probe_if(self, is_needed: Callable[[], bool], journal: Journal) -> None:
        with self._lock:
            if is_needed():
                self._own_object_probes += 1
                key = self._store.probe_key
                with self._uploads.in_use(key):
                    self._store.probe_with_own_object(ProbeJournal(self._uploads, journal, key))
