"""Find out what became of a file that a job wrote, from the ledger and the watched directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..catalog.jobs import CLOCK_TOLERANCE_SECONDS, USUAL_DIFFERENCE_SECONDS
from ..errors import FileProblem, FileVanished
from ..files import FileVersion, SkipReason, stat_version
from ..intake.selection import Selection
from ..ledger.history import rows_of_path
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow, FileState
from .records import JobRecord, Output
from .store import JobStore

OPEN_STATES = ("pending", "uploading", "retrying")
RECOVERABLE_STATES = ("failed", "baseline")  # a job can end with these, and they can still change
_OLDER = "It was there before archiving began. Archive such files with `cloud-archive upload --baseline`."
_GONE = "It was deleted before it could be archived."
_REPLACED = "It was replaced before it could be archived."
_BEHIND_LINK = "It is behind a symbolic link; links are not followed."


class Resolver:
    """Finds out where each output of a job is now. `root`: the watched directory."""

    def __init__(self, store: JobStore, root: Path, ledger: Ledger, selection: Selection) -> None:
        self._store = store
        self._root = root
        self._ledger = ledger
        self._selection = selection

    def resolve(self, job: JobRecord, output: Output, *, stays_empty: bool = False) -> Output:
        """Return the output with its present state. Any state but `OPEN_STATES` and `RECOVERABLE_STATES` is final.

        Args:
            stays_empty: a file that is empty now will not be written any more.
        """
        path = output.path
        if output.state is not None or path is None:
            return output
        finished_at = job.finished_at or 0.0
        if output.cached and (earlier := self._store.earlier_output(output, finished_at)) is not None:
            return _with_result(output, "archived", earlier.key, earlier.sha256, earlier.size_bytes)
        version, problem = self._read_version(path)
        replaced = version is not None and self._is_of_later_job(version, output, finished_at)
        if version is not None and not replaced:
            return self._of_version(output, version, stays_empty)
        rows = rows_of_path(
            self._ledger, path, 0.0 if output.cached else job.started_at - CLOCK_TOLERANCE_SECONDS
        )
        row = _written_at_end(rows, finished_at)
        if row is not None:
            return _of_row(output, row)
        if problem or not self._root.is_dir():
            return _with_result(output, "pending", reason=problem)
        if self._is_behind_link(path):
            return _with_result(output, "failed", reason=_BEHIND_LINK)
        return _with_result(output, "vanished", reason=_REPLACED if replaced else _GONE)

    def _read_version(self, path: str) -> tuple[FileVersion | None, str | None]:
        """Return the version of the file that is there now, and why it can't be read; both None: there is no file."""
        try:
            return stat_version(self._root, path), None
        except FileVanished:
            return None, None
        except FileProblem as error:
            if getattr(error.__cause__, "errno", None) == errno.ENAMETOOLONG:  # no file can have such a path
                return None, None
            return None, f"{error}."

    def _is_behind_link(self, path: str) -> bool:
        local = self._root / path
        parts = (local, *local.parents[: path.count("/")])
        return any(os.path.islink(part) for part in parts)  # noqa: PTH114 - `Path.is_symlink` raises for a long path

    def _is_of_later_job(self, version: FileVersion, output: Output, finished_at: float) -> bool:
        if version.mtime_ns <= finished_at * 1e9:
            return False
        return self._store.was_written_later(output, finished_at)

    def _of_version(self, output: Output, version: FileVersion, stays_empty: bool) -> Output:
        row = self._ledger.find(version)
        if row is not None and row.state is not FileState.VANISHED:
            return _of_row(output, row)
        if self._ledger.baseline_fingerprints([version.fingerprint]):
            return _with_result(output, "baseline", size=version.size_bytes, reason=_OLDER)
        skipped = self._selection.skip_reason(version.path)
        if skipped is None and stays_empty and not version.size_bytes:
            skipped = SkipReason.EMPTY
        if skipped is not None:
            return _with_result(output, "skipped", size=version.size_bytes, reason=skipped.sentence)
        return _with_result(output, "pending", size=version.size_bytes)


def _written_at_end(rows: list[FileRow], finished_at: float) -> FileRow | None:
    """Return the version whose mtime is nearest to the job's end.

    One from more than a second after the end counts only if there is no other.
    """

    def order(row: FileRow) -> tuple[bool, float]:
        after_end = row.version.mtime_ns / 1e9 - finished_at
        return after_end > USUAL_DIFFERENCE_SECONDS, abs(after_end)

    latest = (finished_at + CLOCK_TOLERANCE_SECONDS) * 1e9
    return min((row for row in rows if row.version.mtime_ns <= latest), key=order, default=None)


def _of_row(output: Output, row: FileRow) -> Output:
    state, reason = row.state.word, None
    if row.state is FileState.FAILED:
        state = "failed" if row.next_try is None else "retrying"
        reason = " ".join(part for part in (row.cause, row.cure) if part) or None
    archived = row.state in (FileState.ARCHIVED, FileState.PRUNED)
    size = row.version.size_bytes
    if not archived:
        return _with_result(output, state, size=size, reason=reason)
    return _with_result(output, state, row.key, row.sha256, size, reason)


def _with_result(
    output: Output,
    state: str,
    key: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    reason: str | None = None,
) -> Output:
    return output._replace(state=state, key=key, sha256=sha256, size_bytes=size, reason=reason)
