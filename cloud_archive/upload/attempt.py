"""One file into the bucket, and proof that it is there. No threads of its own, no ledger: a journal is handed in.

The protocol, whose every step may be the last one before a `kill -9`:

1. Read and hash; the journal commits the hash and the key before the first request.
2. Create-only PUT (one request, up to `SINGLE_PUT_BYTES`) or multipart upload (above), with the SHA-256 in the
   object's metadata and an integrity header on every body.
3. The key is taken (412): HEAD. The same bytes: archived there already, by us or by somebody else. Other bytes:
   the next conflict name.
4. The store's answer proves the bytes by a checksum; where it doesn't, the object is read back and hashed.
5. An attempt that ended in doubt is simply made again: step 3 recognises what arrived.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from ..errors import ConditionsRejected, FileChanged, KeyRejected, ObjectExists, StoreError
from ..files import FileVersion, format_timestamp_ns
from ..keys import LAST_CONFLICT, MAX_CONFLICTS, conflict_key, conflict_number, path_metadata
from ..store.base import CreateOnly, ObjectInfo, ObjectStore, Part
from ..store.evidence import Expected, Proof, can_be_confirmed, head_if_allowed, prove
from ..store.failures import explain, is_denied
from ..store.probe import PROBE_WITH_BYTES
from .memory import ByteBudget
from .pacing import Line, PartPacer
from .source import (
    Content,
    Job,
    content_type,
    has_changed,
    md5_of,
    opened,
    read_at,
    read_content,
    unreadable,
    whole_bytes,
)

logger = logging.getLogger("cloud_archive.upload")

INTENT = "?"  # in place of an upload id: a CreateMultipartUpload was sent, at the time that follows
CREATE_SECONDS = 70.0  # what such a request can take: the store's connect and read timeouts
CLOCK_SKEW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The file is in the bucket.

    Attributes:
        already: it was there before this attempt, so nothing was sent.
        ours: the object carries this row's token: an earlier attempt of ours had arrived.
        changed: the file was written to after its bytes were read; its next version is still to come.
        base_key: what the key was before it got a conflict number.
        read: the file as it was when its bytes were hashed; None where that is not known.
    """

    key: str
    sha256: str
    etag: str | None
    already: bool
    ours: bool
    proof: Proof
    changed: bool = False
    base_key: str = ""
    read: FileVersion | None = None


class Journal(Protocol):
    """Durable notes of one attempt; each call returns after its commit."""

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        """These bytes are about to be sent to `key`."""

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        """A multipart upload of ours now exists (None: no longer)."""

    def abandon(self, key: str, upload_id: str) -> None:
        """A multipart upload of ours is to be aborted."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version whose bytes were read and hashed; its file is open."""

    job: Job
    source: BinaryIO
    content: Content
    base_key: str


@dataclass(frozen=True, slots=True)
class _Placed:
    etag: str | None
    already: bool
    ours: bool
    proof: Proof


@dataclass(slots=True)
class _Sent:
    """Bytes confirmed or under way, from several part threads."""

    progress: Callable[[int], None]
    total: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self.lock:
            self.total += count
            self.progress(self.total)


