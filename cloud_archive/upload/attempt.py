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

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConditionsRejected, KeyRejected, ObjectExists, StoreError
from ..files import format_timestamp_ns
from ..keys import LAST_CONFLICT, MAX_CONFLICTS, conflict_key, conflict_number, path_metadata
from ..ledger.rows import Claim
from ..store.base import CreateOnly, ObjectInfo, ObjectStore
from ..store.evidence import (
    Expected,
    Proof,
    Verdict,
    can_be_confirmed,
    check_object,
    compare,
    head_if_allowed,
    prove,
)
from ..store.failures import explain
from .abandoned import AbandonedUploads, StoreProbes
from .memory import ByteBudget
from .multipart import MultipartUpload
from .outcome import Journal, Outcome, Prepared, SentBytes
from .pacing import Line
from .source import content_type, has_changed, md5_of, opened, read_content, whole_bytes

__all__ = ["Journal", "Outcome", "Prepared", "Uploader"]

logger = logging.getLogger("cloud_archive.upload")

LOOK_AGAIN_SECONDS = 2.0  # longer than another writer takes from its HEAD to the end of its PUT
MAX_REPLACED = 20
_OVERWRITES = (CreateOnly.IGNORED, CreateOnly.REJECTED)


@dataclass(frozen=True, slots=True)
class _Placed:
    etag: str | None
    already: bool
    ours: bool
    proof: Proof
    in_parts: bool = False
    unprotected_at: float | None = None


