"""Upload files for all workers: prepare, send, and check again if another writer may have replaced an object.

`attempt` describes the protocol of one upload.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType

from ..errors import StoreError
from ..ledger.rows import Claim
from ..store.base import ObjectStore
from ..store.evidence import Expected, Proof, Verdict, check_object, compare, head_if_allowed
from ..store.failures import explain
from .abandoned import AbandonedUploads, StoreProbes
from .attempt import Attempt
from .memory import ByteBudget
from .outcome import Journal, Outcome, Prepared, SentBytes
from .pacing import Line
from .source import bytes_in_memory, has_changed, opened, part_size_or_zero, read_content

logger = logging.getLogger("cloud_archive.upload")

CONFIRM_AFTER_SECONDS = 2.0  # longer than another writer usually takes from its HEAD to the end of its PUT
MAX_REPLACED = 20  # how often other writers may replace the object before the upload fails


class Uploader:
    """Upload one file at a time in each calling thread; one instance serves all workers.

    Args:
        make_key: returns the object key for a relative path; called at each attempt until one has noted its key.
        rename: True = keep an object that has taken the key, and use the next conflict name; False = replace it.
        part_executor: sends the parts of large files in parallel; None = one after another.
        budget: default: `memory.BUDGET_BYTES`.
        on_aborted: called with key and upload id of each multipart upload that no longer needs an abort.
        elsewhere: called with a path and a size in bytes; returns keys that may hold the file already, see
            `lost_keys.BucketIndex`.
        conflicts: called with a base key and a SHA-256; see `ClaimLedger.conflicts`.
    """

    def __init__(
        self,
        store: ObjectStore,
        root: Path,
        *,
        make_key: Callable[[str], str],
        session_id: str,
        rename: bool = True,
        part_executor: Executor | None = None,
        budget: ByteBudget | None = None,
        on_aborted: Callable[[str, str], None] = lambda key, upload_id: None,
        elsewhere: Callable[[str, int], Sequence[str]] = lambda path, size_bytes: (),
        conflicts: Callable[[str, str], tuple[int | None, frozenset[int]]] = lambda key, sha256: (
            None,
            frozenset(),
        ),
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._wait = wait
        self._store = store
        self._root = root
        self._make_key = make_key
        self._session_id = session_id
        self._rename = rename
        self._part_executor = part_executor
        self._line = Line()
        self._budget = budget or ByteBudget()
        self._uploads = AbandonedUploads(store, on_aborted)
        self._probes = StoreProbes(store, self._uploads)
        self._elsewhere = elsewhere
        self._conflicts = conflicts
        self.abort_unless_in_use = self._uploads.abort_unless_in_use
        self.abort = self._uploads.abort

    def upload(self, claim: Claim, journal: Journal, progress: Callable[[int], None]) -> Outcome:
        """Upload one version: `prepare`, `send` and `confirm_unprotected`."""
        with self.hold_memory([claim]):
            # In a method of its own, so that the body is gone before its memory is released.
            return self._upload(claim, journal, progress)

    def _upload(self, claim: Claim, journal: Journal, progress: Callable[[int], None]) -> Outcome:
        if self._part_executor is not None and part_size_or_zero(claim.version.size_bytes):
            self._part_executor.submit(self._store.warm_up, in_parts=True)  # while the file is hashed
        with self.prepare(claim) as prepared:
            outcome = self.send(prepared, journal, progress)
            return self.confirm_unprotected(prepared, outcome, journal, progress)

    def hold_memory(self, claims: Sequence[Claim]) -> AbstractContextManager[None]:
        """Hold the memory for the files of these claims; enter this before any of them is prepared."""
        return self._budget.hold(sum(bytes_in_memory(claim) for claim in claims))

    @contextmanager
    def prepare(self, claim: Claim) -> Iterator[Prepared]:
        """Open the file, read and hash it, and render its key if no attempt has noted one.

        Raises FileProblem, or KeyRejected if no key can be made.
        """
        with opened(self._root, claim) as source:
            base_key = claim.base_key or self._make_key(claim.version.path)
            prepared = Prepared(self._root, claim, source, read_content(source, claim), base_key)
            try:
                yield prepared
            finally:  # frames of a failed request may hold it until the next garbage collection; see `_let_go`
                prepared.content = prepared.content._replace(body=None)

    def send(self, prepared: Prepared, journal: Journal, progress: Callable[[int], None]) -> Outcome:
        """Send a prepared file, and prove that the bucket holds its bytes.

        Args:
            progress: called with the total of bytes sent or found so far, from any thread.

        Raises:
            FileProblem: the local file changed, vanished or can't be read.
            KeyRejected: every key is taken.
            StoreError: the store refused or did not answer.
        """
        claim, content = prepared.claim, prepared.content
        attempt = Attempt(self, prepared, journal, SentBytes(progress))
        try:
            key, placed = attempt.place()
        except BaseException as error:
            del attempt, content
            _let_go(error)
            raise
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

    def confirm_unprotected(
        self, prepared: Prepared, outcome: Outcome, journal: Journal, progress: Callable[[int], None]
    ) -> Outcome:
        """Check, two seconds after the object was written or found, that it was not replaced.

        Does nothing if it can't have been, or if HEAD is denied. If it was, uploads the file under the next conflict
        name, and checks that object as well.

        Raises what `send` raises, and StoreError if the object is replaced again and again.
        """
        for _ in range(MAX_REPLACED):
            if outcome.unprotected_at is None:
                return outcome
            confirm_at = outcome.unprotected_at + CONFIRM_AFTER_SECONDS
            # A probe that is under way usually ends before that, and often shows that no check is needed.
            self._probes.wait_for_end(confirm_at - time.monotonic())
            capabilities = self._store.capabilities
            if capabilities.refuses(in_parts=outcome.in_parts) or capabilities.can_head is False:
                return outcome
            self._wait(max(0.0, confirm_at - time.monotonic()))
            allowed, info = head_if_allowed(self._store, outcome.key, needed=True)
            if not allowed:
                return outcome
            expected = Expected(prepared.content.size_bytes, outcome.sha256, outcome.etag)
            ours = info is not None and info.metadata.get("archive-token") == prepared.claim.token
            # An attempt at an older version of the file used the same token, and its PUT may have arrived late.
            if info is not None and ours and compare(info, expected) is not Verdict.DIFFERENT:
                # An object that was only accepted was not read, so its ETag must not prove it from now on.
                etag = None if outcome.proof is Proof.ACCEPTED else info.etag
                return outcome._replace(etag=outcome.etag or etag)
            if check_object(self._store, outcome.key, expected) is Verdict.SAME:
                return outcome
            logger.warning("%s was replaced in the same moment", outcome.key)
            outcome = self.send(prepared, journal, progress)
        raise StoreError("HeadObject", outcome.key, explain("Unproven"))


def _let_go(error: BaseException | None) -> None:
    """Let go of the body of a failed request: clear the frames that hold it.

    Those of the SDK and its exceptions hold each other, so they would stay until the next garbage collection.
    """
    while error is not None:
        step = error.__traceback__
        while step is not None:
            frame: FrameType | None = step.tb_frame
            with suppress(RuntimeError):  # it still runs, and so do those that called it
                while frame is not None:
                    frame.clear()
                    frame = frame.f_back
            step = step.tb_next
        error = error.__cause__ or error.__context__