class Uploader:
    """Uploads one file at a time per calling thread; one instance serves all workers.

    Args:
        store: where to.
        make_key: relative path to object key; called at a file's first attempt only.
        session_id: goes into the objects' metadata.
        rename: True keeps what is in the bucket and takes the next conflict name; False replaces it.
        parts: runs the parts of large files side by side; None sends them one after another.
        budget: of the bytes that all uploads hold in memory.
        on_aborted: told of each multipart upload that needs no abort any more.
        elsewhere: called with a path and a size, names keys that may hold the file already; see `bucket_index`.
        conflicts: called with a base key and a SHA-256; see `Ledger.conflicts`.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        make_key: Callable[[str], str],
        session_id: str,
        rename: bool = True,
        parts: Executor | None = None,
        budget: ByteBudget | None = None,
        on_aborted: Callable[[str, str], None] = lambda key, upload_id: None,
        elsewhere: Callable[[str, int], Sequence[str]] = lambda path, size_bytes: (),
        conflicts: Callable[[str, str], tuple[int | None, int]] = lambda base_key, sha256: (None, 0),
    ) -> None:
        self._store = store
        self._make_key = make_key
        self._session_id = session_id
        self._rename = rename
        self._parts = parts
        self._line = Line()
        self._budget = budget or ByteBudget()
        self._on_aborted = on_aborted
        self._elsewhere = elsewhere
        self._conflicts = conflicts
        self._probe_lock = threading.Lock()
        self._probe_done = False
        self._in_hand: Counter[str] = Counter()  # keys of multipart uploads that are under way here
        self._in_hand_lock = threading.Lock()

    def upload(self, job: Job, journal: Journal, progress: Callable[[int], None]) -> Outcome:
        """Bring one version into the bucket: `prepare` and `send`, whose errors it raises."""
        with self.room([job]), self.prepare(job) as prepared:
            return self.send(prepared, journal, progress)

    def room(self, jobs: Sequence[Job]) -> AbstractContextManager[None]:
        """Wait for the memory that all of `jobs` need at once; to be held while any of them is prepared."""
        return self._budget.hold(sum(whole_bytes(job) for job in jobs))

    @contextmanager
    def prepare(self, job: Job) -> Iterator[Prepared]:
        """Open the file, read and hash it, and render its key at the first attempt.

        Raises:
            FileVanished, FileChanged, FileUnreadable: about the local file.
            KeyRejected: no key can be made.
            OSError: never; it is turned into one of the above.
        """
        with opened(job) as source:
            content = read_content(source, job)
            yield Prepared(job, source, content, job.base_key or self._make_key(job.version.path))

    def send(self, prepared: Prepared, journal: Journal, progress: Callable[[int], None]) -> Outcome:
        """Send it and have it proven.

        Args:
            progress: called with the bytes sent so far, from any thread.

        Raises:
            FileChanged, FileUnreadable: about the local file.
            KeyRejected: every key is taken.
            StoreError: the store refused or did not answer.
        """
        job, content = prepared.job, prepared.content
        attempt = _Attempt(self, prepared, journal, _Sent(progress))
        key, placed = attempt.place()
        return Outcome(
            key=key,
            sha256=content.sha256,
            etag=placed.etag,
            already=placed.already,
            ours=placed.ours,
            proof=placed.proof,
            changed=has_changed(prepared.source, job),
            base_key=prepared.base_key,
            read=content.read,
        )

    def tidy(self, key: str, upload_id: str) -> None:
        """As `abandon`, from aside: a key to which a multipart upload is under way here is left for later."""
        with self._in_hand_lock:
            if self._in_hand[key]:
                return
        self.abandon(key, upload_id)

    def abandon(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload of ours; where the store fails it, it stays noted and is tried again later."""
        over = True
        try:
            if upload_id.startswith(INTENT):
                over = self._abandon_unnamed(key, float(upload_id.removeprefix(INTENT)))
            else:
                self._store.abort_multipart(key, upload_id)
        except StoreError as error:
            if error.failure.passing:
                logger.info("The unfinished upload of %s is aborted later: %s", key, error)
                return
            logger.warning("The unfinished upload of %s could not be aborted: %s", key, error)
        if over:
            self._on_aborted(key, upload_id)

    def _abandon_unnamed(self, key: str, asked_at: float) -> bool:
        """Abort what a CreateMultipartUpload began whose answer, and with it the id, was lost.

        Ours is an upload to this very key, begun in the time that the lost request can have taken, to which nobody
        has sent a part. Should it be another archiver's after all, that one loses a part and begins again.

        Returns:
            Whether none can come any more: one was found, or the time of such a request is over.
        """
        earliest = asked_at - CLOCK_SKEW_SECONDS
        latest = asked_at + CREATE_SECONDS + CLOCK_SKEW_SECONDS
        over = self._store_time() > latest
        for found in self._store.unfinished_uploads(key):
            if earliest <= found.initiated_at <= latest and not self._store.list_parts(key, found.upload_id):
                self._store.abort_multipart(key, found.upload_id)
                over = True
        return over

    def _store_time(self) -> float:
        """Seconds since 1970 by the store's clock, as far as it is known: ours may be minutes off."""
        return time.time() + (self._store.clock_offset_seconds or 0.0)

    def intent(self) -> str:
        """What to note before a CreateMultipartUpload."""
        return f"{INTENT}{self._store_time()}"

    @contextmanager
    def in_hand(self, key: str) -> Iterator[None]:
        """Meanwhile a multipart upload to `key` may come and go here: `tidy` lets it be."""
        with self._in_hand_lock:
            self._in_hand[key] += 1
        try:
            yield
        finally:
            with self._in_hand_lock:
                self._in_hand[key] -= 1
                if not self._in_hand[key]:
                    del self._in_hand[key]

    def _probe(
        self, key: str, content: Content, metadata: Mapping[str, str], media_type: str, journal: Journal
    ) -> None:
        """Find out, once, whether the store honours create-only writes, with an object that is ours.

        Whoever comes meanwhile goes on, and looks before each PUT until it is known: a probe takes seven requests.
        """
        if (
            content.body is None
            or len(content.body) > PROBE_WITH_BYTES
            or self._store.capabilities.create_only is not CreateOnly.UNKNOWN
        ):
            return
        if not self._probe_lock.acquire(blocking=False):
            return
        try:
            if self._probe_done or self._store.capabilities.create_only is not CreateOnly.UNKNOWN:
                return
            self._probe_done = True
            with self.in_hand(key):
                self._store.probe_create_only(
                    key,
                    content.body,
                    content_type=media_type,
                    metadata=metadata,
                    notes=_ProbeNotes(self, journal, key),
                )
        finally:
            self._probe_lock.release()

    def _probe_alone(self, supports: Callable[[], CreateOnly], journal: Journal) -> None:
        """The same with a small object of its own; once, however many workers ask at the same moment."""
        with self._probe_lock:
            if supports() is CreateOnly.UNKNOWN:
                key = self._store.probe_key
                with self.in_hand(key):
                    self._store.probe_with_key(_ProbeNotes(self, journal, key))


