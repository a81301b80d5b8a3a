"""Check after the start, with a small request, whether the store accepts credentials and bucket.

Otherwise wrong credentials would show only once the first file is written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from ..errors import Failure, StoreError
from ..store.base import ObjectStore
from ..store.failures import explain
from ..store.probe import probe_with_known_object, verify_connection
from .gate import backoff_seconds

logger = logging.getLogger("cloud_archive.archiver")

ANSWER_SECONDS = 20.0  # after this time without an answer, the status shows a failure; the request continues
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class ConnectionVerifier:
    """Call `verify_connection` in a thread of its own, with growing pauses, until it or an upload has succeeded.

    Args:
        store: the thread also loads its client, so that the first upload need not wait for that.
        on_change: called from any thread after `verified` or `failure` has changed.
    """

    def __init__(self, store: ObjectStore, on_change: Callable[[], None]) -> None:
        self._store = store
        self._on_change = on_change
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._failure: Failure | None = None
        self._verified = False
        self._is_probe_object_there = False
        self._thread: threading.Thread | None = None

    @property
    def verified(self) -> bool:
        """Whether this request or an upload has succeeded since the start."""
        return self._verified

    @property
    def failure(self) -> Failure | None:
        """Why a request failed or got no answer; None before that, and once the connection is verified."""
        return self._failure

    @property
    def overwritable(self) -> str:
        """See `Capabilities.overwritable`."""
        return self._store.capabilities.overwritable

    def start(self, *, wait_seconds: float) -> None:
        """Start the thread, unless it was started before or an upload has succeeded.

        It waits `wait_seconds` before the first request, unless `request_now` is called.
        """
        with self._lock:
            if self._thread is not None or self._verified:
                return
            thread = threading.Thread(
                target=self._run, args=(wait_seconds,), name="cloud-archive-connect", daemon=True
            )
            thread.start()
            self._thread = thread  # only now, so that the next `start` tries again if there was no thread

    def request_now(self) -> None:
        """Make the next request now; no-op once the connection is verified."""
        self._wake.set()

    def stop(self) -> None:
        """Make no further request. Return at once; a request under way ends by itself."""
        self._stopping = True
        self._wake.set()

    def confirm(self) -> None:
        """Note that an upload has succeeded."""
        self._set(verified=True, failure=None)
        self._wake.set()

    def _run(self, wait_seconds: float) -> None:
        pause, attempts = wait_seconds, 0
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stopping or self._verified:
                return
            attempts += 1
            failure = self._attempt()
            if self._stopping:
                return
            if failure is None:
                logger.info("The store accepts credentials and bucket: %s", self._store.destination)
                self._set(verified=True, failure=None)
                if self._is_probe_object_there:
                    probe_with_known_object(self._store)
                return
            self._set(verified=False, failure=failure)
            pause = backoff_seconds(attempts, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)

    def _attempt(self) -> Failure | None:
        # The time limits of a request don't cover what the system does, such as looking up a host name.
        silence = threading.Timer(ANSWER_SECONDS, self._note_silence)
        silence.name, silence.daemon = "cloud-archive-connect-limit", True
        try:
            silence.start()
            self._store.warm_up()
            self._is_probe_object_there = verify_connection(self._store)
        except StoreError as error:
            return error.failure
        except Exception:
            logger.exception("The connection could not be verified")
            return explain("InternalError")
        finally:
            silence.cancel()
        return None

    def _note_silence(self) -> None:
        failure = replace(
            explain("ConnectTimeout"),
            cause=f"The endpoint has not answered for {ANSWER_SECONDS:g} s.",
            cure="Check S3_ENDPOINT_URL, this machine's DNS and firewalls.",
        )
        if not self._stopping:
            self._set(verified=False, failure=failure)

    def _set(self, *, verified: bool, failure: Failure | None) -> None:
        with self._lock:
            verified = verified or self._verified
            failure = None if verified else failure
            has_changed = (verified, failure) != (self._verified, self._failure)
            self._verified, self._failure = verified, failure
        if has_changed:
            if failure is not None:
                logger.warning("The connection to the store is not verified yet: %s", failure.sentence)
            self._on_change()
