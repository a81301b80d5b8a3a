"""Multipart uploads that are not completed: note them before they exist, and abort them when they are over."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ..errors import StoreError
from ..store.base import OVERWRITES, CreateOnly, ObjectStore
from ..store.probe import PROBE_WITH_BYTES
from .outcome import Journal
from .source import Content

logger = logging.getLogger("cloud_archive.upload")

INTENT = "?"  # in place of an upload id: a CreateMultipartUpload was sent, at the time that follows
CREATE_SECONDS = 70.0  # what such a request can take: the store's connect and read timeouts
CLOCK_SKEW_SECONDS = 5.0
MULTIPART_TRIES = 3  # a store that leaves this probe open is not asked for each file


class AbandonedUploads:
    """Aborts multipart uploads of ours, and knows which are under way here.

    Args:
        on_aborted: called with key and upload id of each upload that needs no abort any more.
    """

    def __init__(self, store: ObjectStore, on_aborted: Callable[[str, str], None]) -> None:
        self._store = store
        self.on_aborted = on_aborted
        self._in_hand: Counter[str] = Counter()  # keys of multipart uploads that are under way here
        self._in_hand_lock = threading.Lock()

    def tidy(self, key: str, upload_id: str) -> None:
        """Abort an upload that an earlier attempt noted, unless an upload to its key is under way here."""
        with self._in_hand_lock:
            if self._in_hand[key]:
                return
        self.abandon(key, upload_id)

    def abandon(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload of ours; after a transient failure it stays noted, and is tried again later."""
        over = True
        try:
            if upload_id.startswith(INTENT):
                over = self._abandon_unnamed(key, float(upload_id.removeprefix(INTENT)))
            else:
                self._store.abort_multipart(key, upload_id)
        except StoreError as error:
            if error.failure.transient:
                logger.info("The unfinished upload of %s is aborted later: %s", key, error)
                return
            logger.warning("The unfinished upload of %s could not be aborted: %s", key, error)
        if over:
            self.on_aborted(key, upload_id)

    def _abandon_unnamed(self, key: str, asked_at: float) -> bool:
        """Abort what a CreateMultipartUpload began whose answer, and with it the id, was lost.

        Ours is an upload to this very key, begun in the time that the lost request can have taken, without any
        part. Should it be another archiver's after all, that one loses a part and begins again.

        Returns:
            Whether none can come any more: one was found, or the time of such a request is over.
        """
        earliest = asked_at - CLOCK_SKEW_SECONDS
        latest = asked_at + CREATE_SECONDS + CLOCK_SKEW_SECONDS
        over = self.store_time() > latest
        for found in self._store.unfinished_uploads(key):
            if earliest <= found.initiated_at <= latest and not self._store.list_parts(key, found.upload_id):
                self._store.abort_multipart(key, found.upload_id)
                over = True
        return over

    def store_time(self) -> float:
        """Return seconds since 1970 by the store's clock where it is known: ours may be minutes off."""
        return time.time() + (self._store.clock_offset_seconds or 0.0)

    def intent(self) -> str:
        """Return what to note before a CreateMultipartUpload."""
        return f"{INTENT}{self.store_time()}"

    @contextmanager
    def in_hand(self, key: str) -> Iterator[None]:
        """Keep `tidy` from aborting uploads to `key` while one of ours may be under way."""
        with self._in_hand_lock:
            self._in_hand[key] += 1
        try:
            yield
        finally:
            with self._in_hand_lock:
                self._in_hand[key] -= 1
                if not self._in_hand[key]:
                    del self._in_hand[key]


class ProbeNotes:
    """A probe's multipart upload, noted as to be aborted from the moment before it exists."""

    def __init__(self, uploads: AbandonedUploads, journal: Journal, key: str) -> None:
        self._uploads = uploads
        self._journal = journal
        self._key = key
        self._noted = ""

    def asked(self) -> None:
        """See `ProbeNotes`."""
        self._noted = self._uploads.intent()
        self._journal.abandon(self._key, self._noted)

    def begun(self, upload_id: str) -> None:
        """See `ProbeNotes`."""
        before, self._noted = self._noted, upload_id
        self._journal.abandon(self._key, upload_id)
        self._uploads.on_aborted(self._key, before)

    def ended(self) -> None:
        """See `ProbeNotes`."""
        self._uploads.on_aborted(self._key, self._noted)


class StoreProbes:
    """Finds out, once for all workers, whether the store honours create-only writes."""

    def __init__(self, store: ObjectStore, uploads: AbandonedUploads) -> None:
        self._store = store
        self._uploads = uploads
        self._lock = threading.Lock()
        self._done = False
        self._multipart_tries = 0

    def probe_with(
        self, key: str, content: Content, metadata: Mapping[str, str], media_type: str, journal: Journal
    ) -> None:
        """Find out, once, whether the store honours create-only writes, with an object that was just written.

        Other workers do not wait for the seven requests: they send a HEAD before each PUT until the answer is known.
        """
        if (
            content.body is None
            or len(content.body) > PROBE_WITH_BYTES
            or self._store.capabilities.create_only is not CreateOnly.UNKNOWN
        ):
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._done or self._store.capabilities.create_only is not CreateOnly.UNKNOWN:
                return
            self._done = True
            with self._uploads.in_hand(key):
                self._store.probe_create_only(
                    key,
                    content.body,
                    content_type=media_type,
                    metadata=metadata,
                    notes=ProbeNotes(self._uploads, journal, key),
                    in_parts=False,
                )
        finally:
            self._lock.release()

    def wait_for_end(self, timeout_seconds: float) -> bool:
        """Wait for the probe that is under way, if there is one. Returns False if it still is after the timeout."""
        ended = self._lock.acquire(timeout=max(0.0, timeout_seconds))
        if ended:
            self._lock.release()
        return ended

    def probe_multipart(self, journal: Journal) -> None:
        """Find out whether completing a multipart upload is create-only, where PutObject is not."""
        if self._store.capabilities.create_only in OVERWRITES and self._multipart_is_unknown():
            self._probe_alone(self._multipart_is_unknown, journal)

    def probe_after_parts(self, journal: Journal) -> None:
        """Find out the same once a file was uploaded in parts, where that is all that is not known.

        Most files go in one request, so it is not worth four more requests before there is a large one.
        """
        if self._store.capabilities.create_only is CreateOnly.HONOURED and self._multipart_is_unknown():
            self._probe_alone(self._multipart_is_unknown, journal)

    def _multipart_is_unknown(self) -> bool:
        unknown = self._store.capabilities.create_only_multipart is CreateOnly.UNKNOWN
        return unknown and self._multipart_tries < MULTIPART_TRIES

    def probe_alone(self, supports: Callable[[], CreateOnly], journal: Journal) -> None:
        """Find it out with a small object of its own; once, however many workers ask at the same moment."""
        self._probe_alone(lambda: supports() is CreateOnly.UNKNOWN, journal)

    def _probe_alone(self, is_needed: Callable[[], bool], journal: Journal) -> None:
        """Wait for the probe that another worker runs, and run one if it is needed still."""
        with self._lock:
            if is_needed():
                self._multipart_tries += 1
                key = self._store.probe_key
                with self._uploads.in_hand(key):
                    self._store.probe_with_key(ProbeNotes(self._uploads, journal, key))