class Attempt:
    """One attempt at one version: chooses the key, sends the bytes, proves them."""

    def __init__(
        self,
        uploader: Uploader,
        prepared: Prepared,
        journal: Journal,
        sent: SentBytes,
    ) -> None:
        claim, content = prepared.claim, prepared.content
        self._uploader = uploader
        self._store = uploader._store
        self._claim = claim
        self._journal = journal
        self._content = content
        self._base_key = prepared.base_key
        self._sent = sent
        self._media_type = content_type(claim.version.name)
        self._metadata = {
            "sha256": content.sha256,
            # Seconds since 1970 with nine digits, under the name that rclone uses, so that it restores it too:
            # https://rclone.org/s3/#metadata
            "mtime": format_timestamp_ns(claim.version.mtime_ns),
            "archive-token": claim.token,
            "archive-session": uploader._session_id,
            "archived-at": format_timestamp_ns(int(uploader._uploads.store_time() * 1e9)),
        }
        self._multipart = MultipartUpload(
            self._store,
            prepared,
            journal,
            sent,
            uploads=uploader._uploads,
            parts=uploader._parts,
            budget=uploader._budget,
            line=uploader._line,
        )

    @property
    def _single(self) -> bool:
        """Whether the file goes in one request: not where only completing a multipart upload is create-only."""
        able = self._store.capabilities
        one_part = (
            self._uploader._rename
            and able.create_only in _OVERWRITES
            and able.create_only_multipart is CreateOnly.HONOURED
        )
        return self._content.body is not None and not one_part

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
        """Return a key of an earlier day or session that holds these bytes; the ledger that knew it was lost."""
        version = self._claim.version
        for key in self._uploader._elsewhere(version.path, version.size_bytes):
            _, info = self._look(key)
            if info is not None and (placed := self._recognise(key, info)) is not None:
                return key, placed
        return None

    def _first_number(self) -> int:
        """Return the conflict number that an earlier attempt with these bytes reached; its parts may be there.

        If each attempt began at the first name, a large file that is interrupted now and then would never arrive.
        """
        if self._claim.key is None or self._claim.sha256 != self._content.sha256:
            return 0
        return conflict_number(self._base_key, self._claim.key, self._content.sha256) or 0

    def _place_at(self, key: str, *, head_first: bool) -> _Placed | None:
        """Put the bytes at `key`; None where it is taken by other bytes."""
        self._note(key)
        if self._single:
            self._uploader._probes.probe_multipart(self._journal)
        supports = self._supports()
        # Before a multipart upload a HEAD is cheap beside what would be sent in vain.
        if head_first or supports is not CreateOnly.HONOURED or not self._single:
            known, info = self._look(key)
            if info is not None:
                return self._recognise(key, info)
            if not known and supports is CreateOnly.UNKNOWN:
                self._uploader._probes.probe_alone(self._supports, self._journal)
                supports = self._supports()
            if not known and supports is not CreateOnly.HONOURED:
                head_if_allowed(self._store, key, before_write=True)
            if not known and supports in _OVERWRITES:
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
        return self._store.capabilities.writes(in_parts=not self._single)

    def _look(self, key: str) -> tuple[bool, ObjectInfo | None]:
        """Return whether this key may look, and what is there."""
        return head_if_allowed(self._store, key)

    def _recognise(self, key: str, info: ObjectInfo) -> _Placed | None:
        """Return where the bytes are if the object at `key` holds them; None: it holds others."""
        proof = self._proof_of(key, info)
        if proof is None:
            return None
        self._multipart.drop(key)
        self._sent.add(self._content.size_bytes)
        # An ETag without a look at the bytes would make whatever they are count as proven from now on.
        etag = None if proof is Proof.ACCEPTED else info.etag
        return _Placed(etag, already=True, ours=self._is_ours(info), proof=proof)

    def _is_ours(self, info: ObjectInfo) -> bool:
        return info.metadata.get("archive-token") == self._claim.token

    def _proof_of(self, key: str, info: ObjectInfo) -> Proof | None:
        """Return how this object is proven to hold our bytes; None where it holds others."""
        content = self._content

        def has_etag(etag: str) -> bool:
            # Only of an archive's object: others may have been made to have the same MD5.
            if info.sha256 is None:
                return False
            if content.body is not None:
                return etag == md5_of(content.body) or self._multipart.has_etag(etag)
            return self._multipart.has_etag(etag)

        expected = Expected(content.size_bytes, content.sha256, has_etag=has_etag)
        # Only an attempt of our own may be believed unread: the store took its bytes with their checksum.
        accepted = self._is_ours(info) and info.sha256 == content.sha256
        return prove(self._store, key, info, expected, accepted=accepted)

    def _note(self, key: str) -> None:
        """Commit where the bytes go, and abort a multipart upload for other bytes or another key."""
        self._multipart.drop_unless(key)
        self._journal.attempt(sha256=self._content.sha256, base_key=self._base_key, key=key)

    def _send(self, key: str, *, create_only: bool) -> _Placed:
        single = self._single
        etag, proven = (
            self._send_whole(key, create_only=create_only)
            if single
            else self._multipart.send(
                key,
                media_type=self._media_type,
                metadata=self._metadata_at(key),
                create_only=create_only,
            )
        )
        able = self._store.capabilities
        supports = able.writes(in_parts=not single)
        looked_at_later = supports in _OVERWRITES and create_only and able.can_head is not False
        if proven and (etag is not None or looked_at_later) and can_be_confirmed(key):
            proof = Proof.CHECKSUM
        else:
            proof, etag = self._prove(key, etag, proven=proven)
        written_at = time.monotonic()
        if create_only and single:
            metadata = self._metadata_at(key)
            self._uploader._probes.probe_with(key, self._content, metadata, self._media_type, self._journal)
        protected = (
            not create_only or self._store.capabilities.writes(in_parts=not single) is CreateOnly.HONOURED
        )
        return _Placed(
            etag,
            already=False,
            ours=True,
            proof=proof,
            in_parts=not single,
            unprotected_at=None if protected else written_at,
        )

    def _metadata_at(self, key: str) -> Mapping[str, str]:
        """Return the object's metadata, with the file's path where the key does not show it."""
        path = path_metadata(self._claim.version.path, self._base_key, key)
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

    def _prove(self, key: str, etag: str | None, *, proven: bool) -> tuple[Proof, str | None]:
        """Prove bytes whose upload's answer lacks a checksum or an ETag, by a HEAD or by reading them back.

        Args:
            etag: from the answer.
            proven: the answers proved the bytes, so only the object's ETag is missing.

        Returns:
            How they are proven, and the object's ETag where it is known.

        Raises:
            StoreError: code `Unproven` where the bucket holds something else.
        """
        allowed, info = self._look(key)
        expected = Expected(self._content.size_bytes, self._content.sha256)
        gone = allowed and info is None
        if proven and not gone and can_be_confirmed(key):
            if info is None:
                return Proof.CHECKSUM, None
            if self._is_ours(info) and compare(info, expected) is not Verdict.DIFFERENT:
                return Proof.CHECKSUM, info.etag
        proof = None if gone else prove(self._store, key, info, expected, accepted=True)
        if proof is None:
            raise StoreError("HeadObject" if gone else "GetObject", key, explain("Unproven"))
        return proof, etag


