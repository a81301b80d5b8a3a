"""What the ledger and the directory say about an archive while no engine runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..archive.ownership import engine_state_directory
from ..archive.status import failure_sentences
from ..archive.unarchived import (
    Tally,
    UnarchivedFile,
    unarchived_files,
    unmatched_sentences,
    unscanned_sentence,
)
from ..config.settings import VARIABLES, load_settings
from ..errors import CloudArchiveError, SettingsError
from ..intake.selection import Selection
from ..ledger.doubts import Doubts
from ..ledger.history import existing_ledger
from ..ledger.known_root import KnownRoot
from ..ledger.ledger import Ledger
from ..ledger.recovery import ledger_exists, remember_log_files
from ..ledger.rows import FileState, Totals
from ..own_files import OwnFiles
from .common import ledger_path

_MAX_REMAINING = 1000
_MAX_SKIPPED = 50


@dataclass(frozen=True, slots=True)
class LedgerView:
    """The state of an archive while no engine runs.

    Attributes:
        known: whether there is a ledger.
        unseen_files: how many files are to be archived and have no row in the ledger, or were touched since they were
            archived, so that they must be hashed.
        remaining: paths of files that are not confirmed in the bucket; 1,000 at most, the newest rows of the ledger
            first.
        touched: those of `remaining` that were archived, and touched since.
        errors: a sentence about each of the newest failures.
        warnings: a sentence about each include pattern that matches no file.
        tally: counts of the files in the directory without a row in the ledger.
        skipped: the first 50 files that are left out.
        leaves_new_files: whether CLOUD_ARCHIVE_BACKFILL makes the next start, even that of `watch --once`, leave files
            without a row alone.
    """

    root: Path
    known: bool
    totals: Totals
    unseen_files: int
    remaining: tuple[str, ...]
    touched: frozenset[str]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    tally: Tally
    skipped: tuple[UnarchivedFile, ...]
    leaves_new_files: bool

    @property
    def unarchived_files(self) -> int:
        """How many files are to be archived and not proven in the bucket."""
        return self.totals.open.files + self.unseen_files

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the status object that are known without an engine."""
        return {
            "running": False,
            "state": "stopped",
            "uploading": False,
            "safe_to_stop": self.unarchived_files == 0,
            "failed_files": self.totals.failed.files,
            "pending_files": self.unarchived_files - self.totals.failed.files,
            "pending_bytes": self.totals.open.size_bytes - self.totals.failed.size_bytes,
            "archived_files": self.totals.archived.files,
            "archived_bytes": self.totals.archived.size_bytes,
            "pruned_files": self.totals.pruned.files,
            "unseen_files": self.unseen_files,
            "skipped_files": self.tally.skipped_files,
            "baseline_files": self.tally.baseline,
            "skipped": [{"file": file.path, "cause": file.to_json()["cause"]} for file in self.skipped],
            "remaining": list(self.remaining),
            "errors": [*self.errors, *self.warnings],
            "watched_directory": str(self.root),
            "version": __version__,
        }


def read_ledger_view(root: Path, environ: Mapping[str, str] = os.environ) -> LedgerView:
    """Compare the directory with its ledger, without making one.

    Raises:
        SettingsError: see `selection_of`.
        LedgerError: the ledger can't be read.
        RootReplaced: the directory is not the one whose files the ledger knows.
        CloudArchiveError: the directory can't be read.
    """
    path = ledger_path(root, environ)
    known = ledger_exists(path)
    ledger = Ledger(path if known else None)
    ledger.open()
    try:
        return _read_view(root, ledger, known, environ)
    finally:
        ledger.close()


def _read_view(root: Path, ledger: Ledger, known: bool, environ: Mapping[str, str]) -> LedgerView:
    if known:
        KnownRoot(root, ledger).check()
    own = OwnFiles(root, engine_state_directory(root, environ), remember_log_files(ledger))
    selection = selection_of(environ, own)
    open_states = (FileState.PENDING, FileState.UPLOADING, FileState.FAILED)
    rows = ledger.rows(states=open_states, limit=_MAX_REMAINING)
    names = [row.version.path for row in rows]
    tally, doubts = Tally(), Doubts()
    skipped: list[UnarchivedFile] = []
    problems: list[str] = []

    def on_error(path: str, why: str) -> None:
        problems.append(unscanned_sentence(root, path, why))

    for file in unarchived_files(root, selection, ledger, on_error, doubts):
        tally.count(file.reason, file.is_old)
        if file.state == "skipped" and len(skipped) < _MAX_SKIPPED:
            skipped.append(file)
        elif file.state == "unseen" and len(names) < _MAX_REMAINING:
            names.append(file.path)
    touched = [] if doubts.is_whole_tree else doubts.paths[: max(0, _MAX_REMAINING - len(names))]
    if problems:
        raise CloudArchiveError(problems[0])
    failed = ledger.rows(states=(FileState.FAILED,), limit=_MAX_REMAINING)
    return LedgerView(
        root=root,
        known=known,
        totals=ledger.totals(),
        unseen_files=tally.unseen + doubts.urgent,
        remaining=(*names, *touched),
        touched=frozenset(touched),
        errors=tuple(failure_sentences(failed)),
        warnings=tuple(unmatched_sentences(selection, tally)),
        tally=tally,
        skipped=tuple(skipped),
        leaves_new_files=tally.unseen > 0
        and _backfill(environ) in (("none",) if known else ("none", "missed")),
    )


def _backfill(environ: Mapping[str, str]) -> str | None:
    """Return CLOUD_ARCHIVE_BACKFILL, even if other settings are missing or wrong; None if it is unset."""
    found = VARIABLES["backfill"].find(environ)
    return None if found is None else found[1].lower()


def own_files(root: Path, environ: Mapping[str, str]) -> OwnFiles:
    """Return which files in `root` are Cloud Archive's own; an engine may be running. Raises LedgerError."""
    path = ledger_path(root, environ)
    if not ledger_exists(path):
        return OwnFiles(root, path.parent)
    with existing_ledger(path) as ledger:
        return OwnFiles(root, path.parent, remember_log_files(ledger))


def selection_of(environ: Mapping[str, str], own: OwnFiles) -> Selection:
    """Return the selection by the patterns in `environ`, whose other settings may be missing or wrong.

    Raises:
        SettingsError: a pattern is invalid.
    """
    try:
        settings = load_settings(environ)
    except SettingsError:
        patterns = {
            name: environ.get(name, "") for name in ("CLOUD_ARCHIVE_INCLUDE", "CLOUD_ARCHIVE_EXCLUDE")
        }
        settings = load_settings({"S3_CREDENTIALS": "aws", "S3_BUCKET": "unknown", **patterns})
    return Selection(settings.include, settings.exclude, own)
