"""What happens in the pipeline, one small class each; `Event` is any of them.

Workers and scans report through one callback, `on_event(event)`, which may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import CloudArchiveError
from ..ledger.rows import Claim
from ..upload.outcome import Outcome


@dataclass(frozen=True, slots=True)
class FileArchived:
    """The file is proven in the bucket, and the ledger says so."""

    claim: Claim
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class UploadFailed:
    """An attempt failed, and the ledger says so.

    Attributes:
        next_try: seconds since 1970; None = not before a `retry` or a restart.
    """

    claim: Claim
    error: CloudArchiveError
    next_try: float | None


@dataclass(frozen=True, slots=True)
class FileGone:
    """The file was deleted before it could be archived."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class FileModified:
    """A program wrote to the file during its upload: it must settle again."""

    path: str


@dataclass(frozen=True, slots=True)
class UploadProgressed:
    """Some bytes were sent; comes often."""


@dataclass(frozen=True, slots=True)
class UploadsEnded:
    """One or several uploads are over, and all other events about them were reported."""


@dataclass(frozen=True, slots=True)
class FileSeen:
    """The watcher saw a file that is to be archived; comes often."""


@dataclass(frozen=True, slots=True)
class ScanEnded:
    """A scan found something, or it was the first one."""


@dataclass(frozen=True, slots=True)
class FilesQueued:
    """Complete files are committed as pending."""


@dataclass(frozen=True, slots=True)
class LocalFileFreed:
    """A local file was deleted after its object was proven."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """Something else changed that a status shows, or that a thread waits for."""


Event: TypeAlias = (
    FileArchived
    | UploadFailed
    | FileGone
    | FileModified
    | UploadProgressed
    | UploadsEnded
    | FileSeen
    | ScanEnded
    | FilesQueued
    | LocalFileFreed
    | StatusChanged
)
OnEvent: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing: an `on_event` for callers that need no events."""
