"""Find out what a store does with create-only writes.

A store can honour `If-None-Match: *` (412), reject the header (501), or ignore it silently and overwrite. Only a
write to a key that is certainly taken shows which. So the probe writes an object again that we have just written, with
the same bytes. This needs no right to delete.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ConditionsRejected, ObjectExists, StoreError
from ..keys import PrefixTemplate
from .base import CreateOnly, ObjectStore, ProbeNotes, PutResult
from .failures import is_denied, is_missing

if TYPE_CHECKING:
    from .s3 import S3Store

logger = logging.getLogger("cloud_archive.store")

PROBE_NAME = "check"
PROBE_BODY = b"Cloud Archive uses this object to find out what the bucket allows. It may be deleted.\n"
# The objects of files have metadata with the same names, so `check` can show which of them a store drops.
PROBE_METADATA = {
    "sha256": hashlib.sha256(PROBE_BODY).hexdigest(),
    "mtime": "1700000000.123456789",
    "path": "check%20%C3%BC",
}
CLOCK_SKEW_SECONDS = 5.0


def probe_key(prefix: str) -> str:
    """Return the key of the small object that probes and checks write, in the reserved folder of a valid `prefix`."""
    return f"{PrefixTemplate.parse(prefix).reserved_folder}{PROBE_NAME}"


def verify_connection(store: ObjectStore) -> bool:
    """Make a small request that needs the right endpoint, credentials and bucket; raises StoreError.

    It reads the object that `check` leaves behind. A store that answers "no such object" has accepted credentials and
    bucket. If reading is denied, it writes that object, because "access denied" alone proves nothing.

    Returns:
        Whether the object was there, with our bytes.
    """
    try:
        return b"".join(store.read(store.probe_key, len(PROBE_BODY))) == PROBE_BODY
    except StoreError as error:
        if not is_missing(error):
            if not is_denied(error):
                raise
            put_probe_object(store)
        return False


def probe_with_known_object(store: ObjectStore) -> None:
    """If it is not known what create-only writes do, make one to the object of `check`, which must be there.

    A refusal becomes known; after any other answer, the probe with the first file tells.
    """
    if store.capabilities.create_only is CreateOnly.UNKNOWN:
        with suppress(StoreError):
            put_probe_object(store, create_only=True)


def put_probe_object(store: ObjectStore, *, create_only: bool = False) -> PutResult:
    """Write the small object of probes and checks; replace it unless `create_only`."""
    return store.put(
        store.probe_key,
        PROBE_BODY,
        sha256=PROBE_METADATA["sha256"],
        content_type="text/plain",
        metadata=PROBE_METADATA,
        create_only=create_only,
    )


def probe(
    store: S3Store,
    key: str,
    body: bytes,
    *,
    content_type: str,
    metadata: Mapping[str, str],
    wait: Callable[[float], bool],
    notes: ProbeNotes | None = None,
    in_parts: bool = True,
) -> None:
    """Find out whether the store refuses to overwrite, and whether the credentials may send a HEAD.

    Each write here sends the object's own bytes again, so a store that ignores the condition does no harm, unless
    another program has just replaced the object.

    Args:
        key, body, content_type, metadata: an object exactly as it was just written.
        wait: waits the given number of seconds; returns whether the store was closed meanwhile.
        notes: records the multipart upload, so that the next process can abort it.
        in_parts: try a multipart upload even if the store refuses to overwrite in one request.
    """
    noted: ProbeNotes = notes or _NoNotes()
    sha256 = hashlib.sha256(body).hexdigest()

    def put(create_only: bool = True) -> None:
        store.put(
            key, body, sha256=sha256, content_type=content_type, metadata=metadata, create_only=create_only
        )

    def multipart() -> None:
        earliest = time.time() + (store.clock_offset_seconds or 0.0) - CLOCK_SKEW_SECONDS
        noted.beginning()
        try:
            upload_id = store.create_multipart(key, content_type=content_type, metadata=metadata)
        except StoreError:
            _try_abort(store, lambda: abort_unnamed(store, key, earliest))
            raise
        noted.begun(upload_id)
        try:
            part = store.upload_part(key, upload_id, 1, body, sha256=sha256)
            store.complete_multipart(key, upload_id, [part], create_only=True)
        except StoreError:
            if _try_abort(store, lambda: store.abort_multipart(key, upload_id)):
                noted.ended()
            raise
        noted.ended()

    if store.capabilities.can_head is None:
        _probe_head(store, key)
    if store.capabilities.create_only is CreateOnly.UNKNOWN:
        store.remember(create_only=_outcome(store, put, wait))
    in_parts = in_parts or store.capabilities.create_only is not CreateOnly.HONOURED
    if in_parts and store.capabilities.create_only_multipart is CreateOnly.UNKNOWN:
        outcome = _outcome(store, multipart, wait)
        store.remember(create_only_multipart=outcome)
        if outcome is CreateOnly.IGNORED:
            _reset_etag(lambda: put(False))


class _NoNotes:
    """No-op: nothing is persisted."""

    def beginning(self) -> None: ...

    def begun(self, upload_id: str) -> None: ...

    def ended(self) -> None: ...


def _try_abort(store: S3Store, abort: Callable[[], object]) -> bool:
    """Call `abort`; return False if the store refuses or does not answer."""
    try:
        abort()
    except StoreError as error:
        logger.info("%s: a probe's upload could not be aborted: %s", store.destination, error)
        return False
    return True


def abort_unnamed(store: ObjectStore, key: str, earliest: float, latest: float = math.inf) -> bool:
    """Abort the uploads to `key` without parts that were begun between these times. Return whether there was one.

    Their ids were lost with the answers to CreateMultipartUpload. Times: seconds since 1970 by the store's clock.
    """
    found = False
    for upload in store.unfinished_uploads(key):
        if earliest <= upload.initiated_at <= latest and not store.list_parts(key, upload.upload_id):
            store.abort_multipart(key, upload.upload_id)
            found = True
    return found


def _probe_head(store: S3Store, key: str) -> None:
    try:
        store.head(key)
    except StoreError as error:
        if is_denied(error):
            store.remember(can_head=False)


def _outcome(store: S3Store, attempt: Callable[[], None], wait: Callable[[float], bool]) -> CreateOnly:
    """Make a create-only write to a taken key, and return what the store did.

    A transient error is retried once, because R2 allows one write a second to a key.
    """
    for pause_seconds in (1.1, None):
        try:
            attempt()
        except ObjectExists:
            return CreateOnly.HONOURED
        except ConditionsRejected:
            return CreateOnly.REJECTED
        except StoreError as error:
            if not error.failure.transient or pause_seconds is None or wait(pause_seconds):
                logger.info("%s: create-only writes could not be tried: %s", store.destination, error)
                break
        else:
            return CreateOnly.IGNORED
    return CreateOnly.UNKNOWN


def _reset_etag(put: Callable[[], None]) -> None:
    """Write the object again in one request, because the multipart upload has changed its ETag."""
    try:
        put()
    except StoreError as error:
        logger.info("An object keeps the ETag of a probe's multipart upload: %s", error)
