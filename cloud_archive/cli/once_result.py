"""The result of `watch --once`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_SKIPPED_LISTED = 500  # files in `skipped`; `skipped_files` counts all


@dataclass(slots=True)
class Result:
    """What is in the bucket, and what is not.

    Attributes:
        already: how many files the bucket held before.
        total: how many files there are, also those that failed.
        failures: (path, cause) of each file that is not in the bucket; the path is empty if the cause
            concerns more than one file.
        skipped: (path, reason) of the first files that are left out; `skipped_files` counts all of them.
        finished: False if a signal ended the command before everything was archived.
    """

    archived: int = 0
    already: int = 0
    total: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_files: int = 0
    finished: bool = False

    def note_skipped(self, count: int, rows: Iterable[Mapping[str, Any]]) -> None:
        self.skipped_files = count
        self.skipped = [(str(row["path"]), str(row["cause"])) for row in rows]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `--json`."""
        return {
            "archived": self.archived,
            "already_archived": self.already,
            "failed": len(self.failures),
            "total": self.total,
            "failures": [{"file": path, "cause": cause} for path, cause in self.failures],
            "skipped_files": self.skipped_files,
            "skipped": [{"file": path, "cause": cause} for path, cause in self.skipped],
        }
