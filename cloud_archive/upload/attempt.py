"""Upload one file and prove that it is in the bucket.

The protocol. The process may be killed after any step:

1. Read and hash; the journal commits the hash and the key before the first byte is sent.
2. Create-only PUT (one request, up to `SINGLE_PUT_BYTES`) or multipart upload (above), with the SHA-256 in the
   object's metadata and an integrity header on every body. If only multipart uploads are create-only in this store,
   small files are multipart uploads of one part. With rename off, no write is create-only.
3. If the key is taken (412): HEAD. The same bytes: they are archived already, by us or another writer. Other bytes:
   the next conflict name.
4. The store's answer proves the bytes by a checksum. If it doesn't, a HEAD may, or the object is read back and hashed.
   With credentials that may not read, it is proof enough that the store accepted the bytes with their integrity header.
5. After an attempt that ended in doubt, the next one recognises in step 3 what arrived.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConditionsRejected, KeyRejected, ObjectExists, StoreError
from ..files import format_timestamp_ns
from ..keys import LAST_CONFLICT, MAX_CONFLICTS, conflict_key, conflict_number, path_metadata
from ..store.base import OVERWRITES, CreateOnly, ObjectInfo
from ..store.evidence import (
    Expected,
    Proof,
    Verdict,
    can_be_confirmed,
    compare,
    head_if_allowed,
    md5_of,
    prove,
)
from ..store.failures import explain
from .multipart import MultipartUpload
from .outcome import Journal, Prepared, SentBytes
from .source import content_type

if TYPE_CHECKING:
    from .uploader import Uploader

logger = logging.getLogger("cloud_archive.upload")


class _Placed(NamedTuple):
    """What an `Outcome` says about the object."""

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
            # Seconds since 1970 with nine decimals, under rclone's name, so that rclone restores the mtime too:
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
            part_executor=uploader._part_executor,
            budget=uploader._budget,
            line=uploader._line,
        )

    @property
    def _single(self) -> bool:
        """Whether to send the file in one request: no if it is large, or only multipart uploads are create-only."""
        capabilities = self._store.capabilities
        one_part = (
            self._uploader._rename
            and capabilities.create_only in OVERWRITES
            and capabilities.create_only_multipart is CreateOnly.HONOURED
        )
        return self._content.body is not None and not one_part

    def place(self) -> tuple[str, _Placed]:
        """Try keys until one takes the bytes or holds them already; with rename off, write to the base key.

        Raises what `Uploader.send` raises.
        """
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
        """Yield the conflict numbers: `_first_number`, that of the same bytes, then those not known to be taken.

        Numbers between our own are tried, because another machine may hold the same bytes there. Once ours exceed 100,
        the names with the SHA-256 come at once, to save requests.
        """
        first = self._first_number()
        yield first
        known, ours = self._uploader._conflicts(self._base_key, self._content.sha256)
        if known is not None and known != first:
            yield known
        start = MAX_CONFLICTS if max(ours, default=0) > MAX_CONFLICTS else 0
        for number in range(max(first, start) + 1, LAST_CONFLICT + 1):
            if number > MAX_CONFLICTS or number not in ours:
                yield number

    def _found_elsewhere(self) -> tuple[str, _Placed] | None:
        version = self._claim.version
        for key in self._uploader._elsewhere(version.path, version.size_bytes):
            self._note(key)  # so that `prune` deletes no object that proves this file
            _, info = head_if_allowed(self._store, key)
            if info is not None and (placed := self._recognise(key, info)) is not None:
                return key, placed
        return None

    def _first_number(self) -> int:
        """Return the conflict number that an earlier attempt with these bytes reached, else 0."""
        # Parts may be there; an attempt that begins at 0 would drop them.
        if self._claim.key is None or self._claim.sha256 != self._content.sha256:
            return 0
        return conflict_number(self._base_key, self._claim.key, self._content.sha256) or 0

    def _place_at(self, key: str, *, head_first: bool) -> _Placed | None:
        """Upload the bytes to `key`, or find them there; None: other bytes have taken the key."""
        self._note(key)
        if self._single:
            self._uploader._probes.probe_multipart(self._journal)
        else:
            # Load the SDK, so that it sends the HEAD below. Its answer shows the store's clock, which the note of a
            # multipart upload needs.
            self._store.warm_up(in_parts=True)
        supports = self._supports()
        # Before a multipart upload a HEAD costs little, and a taken key would waste all parts.
        if head_first or supports is not CreateOnly.HONOURED or not self._single:
            allowed, info = head_if_allowed(self._store, key)
            if info is not None:
                return self._recognise(key, info)
            if not allowed and supports is CreateOnly.UNKNOWN:
                self._uploader._probes.probe_with_own_object(self._supports, self._journal)
                supports = self._supports()
            if not allowed and supports is not CreateOnly.HONOURED:
                # Raises if HEADs were allowed before.
                allowed, info = head_if_allowed(self._store, key, needed=True)
                if info is not None:
                    return self._recognise(key, info)
            if not allowed and supports in OVERWRITES:
                logger.warning(
                    "%s: the store honours no create-only writes and denies HEAD to these credentials,"
                    " so an object with this name would be replaced.",
                    key,
                )
        try:
            return self._send(key, create_only=True)
        except ConditionsRejected:
            return self._place_at(key, head_first=True)
        except ObjectExists:
            allowed, info = head_if_allowed(self._store, key)
            if info is not None:
                return self._recognise(key, info)
            if not allowed or self._is_folder(key):
                return None  # taken
            raise StoreError("PutObject", key, explain("OperationAborted"), status=412) from None

    def _is_folder(self, key: str) -> bool:
        """Return whether there are objects below `key`: SeaweedFS then refuses a create-only write to it."""
        try:
            return next(self._store.list(f"{key}/", limit=1), None) is not None
        except StoreError:
            return False  # it is tried again

    def _supports(self) -> CreateOnly:
        return self._store.capabilities.writes(in_parts=not self._single)

    def _recognise(self, key: str, info: ObjectInfo) -> _Placed | None:
        proof = self._proof_of(key, info)
        if proof is None:
            return None
        self._multipart.drop(key)
        self._sent.add(self._content.size_bytes)
        # These bytes were not read, so their ETag must not prove them from now on.
        etag = None if proof is Proof.ACCEPTED else info.etag
        ours = self._is_ours(info)
        # An attempt whose answer was lost may have written it a moment ago.
        unprotected = ours and not self._store.capabilities.refuses(in_parts=not self._single)
        return _Placed(
            etag,
            already=True,
            ours=ours,
            proof=proof,
            in_parts=not self._single,
            unprotected_at=time.monotonic() if unprotected else None,
        )

    def _is_ours(self, info: ObjectInfo) -> bool:
        return info.metadata.get("archive-token") == self._claim.token

    def _proof_of(self, key: str, info: ObjectInfo) -> Proof | None:
        content = self._content

        def has_etag(etag: str) -> bool:
            # Trust MD5 only for an archive's object: another object may have been made to have the same MD5.
            if info.sha256 is None:
                return False
            if content.body is not None:
                return etag == md5_of(content.body) or self._multipart.has_etag(etag)
            return self._multipart.has_etag(etag)

        expected = Expected(content.size_bytes, content.sha256, has_etag=has_etag)
        # If reading is denied, only an object of this row counts: the store accepted its bytes with their checksum.
        accepted = self._is_ours(info) and info.sha256 == content.sha256
        return prove(self._store, key, info, expected, accepted=accepted)

    def _note(self, key: str) -> None:
        """Note in the journal where the bytes go, and abort a multipart upload of other bytes or to another key."""
        self._multipart.drop_unless(key)
        self._journal.attempt(sha256=self._content.sha256, base_key=self._base_key, key=key)

    def _send(self, key: str, *, create_only: bool) -> _Placed:
        single = self._single
        etag, proven = (
            self._send_whole(key, create_only=create_only)
            if single
            else self._send_parts(key, create_only=create_only)
        )
        capabilities = self._store.capabilities
        unsafe = capabilities.may_overwrite(in_parts=not single)
        gets_head_later = unsafe and create_only and capabilities.can_head is not False
        if proven and (etag is not None or gets_head_later) and can_be_confirmed(key):
            proof = Proof.CHECKSUM
        else:
            proof, etag = self._prove(key, etag, proven=proven)
        written_at = time.monotonic()
        if create_only and single:
            metadata = self._metadata_at(key)
            self._uploader._probes.probe_with(key, self._content, metadata, self._media_type, self._journal)
        protected = not create_only or self._store.capabilities.refuses(in_parts=not single)
        return _Placed(
            etag,
            already=False,
            ours=True,
            proof=proof,
            in_parts=not single,
            unprotected_at=None if protected else written_at,
        )

    def _metadata_at(self, key: str) -> Mapping[str, str]:
        """Return the object's metadata, with the file's path if the key does not show it."""
        path = path_metadata(self._claim.version.path, self._base_key, key)
        return self._metadata if path is None else {**self._metadata, "path": path}

    def _send_parts(self, key: str, *, create_only: bool) -> tuple[str | None, bool]:
        """Return what `_send_whole` does."""
        uploader = self._uploader
        probe = uploader._probes.probe_beside_parts(self._journal, uploader._part_executor)
        with probe if create_only else nullcontext():
            return self._multipart.send(
                key, media_type=self._media_type, metadata=self._metadata_at(key), create_only=create_only
            )

    def _send_whole(self, key: str, *, create_only: bool) -> tuple[str | None, bool]:
        """Return the object's ETag, and whether the answer proved the bytes."""
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
        """Prove bytes for which the answer to their upload is not enough, by a HEAD or by reading them back.

        `etag` and `proven` are what the answer said. Return how the bytes are proven, and the object's ETag if it is
        known. Raises StoreError, with the code `Unproven` if the bucket holds something else or nothing.
        """
        allowed, info = head_if_allowed(self._store, key)
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
