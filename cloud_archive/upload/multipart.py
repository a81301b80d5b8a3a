"""One file as a multipart upload: begin or resume it, send the parts, complete it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, wait
from contextlib import AbstractContextManager, nullcontext

from ..errors import ConditionsRejected, FileChanged, ObjectExists, StoreError
from ..store.base import CreateOnly, ObjectStore, Part
from ..store.evidence import head_if_allowed, md5_of
from ..store.failures import explain, is_refused_for_good
from .abandoned import INTENT, AbandonedUploads
from .file_part import FilePart
from .memory import ByteBudget
from .outcome import Journal, Prepared, SentBytes
from .pacing import Line, PartPacer
from .source import has_changed

logger = logging.getLogger("cloud_archive.upload")


class MultipartUpload:
    """Send one prepared file in parts; see `Uploader` for the arguments."""

    def __init__(
        self,
        store: ObjectStore,
        prepared: Prepared,
        journal: Journal,
        sent: SentBytes,
        *,
        uploads: AbandonedUploads,
        part_executor: Executor | None,
        budget: ByteBudget,
        line: Line,
    ) -> None:
        self._store = store
        self._prepared = prepared
        self._claim = prepared.claim
        self._source = prepared.source
        self._content = prepared.content
        self._body = prepared.content.body
        self._journal = journal
        self._sent = sent
        self._uploads = uploads
        self._part_executor = part_executor
        self._budget = budget
        self._line = line
        # If only completing a multipart upload is create-only, a small file is sent as an upload of one part.
        self._part_size_bytes = prepared.content.part_size_bytes or prepared.content.size_bytes
        self._part_sha256 = prepared.content.part_sha256 or (prepared.content.sha256,)
        self._upload_id = prepared.claim.upload_id
        self._upload_of = (prepared.claim.key, prepared.claim.sha256)  # the upload's key and bytes

    def drop_unless(self, key: str) -> None:
        """Abort the earlier upload if it is of other bytes or to another key."""
        if self._upload_id and self._upload_of != (key, self._content.sha256):
            self.drop(key)

    def drop(self, key: str) -> None:
        """Abort the upload that this attempt or an earlier one noted, if any; at `key` if no key was noted with it."""
        if self._upload_id:
            noted = self._upload_of[0] or key
            self._journal.abandon(noted, self._upload_id)
            self._uploads.abort(noted, self._upload_id)
            self._upload_id = None

    def send(
        self, key: str, *, media_type: str, metadata: Mapping[str, str], create_only: bool
    ) -> tuple[str | None, bool]:
        """Send the file; return the object's ETag, and whether each answer proved its part.

        Raises what `Uploader.send` raises, and ObjectExists if the key is taken (`create_only`).
        """
        with self._uploads.in_use(key):
            return self._send(key, media_type, metadata, create_only)

    def _send(
        self, key: str, media_type: str, metadata: Mapping[str, str], create_only: bool
    ) -> tuple[str | None, bool]:
        upload_id, have = self._resume(key)
        if upload_id is None:
            self._upload_id = self._uploads.intent()
            self._upload_of = (key, self._content.sha256)
            self._journal.multipart(self._upload_id, self._part_size_bytes)
            upload_id = self._store.create_multipart(key, content_type=media_type, metadata=metadata)
            self._upload_id = upload_id
            self._journal.multipart(upload_id, self._part_size_bytes)
        try:
            parts = self._upload_missing(key, upload_id, have)
            result = self._complete(key, upload_id, parts, create_only=create_only)
        except FileChanged:
            self.drop(key)
            raise
        except ObjectExists:
            # Another writer was first, or an earlier Complete of ours whose answer was lost.
            self.drop(key)
            raise
        except StoreError as error:
            if error.failure.code in ("NoSuchUpload", "ConditionalRequestConflict", "InvalidPart"):
                # The next attempt must begin a new upload, as S3 demands after a 409:
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
                self.drop(key)
            raise
        self._upload_id = None
        self._journal.multipart(None, None)
        return result, all(part.proven for part in parts)

    def _complete(self, key: str, upload_id: str, parts: list[Part], *, create_only: bool) -> str | None:
        """Complete the upload. Send a HEAD before if the store may overwrite."""
        if create_only and self._store.capabilities.create_only_multipart is not CreateOnly.HONOURED:
            self._refuse_taken(key)
        try:
            return self._store.complete_multipart(key, upload_id, parts, create_only=create_only)
        except ConditionsRejected:
            if not create_only:
                raise
        # Nothing was written and the parts are still there: send another HEAD, and leave the condition out.
        self._refuse_taken(key)
        return self._store.complete_multipart(key, upload_id, parts, create_only=False)

    def _refuse_taken(self, key: str) -> None:
        """Raise ObjectExists if a HEAD finds an object at `key`."""
        _, info = head_if_allowed(self._store, key, needed=True)
        if info is not None:
            raise ObjectExists("CompleteMultipartUpload", key, explain("PreconditionFailed"), status=412)

    def _resume(self, key: str) -> tuple[str | None, dict[int, Part]]:
        """Return the id of the upload that an earlier attempt left, or None, and its parts that hold our bytes."""
        claim, content = self._claim, self._content
        if self._upload_id is not None and self._upload_id.startswith(INTENT):
            self.drop(key)
        if (
            self._upload_id is None
            or self._upload_of != (key, content.sha256)
            or (self._upload_id == claim.upload_id and claim.part_size_bytes != self._part_size_bytes)
        ):
            return None, {}
        try:
            found = self._store.list_parts(key, self._upload_id)
        except StoreError as error:
            if error.failure.code == "NoSuchUpload" or is_refused_for_good(error):
                self.drop(key)
                return None, {}
            raise
        have: dict[int, Part] = {}
        for part in found:
            if 1 <= part.number <= len(self._part_sha256) and self._same_part(part):
                have[part.number] = part
                self._sent.add(part.size_bytes)
        logger.info("The upload of %s continues with %d of %d parts", key, len(have), len(self._part_sha256))
        return self._upload_id, have

    def has_etag(self, etag: str) -> bool:
        """Return whether `etag` is that of our bytes as AWS computes it: from the parts' MD5s, with their count."""
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        count = len(self._part_sha256)
        if not etag.endswith(f"-{count}"):
            return False
        digests = b"".join(bytes.fromhex(md5_of(self._read(number))) for number in range(1, count + 1))
        return etag == f"{md5_of(digests)}-{count}"

    def _same_part(self, part: Part) -> bool:
        if part.size_bytes != self._extent(part.number)[1]:
            return False
        if part.sha256 is not None:
            return part.sha256 == self._part_sha256[part.number - 1]
        return part.etag.strip('"').lower() == md5_of(self._read(part.number))

    def _extent(self, number: int) -> tuple[int, int]:
        """Return a part's offset and length."""
        size = self._part_size_bytes
        offset = (number - 1) * size
        return offset, min(size, self._content.size_bytes - offset)

    def _read(self, number: int) -> bytes:
        """Read a part's bytes, which must still be those that were hashed."""
        with self._part(number, hashed=False) as part:
            data = bytes(part)
        self._check_hash(data, number)
        return data

    def _check_hash(self, data: bytes, number: int) -> None:
        if hashlib.sha256(data).hexdigest() != self._part_sha256[number - 1]:
            raise FileChanged(self._claim.version.path)

    def _send_part(self, key: str, upload_id: str, number: int, pacer: PartPacer) -> Part:
        """Send a part, and make sure that its bytes are those that were hashed.

        A store that answers with the expected SHA-256 has computed it from what arrived. For any other store the bytes
        are hashed here while they are sent.
        """
        sha256 = self._part_sha256[number - 1]

        def progress(count: int) -> None:
            pacer.sent(number, count)
            self._sent.add(count)

        pacer.begin(number)
        for hashed in (not self._line.echoes_checksum, True):
            with self._part(number, hashed=hashed) as body:
                if has_changed(self._source, self._claim):
                    raise FileChanged(self._claim.version.path)
                try:
                    part = self._store.upload_part(
                        key, upload_id, number, body, sha256=sha256, progress=progress
                    )
                except StoreError:
                    # If the file has changed, say that instead.
                    self._check_hash(bytes(body), number)
                    raise
                sent = body.sha256 if isinstance(body, FilePart) else sha256
            self._line.echoes_checksum = part.sha256 == sha256
            if self._line.echoes_checksum or sent == sha256:
                return part
            if sent is not None:
                break
            # The store has shown checksums before and shows none now, so the part is sent again and hashed.
        raise FileChanged(self._claim.version.path)

    def _part(self, number: int, *, hashed: bool) -> AbstractContextManager[FilePart | bytes]:
        if self._body is not None:
            return nullcontext(self._body)
        return FilePart(self._prepared, *self._extent(number), self._budget, hashed=hashed)

    def _upload_missing(self, key: str, upload_id: str, have: dict[int, Part]) -> list[Part]:
        pacer = PartPacer(self._line)
        futures: list[Future[Part]] = []
        for number in range(1, len(self._part_sha256) + 1):
            if number in have:
                continue
            if not pacer.wait_for_turn(number, self._extent(number)[1]):
                break
            futures.append(self._begin_part(key, upload_id, number, pacer))
        fresh = _all_or_first_error(futures)
        return sorted([*have.values(), *fresh], key=lambda part: part.number)

    def _begin_part(self, key: str, upload_id: str, number: int, pacer: PartPacer) -> Future[Part]:
        # A body in memory is sent in this thread. In the pool it would wait for parts that may wait for its memory.
        executor = self._part_executor if self._body is None else None
        future: Future[Part] = Future()
        if executor is not None:
            try:
                future = executor.submit(self._send_part, key, upload_id, number, pacer)
            except RuntimeError as error:  # the pool has ended, or the system starts no thread
                future.set_exception(error)
        else:
            try:
                future.set_result(self._send_part(key, upload_id, number, pacer))
            except Exception as error:
                future.set_exception(error)
        # Also called if the executor ends before the part has begun.
        future.add_done_callback(lambda done: pacer.end(number, arrived=_arrived(done)))
        return future


def _arrived(part: Future[Part]) -> bool:
    return not part.cancelled() and part.exception() is None


def _all_or_first_error(futures: list[Future[Part]]) -> list[Part]:
    """Return all parts. After the first error begin no other part, wait for those under way, and raise the error."""
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
    for future in futures:
        if not future.cancelled() and (failure := future.exception()) is not None:
            raise failure
    return [future.result() for future in futures]