class _ProbeNotes:
    """A probe's multipart upload, noted as to be aborted from the moment before it exists."""

    def __init__(self, uploader: Uploader, journal: Journal, key: str) -> None:
        self._uploader = uploader
        self._journal = journal
        self._key = key
        self._noted = ""

    def asked(self) -> None:
        """See `ProbeNotes`."""
        self._noted = self._uploader.intent()
        self._journal.abandon(self._key, self._noted)

    def begun(self, upload_id: str) -> None:
        """See `ProbeNotes`."""
        before, self._noted = self._noted, upload_id
        self._journal.abandon(self._key, upload_id)
        self._uploader._on_aborted(self._key, before)

    def ended(self) -> None:
        """See `ProbeNotes`."""
        self._uploader._on_aborted(self._key, self._noted)


class _Attempt:
    """One attempt at one version: chooses the key, sends, proves."""

    def __init__(
        self,
        uploader: Uploader,
        prepared: Prepared,
        journal: Journal,
        sent: _Sent,
    ) -> None:
        job, content = prepared.job, prepared.content
        self._uploader = uploader
        self._store = uploader._store
        self._job = job
        self._journal = journal
        self._source = prepared.source
        self._content = content
        self._base_key = prepared.base_key
        self._sent = sent
        self._media_type = content_type(job.version.name)
        self._metadata = {
            "sha256": content.sha256,
            # Seconds since 1970 with nine digits, under the name that rclone uses, so that it restores it too:
            # https://rclone.org/s3/#metadata
            "mtime": format_timestamp_ns(job.version.mtime_ns),
            "archive-token": job.token,
            "archive-session": uploader._session_id,
            "archived-at": format_timestamp_ns(int(uploader._store_time() * 1e9)),
        }
        self._upload_id = job.upload_id
        self._upload_of = (job.key, job.sha256)  # what that upload is to be: its key, its bytes

    @property
    def _single(self) -> bool:
        return self._content.body is not None

    def place(self) -> tuple[str, _Placed]:
        """Try keys until one takes the bytes or holds them already."""
        if not self._uploader._rename:
            self._note(self._base_key)
            return self._base_key, self._send(self._base_key, create_only=False)
        found = self._found_elsewhere()
        if found is not None:
            return found
        for number in self._numbers():
            key = conflict_key(self._base_key, number, self._content.sha256)
            placed = self._place_at(key, head_first=number > 0)
            if placed is not None:
                return key, placed
        raise KeyRejected(
            self._base_key,
            f"{self._base_key}, its {MAX_CONFLICTS} numbered names and those with its SHA-256 are all taken by other"
            " files. Rename the file, or use a prefix such as {session_id} that keeps sessions apart.",
        )

    def _numbers(self) -> Iterator[int]:
        """The conflict numbers to try: after the first, those that the ledger has not seen taken."""
        first = self._first_number()
        yield first
        known, last = self._uploader._conflicts(self._base_key, self._content.sha256)
        if known is not None and known != first:
            yield known
        yield from range(max(first, min(last, MAX_CONFLICTS)) + 1, LAST_CONFLICT + 1)

    def _found_elsewhere(self) -> tuple[str, _Placed] | None:
        """A key of an earlier day or session that holds these very bytes, where the ledger that knew it was lost."""
        version = self._job.version
        for key in self._uploader._elsewhere(version.path, version.size_bytes):
            _, info = self._look(key)
            if info is not None and (placed := self._recognise(key, info)) is not None:
                return key, placed
        return None

    def _first_number(self) -> int:
        """How far an earlier attempt with these bytes came: the names before were taken, and parts may wait there.

        Begun at the first name each time, a large file whose parts are interrupted now and then would never arrive.
        """
        if self._job.key is None or self._job.sha256 != self._content.sha256:
            return 0
        return conflict_number(self._base_key, self._job.key, self._content.sha256) or 0

    def _place_at(self, key: str, *, head_first: bool) -> _Placed | None:
        """Put the bytes at `key`; None where it is taken by other bytes."""
        self._note(key)
        supports = self._supports()
        # Before a multipart upload a HEAD is cheap beside what would be sent in vain.
        if head_first or supports is not CreateOnly.HONOURED or not self._single:
            known, info = self._look(key)
            if info is not None:
                return self._recognise(key, info)
            if not known and supports is CreateOnly.UNKNOWN:
                self._uploader._probe_alone(self._supports, self._journal)
                supports = self._supports()
            if not known and supports in (CreateOnly.IGNORED, CreateOnly.REJECTED):
                logger.warning(
                    "%s: the store neither honours create-only writes nor lets this key look:"
                    " an object with this name would be replaced.",
                    key,
                )
        try:
            return self._send(key, create_only=True)
        except ConditionsRejected:
            return self._place_at(key, head_first=True)
        except ObjectExists:
            known, info = self._look(key)
            if info is not None:
                return self._recognise(key, info)
            if not known:
                return None  # taken, and we may not see by what
            raise StoreError("PutObject", key, explain("OperationAborted"), status=412) from None

    def _supports(self) -> CreateOnly:
        able = self._store.capabilities
        return able.create_only if self._single else able.create_only_multipart

    def _look(self, key: str) -> tuple[bool, ObjectInfo | None]:
        """Return whether this key may look, and what is there."""
        return head_if_allowed(self._store, key)

    def _recognise(self, key: str, info: ObjectInfo) -> _Placed | None:
        """Whether the object at `key` holds our bytes."""
        proof = self._proof_of(key, info)
        if proof is None:
            return None
        self._drop_multipart(key)
        self._sent.add(self._content.size_bytes)
        # An ETag without a look at the bytes would make whatever they are count as proven from now on.
        etag = None if proof is Proof.ACCEPTED else info.etag
        return _Placed(etag, already=True, ours=self._is_ours(info), proof=proof)

    def _is_ours(self, info: ObjectInfo) -> bool:
        return info.metadata.get("archive-token") == self._job.token

    def _proof_of(self, key: str, info: ObjectInfo) -> Proof | None:
        """Return how this object is proven to hold our bytes; None where it holds others."""
        content = self._content

        def has_etag(etag: str) -> bool:
            # Only of an archive's object: others may have been made to have the same MD5.
            return info.sha256 is not None and etag == self._etag_like(etag)

        expected = Expected(content.size_bytes, content.sha256, has_etag=has_etag)
        # Only an attempt of our own may be believed unread: the store took its bytes with their checksum.
        accepted = self._is_ours(info) and info.sha256 == content.sha256
        return prove(self._store, key, info, expected, accepted=accepted)

    def _etag_like(self, etag: str) -> str | None:
        """What the ETag of our bytes is, where ETags are made of MD5: of the body, or of the parts' MD5s and a count.

        The second as AWS makes it: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
        """
        body = self._content.body
        count = len(self._content.part_sha256)
        if body is not None:
            return md5_of(body)
        if not etag.endswith(f"-{count}"):
            return None
        parts = (self._piece(*self._extent(number), number) for number in range(1, count + 1))
        digests = b"".join(bytes.fromhex(md5_of(part)) for part in parts)
        return f"{md5_of(digests)}-{count}"

    def _note(self, key: str) -> None:
        """Commit where the bytes go; an older multipart upload for other bytes or another key is over."""
        sha256 = self._content.sha256
        if self._upload_id and self._upload_of != (key, sha256):
            self._drop_multipart(key)
        self._journal.attempt(sha256=sha256, base_key=self._base_key, key=key)

    def _drop_multipart(self, key: str) -> None:
        if self._upload_id:
            noted = self._upload_of[0] or key
            self._journal.abandon(noted, self._upload_id)
            self._uploader.abandon(noted, self._upload_id)
            self._upload_id = None

    # --- sending

    def _send(self, key: str, *, create_only: bool) -> _Placed:
        etag, proven = (
            self._send_whole(key, create_only=create_only)
            if self._single
            else self._send_parts(key, create_only=create_only)
        )
        proof = Proof.CHECKSUM if proven and can_be_confirmed(key) else self._prove(key)
        if create_only and self._single:
            self._uploader._probe(key, self._content, self._metadata_at(key), self._media_type, self._journal)
        return _Placed(etag, already=False, ours=True, proof=proof)

    def _metadata_at(self, key: str) -> Mapping[str, str]:
        """The object's metadata; where the key does not say the file's path, that says it."""
        path = path_metadata(self._job.version.path, self._base_key, key)
        return self._metadata if path is None else {**self._metadata, "path": path}

    def _send_whole(self, key: str, *, create_only: bool) -> tuple[str | None, bool]:
        body = self._content.body
        assert body is not None
        result = self._store.put(
            key,
            body,
            sha256=self._content.sha256,
            content_type=self._media_type,
            metadata=self._metadata_at(key),
            create_only=create_only,
            progress=self._sent.add,
        )
        return result.etag, result.proven

    def _send_parts(self, key: str, *, create_only: bool) -> tuple[str | None, bool]:
        with self._uploader.in_hand(key):
            return self._send_parts_in_hand(key, create_only=create_only)

    def _send_parts_in_hand(self, key: str, *, create_only: bool) -> tuple[str | None, bool]:
        upload_id, have = self._resume(key)
        if upload_id is None:
            self._upload_id = self._uploader.intent()
            self._upload_of = (key, self._content.sha256)
            self._journal.multipart(self._upload_id, self._content.part_size_bytes)
            upload_id = self._store.create_multipart(
                key, content_type=self._media_type, metadata=self._metadata_at(key)
            )
            self._upload_id = upload_id
            self._journal.multipart(upload_id, self._content.part_size_bytes)
        try:
            parts = self._upload_missing(key, upload_id, have)
            result = self._complete(key, upload_id, parts, create_only=create_only)
        except FileChanged:
            self._drop_multipart(key)
            raise
        except ObjectExists:
            # Another archiver was first, or the answer to our own Complete was lost and the SDK asked again.
            self._drop_multipart(key)
            raise
        except StoreError as error:
            if error.failure.code in ("NoSuchUpload", "ConditionalRequestConflict", "InvalidPart"):
                # The next attempt begins a new upload, as S3 asks after a 409:
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
                self._drop_multipart(key)
            raise
        self._upload_id = None
        self._journal.multipart(None, None)
        return result, all(part.proven for part in parts)

    def _complete(self, key: str, upload_id: str, parts: list[Part], *, create_only: bool) -> str | None:
        """Make the parts an object, after a last look where the store does not refuse to overwrite."""
        if create_only and self._supports() is not CreateOnly.HONOURED:
            known, info = self._look(key)
            if known and info is not None:
                raise ObjectExists("CompleteMultipartUpload", key, explain("PreconditionFailed"), status=412)
        try:
            return self._store.complete_multipart(key, upload_id, parts, create_only=create_only)
        except ConditionsRejected:
            if not create_only:
                raise
            # Nothing was written and the parts are still there: look again, and leave the condition out.
            known, info = self._look(key)
            if known and info is not None:
                raise ObjectExists(
                    "CompleteMultipartUpload", key, explain("PreconditionFailed"), status=412
                ) from None
            return self._store.complete_multipart(key, upload_id, parts, create_only=False)

    def _resume(self, key: str) -> tuple[str | None, dict[int, Part]]:
        """The multipart upload that an earlier attempt left, with the parts that hold our bytes."""
        job, content = self._job, self._content
        if self._upload_id is not None and self._upload_id.startswith(INTENT):
            self._drop_multipart(key)
        if (
            self._upload_id is None
            or self._upload_of != (key, content.sha256)
            or (self._upload_id == job.upload_id and job.part_size_bytes != content.part_size_bytes)
        ):
            return None, {}
        try:
            found = self._store.list_parts(key, self._upload_id)
        except StoreError as error:
            if error.failure.code == "NoSuchUpload" or error.status == 404 or is_denied(error):
                self._drop_multipart(key)
                return None, {}
            raise
        have: dict[int, Part] = {}
        for part in found:
            if 1 <= part.number <= len(content.part_sha256) and self._same_part(part):
                have[part.number] = part
                self._sent.add(part.size_bytes)
        logger.info("%s goes on with %d of %d parts", key, len(have), len(content.part_sha256))
        return self._upload_id, have

    def _same_part(self, part: Part) -> bool:
        offset, length = self._extent(part.number)
        if part.size_bytes != length:
            return False
        if part.sha256 is not None:
            return part.sha256 == self._content.part_sha256[part.number - 1]
        return part.etag.strip('"').lower() == md5_of(self._piece(offset, length, part.number))

    def _extent(self, number: int) -> tuple[int, int]:
        size = self._content.part_size_bytes
        offset = (number - 1) * size
        return offset, min(size, self._content.size_bytes - offset)

    def _piece(self, offset: int, length: int, number: int) -> bytes:
        """A part's bytes, which must still be those that were hashed."""
        data = self._read(offset, length)
        self._check_piece(data, number)
        return data

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return read_at(self._job.root, self._job.version, self._source, offset, length)
        except OSError as error:
            raise unreadable(self._job, error) from error

    def _check_piece(self, data: bytes, number: int) -> None:
        if hashlib.sha256(data).hexdigest() != self._content.part_sha256[number - 1]:
            raise FileChanged(self._job.version.path)

    def _send_part(self, key: str, upload_id: str, number: int, pacer: PartPacer) -> Part:
        """Send a part and make sure that its bytes are those that were hashed.

        A store that answers with the SHA-256 which was to come has computed it of what came; elsewhere it is computed
        here once more.
        """
        offset, length = self._extent(number)
        sha256 = self._content.part_sha256[number - 1]
        with self._uploader._budget.hold(length):
            data = self._read(offset, length)
            if len(data) != length or has_changed(self._source, self._job):
                raise FileChanged(self._job.version.path)

            def progress(count: int) -> None:
                pacer.sent(number, count)
                self._sent.add(count)

            pacer.begin(number)
            try:
                part = self._store.upload_part(key, upload_id, number, data, sha256=sha256, progress=progress)
            except StoreError:
                self._check_piece(data, number)  # then it is no fault of the store's
                raise
            if part.sha256 != sha256:
                self._check_piece(data, number)
            return part

    def _upload_missing(self, key: str, upload_id: str, have: dict[int, Part]) -> list[Part]:
        """Send the parts that the store does not have, in their order; how many at once, pacing.py decides."""
        pacer = PartPacer(self._uploader._line)
        futures: list[Future[Part]] = []
        for number in range(1, len(self._content.part_sha256) + 1):
            if number in have:
                continue
            if not pacer.wait_for_turn(number, self._extent(number)[1]):
                break
            futures.append(self._begin_part(key, upload_id, number, pacer))
        fresh = _all_or_first_error(futures)
        return sorted([*have.values(), *fresh], key=lambda part: part.number)

    def _begin_part(self, key: str, upload_id: str, number: int, pacer: PartPacer) -> Future[Part]:
        executor = self._uploader._parts
        future: Future[Part] = Future()
        if executor is not None:
            try:
                future = executor.submit(self._send_part, key, upload_id, number, pacer)
            except RuntimeError:  # the pool has ended, as with the parts that it never began
                future.cancel()
                future.set_running_or_notify_cancel()  # without it `wait` would not end
        else:
            try:
                future.set_result(self._send_part(key, upload_id, number, pacer))
            except Exception as error:
                future.set_exception(error)
        # Also called where the executor ends before the part was begun.
        future.add_done_callback(lambda done: pacer.end(number, arrived=_arrived(done)))
        return future

    # --- proof

    def _prove(self, key: str) -> Proof:
        """Prove bytes that the answer to their upload did not prove, by a HEAD or by reading them back.

        Raises:
            StoreError: code `Unproven` where the bucket holds something else.
        """
        allowed, info = self._look(key)
        expected = Expected(self._content.size_bytes, self._content.sha256)
        gone = allowed and info is None
        proof = None if gone else prove(self._store, key, info, expected, accepted=True)
        if proof is None:
            raise StoreError("HeadObject" if gone else "GetObject", key, explain("Unproven"))
        return proof


def _arrived(part: Future[Part]) -> bool:
    return not part.cancelled() and part.exception() is None


def _all_or_first_error(futures: list[Future[Part]]) -> list[Part]:
    """Wait for all; at the first failure the rest is not begun, and what runs is waited for."""
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
