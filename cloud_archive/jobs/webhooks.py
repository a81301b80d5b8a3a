"""Announce finished jobs to CLOUD_ARCHIVE_WEBHOOK_URL: signed, at least once, retried for a day.

Messages are signed as Standard Webhooks prescribes
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md). The published library
needs an HTTP client and three more packages for this one HMAC, so only tests use it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .. import __version__
from ..errors import CloudArchiveError
from ..text import count_noun
from .receiver import ReceiverFailed, ReceiverGone, post
from .store import Delivery, JobStore

logger = logging.getLogger("cloud_archive.webhooks")

GIVE_UP_SECONDS = 86_400.0
_LEAST_TRIES = 10  # the machine may have been off for that day, or its clock was set
STOP_SECONDS = 2.0  # how long `stop` waits for the thread
_FIRST_BACKOFF_SECONDS = 5.0
_LONGEST_BACKOFF_SECONDS = 3600.0
_LONGEST_UNSENT_BACKOFF_SECONDS = 60.0  # of a message that could not be made: that costs no request
_RETRY_SECONDS = 15.0  # after an error of our own

Post = Callable[[str, Mapping[str, str], bytes], None]


class Webhooks:
    """Deliver the messages that wait in the store, one after another, in a thread that no upload waits for.

    Args:
        store: open while this runs.
        payload: returns the answer about a job, which is the message; None: the job is not known any more.
        url, secret: the operator's settings.
        clock: seconds since 1970.
        send: posts one message; raises ReceiverFailed.

    Attributes:
        trouble: why the receiver did not accept the last message, the end of a sentence; None if it did, or got none.
        expired: how many messages were given up.
    """

    def __init__(
        self,
        store: JobStore,
        payload: Callable[[str], dict[str, Any] | None],
        url: str,
        secret: str,
        *,
        clock: Callable[[], float] = time.time,
        send: Post = post,
    ) -> None:
        self._store = store
        self._payload = payload
        self._url = url
        self._key = signing_key(secret)
        self._clock = clock
        self._send = send
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud-archive-webhooks", daemon=True)
        self._unsent_cause: str | None = None  # the logged reason why a message could not be made
        self._gone = False  # the last message was answered with 410
        self.trouble: str | None = None
        self.expired = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """End the thread. A message still being sent after this time may be sent again at the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def wake(self) -> None:
        self._wake.set()

    def waiting(self) -> int:
        return self._store.waiting_deliveries()

    def sentence(self) -> str | None:
        """Return why messages wait or are given up, for the status, or None."""
        trouble = self.trouble  # read once, because the thread of `step` may clear it
        if self._gone and trouble is not None:
            return (
                f"The receiver of CLOUD_ARCHIVE_WEBHOOK_URL {trouble}, so finished jobs are not announced."
                " Correct the address, and start the archive again."
            )
        cause, waiting = self._unsent_cause, self.waiting()
        if not waiting or (trouble is None and cause is None):
            return None
        messages = count_noun(waiting, "finished job waits", "finished jobs wait")
        if trouble is None:
            return f"{messages} to be sent to CLOUD_ARCHIVE_WEBHOOK_URL: {cause}"
        return (
            f"The receiver of CLOUD_ARCHIVE_WEBHOOK_URL {trouble}. {messages} for it and will be sent again."
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self.step()
            except CloudArchiveError as error:
                logger.warning("Webhooks wait: %s", error)
                wait = _RETRY_SECONDS
            except Exception:
                logger.exception("A webhook could not be sent")
                wait = _RETRY_SECONDS
            self._wake.wait(wait)
            self._wake.clear()

    def step(self) -> float | None:
        """Deliver the message that is due first, if any. Return the seconds until the next call; None: until `wake`."""
        due = self._store.next_delivery()
        if due is None:
            return None
        now = self._clock()
        wait = due.next_try - now
        if 0 < wait <= _LONGEST_BACKOFF_SECONDS:  # a longer one means that the clock was set back
            return wait
        try:
            answer = self._payload(due.job_id)
            if answer is not None:
                body = json.dumps(answer).encode()
                self._send(self._url, self._headers(due.message_id, int(now), body), body)
        except ReceiverFailed as failed:
            self._note_refusal(failed)
            if self._gone:
                self._give_up(due, f"the receiver {failed}")
            else:
                self._postpone_or_give_up(due, "the receiver did not accept the message for a day")
        except CloudArchiveError as error:
            if str(error) != self._unsent_cause:
                self._unsent_cause = str(error)
                logger.warning("The webhook about job %s waits: %s", due.job_id, error)
            self._postpone_or_give_up(
                due, f"its message could not be made for a day: {error}", _LONGEST_UNSENT_BACKOFF_SECONDS
            )
        except Exception:
            # The next message must not wait for one that can't be made.
            logger.exception("The webhook about job %s could not be sent", due.job_id)
            self._postpone_or_give_up(due, "its message could not be sent for a day")
        else:
            self._unsent_cause = None
            self._store.end_delivery(due.message_id)
            if answer is not None and self.trouble is not None:
                self.trouble, self._gone = None, False
                self._store.hasten_deliveries(now)
        return 0.0

    def _note_refusal(self, failed: ReceiverFailed) -> None:
        cause = str(failed)
        if cause != self.trouble:
            logger.warning("The receiver of CLOUD_ARCHIVE_WEBHOOK_URL %s", cause)
        self.trouble, self._gone = cause, isinstance(failed, ReceiverGone)

    def _postpone_or_give_up(
        self, failed: Delivery, cause: str, longest_backoff_seconds: float = _LONGEST_BACKOFF_SECONDS
    ) -> None:
        """Postpone a failed message; after a day and `_LEAST_TRIES` tries drop it, and log `cause`."""
        now, tries = self._clock(), failed.tries + 1
        if now - failed.created_at >= GIVE_UP_SECONDS and tries >= _LEAST_TRIES:
            self._give_up(failed, cause)
            return
        backoff = min(longest_backoff_seconds, _FIRST_BACKOFF_SECONDS * 2.0 ** min(tries - 1, 12))
        self._store.postpone_delivery(failed.message_id, tries, now + backoff)

    def _give_up(self, failed: Delivery, cause: str) -> None:
        self.expired += 1
        logger.error("Job %s was not announced: %s", failed.job_id, cause)
        self._store.end_delivery(failed.message_id)

    def _headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "User-Agent": f"cloud-archive/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._key, message_id, timestamp, body),
        }


def new_message_id() -> str:
    """Return a new id for a message, which it keeps through all tries."""
    return f"msg_{uuid.uuid4().hex}"


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signing_key(secret: str) -> bytes:
    """Return the signing key: the secret decoded from base64, without `whsec_`, as the published libraries do.

    A secret that is not base64 is the key itself.
    """
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return secret.encode()