class Uploader:
    """Uploads one file at a time per calling thread; one instance serves all workers.

    Args:
        store: the bucket.
        root: the directory that the claims' paths are relative to.
        make_key: relative path to object key; called at a file's first attempt only.
        session_id: goes into the objects' metadata.
        rename: True keeps what is in the bucket and takes the next conflict name; False replaces it.
        parts: runs the parts of large files side by side; None sends them one after another.
        budget: of the bytes that all uploads hold in memory.
        on_aborted: called with key and upload id of each multipart upload that needs no abort any more.
        elsewhere: called with a path and a size, names keys that may hold the file already; see `bucket_index`.
        conflicts: called with a base key and a SHA-256; see `Ledger.conflicts`.
        wait: waits so many seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        root: Path,
        *,
        make_key: Callable[[str], str],
        session_id: str,
        rename: bool = True,
        parts: Executor | None = None,
        budget: ByteBudget | None = None,
        on_aborted: Callable[[str, str], None] = lambda key, upload_id: None,
        elsewhere: Callable[[str, int], Sequence[str]] = lambda path, size_bytes: (),
        conflicts: Callable[[str, str], tuple[int | None, int]] = lambda base_key, sha256: (None, 0),
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._wait = wait
        self._store = store
        self._root = root
        self._make_key = make_key
        self._session_id = session_id
        self._rename = rename
        self._parts = parts
        self._line = Line()
        self._budget = budget or ByteBudget()
        self._uploads = AbandonedUploads(store, on_aborted)
        self._probes = StoreProbes(store, self._uploads)
        self._elsewhere = elsewhere
        self._conflicts = conflicts
        self.tidy = self._uploads.tidy
        self.abandon = self._uploads.abandon
        self.intent = self._uploads.intent

    def upload(self, claim: Claim, journal: Journal, progress: Callable[[int], None]) -> Outcome:
        """Upload one version: `prepare` and `send`, whose errors it raises."""
        with self.room([claim]), self.prepare(claim) as prepared:
            outcome = self.send(prepared, journal, progress)
            return self.look_again(prepared, outcome, journal, progress)

    def room(self, claims: Sequence[Claim]) -> AbstractContextManager[None]:
        """Wait for the memory that all of `claims` need at once; to be held while any of them is prepared."""
        return self._budget.hold(sum(whole_bytes(claim) for claim in claims))

    @contextmanager
    def prepare(self, claim: Claim) -> Iterator[Prepared]:
        """Open the file, read and hash it, and render its key at the first attempt.

        Raises:
            FileVanished, FileChanged, FileUnreadable: about the local file.
            KeyRejected: no key can be made.
            OSError: never; it is turned into one of the above.
        """
        with opened(self._root, claim) as source:
            content = read_content(source, claim)
            yield Prepared(
                self._root, claim, source, content, claim.base_key or self._make_key(claim.version.path)
            )

    def send(self, prepared: Prepared, journal: Journal, progress: Callable[[int], None]) -> Outcome:
        """Send a prepared file and prove it.

        Args:
            progress: called with the bytes sent so far, from any thread.

        Raises:
            FileChanged, FileUnreadable: about the local file.
            KeyRejected: every key is taken.
            StoreError: the store refused or did not answer.
        """
        claim, content = prepared.claim, prepared.content
        attempt = Attempt(self, prepared, journal, SentBytes(progress))
        key, placed = attempt.place()
        return Outcome(
            key=key,
            sha256=content.sha256,
            etag=placed.etag,
            already=placed.already,
            ours=placed.ours,
            proof=placed.proof,
            changed=has_changed(prepared.source, claim),
            base_key=prepared.base_key,
            read=content.read,
            in_parts=placed.in_parts,
            unprotected_at=placed.unprotected_at,
        )

    def look_again(
        self, prepared: Prepared, outcome: Outcome, journal: Journal, progress: Callable[[int], None]
    ) -> Outcome:
        """Make sure, a little later, that no other writer has replaced an object that was written unprotected.

        Where one has, the file is uploaded under the next name, which is looked at again as well.

        Raises:
            StoreError: the store refused or did not answer, or the object is replaced again and again.
        """
        for _ in range(MAX_REPLACED):
            able = self._store.capabilities
            # The probe may have ended since; while nothing is known, no request is spent.
            overwrites = able.writes(in_parts=outcome.in_parts) in _OVERWRITES
            if outcome.unprotected_at is None or not overwrites or able.can_head is False:
                return outcome
            self._wait(max(0.0, outcome.unprotected_at + LOOK_AGAIN_SECONDS - time.monotonic()))
            info = self._store.head(outcome.key)
            if info is not None and info.metadata.get("archive-token") == prepared.claim.token:
                return replace(outcome, etag=outcome.etag or info.etag)
            expected = Expected(prepared.content.size_bytes, outcome.sha256, outcome.etag)
            if check_object(self._store, outcome.key, expected) is Verdict.SAME:
                return outcome
            logger.warning("%s was replaced by another writer in the same moment", outcome.key)
            outcome = self.send(prepared, journal, progress)
        raise StoreError("HeadObject", outcome.key, explain("Unproven"))
