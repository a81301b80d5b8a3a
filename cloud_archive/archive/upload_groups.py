"""Upload small files in groups: one commit for all claims, one for all keys, one for all proofs.

So a slow fsync does not limit how many files are uploaded per second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from ..errors import CloudArchiveError, KeyBeingPruned
from ..ledger.rows import Claim, PlannedUpload
from ..upload.memory import BUDGET_BYTES
from ..upload.outcome import Outcome, Prepared
from .claim_uploads import ClaimUploads

GROUP_FILES = 32
OPEN_FILES = 256  # the most that the groups of all workers hold open; see `process.raise_open_files_limit`
MIN_GROUP_BYTES = 1024 * 1024
MAX_GROUP_BYTES = 6 * 1024 * 1024  # less than any file that is uploaded in parts


def group_size(workers: int) -> int:
    """Return how many files each of `workers` workers may claim at once."""
    return max(1, min(GROUP_FILES, OPEN_FILES // workers))


def group_bytes(workers: int) -> int:
    """Return how many bytes of files each of `workers` workers may claim at once.

    With up to 48 workers, all groups together fit into the memory for uploads, so that none waits for another.
    """
    return max(MIN_GROUP_BYTES, min(MAX_GROUP_BYTES, BUDGET_BYTES // workers))


def upload_group(uploads: ClaimUploads, claims: list[Claim], *, interrupted: Callable[[], bool]) -> int:
    """Upload claimed versions that were never tried before. Each failure has a commit of its own.

    Args:
        claims: of small files; see `group_bytes`.
        interrupted: called before each upload; True sends the rest back to the queue.

    Returns:
        How many were tried; the others are in the queue again.

    Raises:
        LedgerError: a step could not be committed. The next call that claims, or `requeue_due`, releases the claims.
    """
    ledger, uploader = uploads.ledger, uploads.uploader
    waiting = {claim.name: claim for claim in claims}  # not sent yet, and no result committed
    done: list[tuple[Claim, Outcome]] = []
    try:
        # For all files at once: waiting for more memory while holding some could deadlock.
        with uploader.hold_memory(claims):
            # In a function of its own, so that its bodies are gone before their memory is released.
            _upload_all(uploads, waiting, done, interrupted)
        uploads.finish(done)
        ledger.unclaim(list(waiting.values()))
    except BaseException:
        for claim in (*waiting.values(), *(claim for claim, _ in done)):
            ledger.release_later(claim)
        raise
    finally:
        uploads.end(claims)
    return len(claims) - len(waiting)


def _upload_all(
    uploads: ClaimUploads,
    waiting: dict[str, Claim],
    done: list[tuple[Claim, Outcome]],
    interrupted: Callable[[], bool],
) -> None:
    """Move each claim from `waiting` to `done` when it is uploaded, and out of both when it has failed."""
    with contextlib.ExitStack() as files:
        ready = _prepare(uploads, waiting, files)
        pruned = uploads.ledger.record_attempts(
            [PlannedUpload(c, p.content.sha256, p.base_key, p.base_key) for c, p in ready]
        )
        for claim, prepared in ready:
            if prepared.base_key in pruned:
                uploads.fail(claim, KeyBeingPruned(prepared.base_key))
                del waiting[claim.name]
                continue
            if interrupted():
                break
            outcome = uploads.attempt(claim, partial(uploads.uploader.send, prepared), recorded=True)
            del waiting[claim.name]
            if isinstance(outcome, Outcome):
                done.append((claim, outcome))
        # After all uploads, so that the group pauses only once before these checks.
        done[:] = _confirm_unprotected(uploads, {claim.name: prepared for claim, prepared in ready}, done)


def _confirm_unprotected(
    uploads: ClaimUploads, prepared: dict[str, Prepared], done: list[tuple[Claim, Outcome]]
) -> list[tuple[Claim, Outcome]]:
    """Check the uploads that another writer may have replaced. Commit each failure, and return the others."""
    confirmed: list[tuple[Claim, Outcome]] = []
    for claim, outcome in done:
        result: Outcome | CloudArchiveError = outcome
        if outcome.unprotected_at is not None:
            result = uploads.attempt(
                claim, partial(uploads.uploader.confirm_unprotected, prepared[claim.name], outcome)
            )
        if isinstance(result, Outcome):
            confirmed.append((claim, result))
    return confirmed


def _prepare(
    uploads: ClaimUploads, waiting: dict[str, Claim], files: contextlib.ExitStack
) -> list[tuple[Claim, Prepared]]:
    """Read and hash all files. One that can't be read is committed as such, and leaves `waiting`."""
    ready: list[tuple[Claim, Prepared]] = []
    for claim in list(waiting.values()):
        try:
            prepared = files.enter_context(uploads.uploader.prepare(claim))
        except CloudArchiveError as error:
            uploads.fail(claim, error)
            del waiting[claim.name]
        else:
            ready.append((claim, prepared))
    return ready
