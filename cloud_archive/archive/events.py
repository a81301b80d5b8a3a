"""The events of the pipeline, which all of its threads report through one callback, `on_event(event)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ..errors import CloudArchiveError
from ..ledger.rows import Claim
from ..upload.outcome import Outcome


class FileArchived(NamedTuple):
    """The file is proven in the bucket, and the ledger holds that."""

    claim: Claim
    outcome: Outcome


class UploadFailed(NamedTuple):
    """An attempt failed, and the ledger holds that; `next_try` as in `RetryDecision`."""

    claim: Claim
    error: CloudArchiveError
    next_try: float | None


class FileGone(NamedTuple):
    """The file was deleted or emptied before it could be archived."""

    claim: Claim


class FileModified(NamedTuple):
    """The file changed during its upload, so it must settle again."""

    path: str


class UploadProgressed:
    """Some bytes were sent. Reported often."""


class UploadsEnded:
    """One or several uploads are over. Reported after all other events about them."""


class FileSeen:
    """The watcher saw a file that is to be archived. Reported often."""


class ScanEnded:
    """A scan ended with news for a status or a waiting thread; see `on_done` of `Reconciler`."""


class FilesQueued:
    """Complete files were committed as pending."""


class LocalFileFreed(NamedTuple):
    """A local file was deleted after its object was proven."""

    size_bytes: int


class StatusChanged:
    """Something else changed that a status shows or a thread waits for."""


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
