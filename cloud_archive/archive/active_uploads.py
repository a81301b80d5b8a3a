"""The uploads under way, and how many bytes each has sent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..ledger.rows import Claim


class ActiveUpload(NamedTuple):
    """One upload as it was at the time of the snapshot; `seen_at` as in `Claim`."""

    path: str
    size_bytes: int
    sent_bytes: int
    key: str | None
    seen_at: float | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(slots=True)
class UploadProgress:
    """The progress of one claim's upload. The threads that send it write the fields, without a lock."""

    claim: Claim
    sent_bytes: int = 0
    key: str | None = None


class ActiveUploads:
    """The uploads under way. Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # By name, not by row: a row may be claimed again before its earlier upload has ended.
        self._by_claim: dict[str, UploadProgress] = {}

    def begin(self, claim: Claim) -> UploadProgress:
        """Add the upload of this claim."""
        progress = UploadProgress(claim)
        with self._changed:
            self._by_claim[claim.name] = progress
        return progress

    def end(self, claims: Sequence[Claim]) -> None:
        """Remove the uploads of these claims; unknown claims are ignored."""
        with self._changed:
            for claim in claims:
                self._by_claim.pop(claim.name, None)
            self._changed.notify_all()

    def wait_until_none(self, timeout_seconds: float) -> bool:
        """Wait until no upload is under way. Return False if the time is up first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._by_claim, timeout_seconds)

    def snapshot(self) -> tuple[ActiveUpload, ...]:
        """Return the uploads under way now."""
        with self._changed:
            return tuple(
                ActiveUpload(
                    a.claim.version.path, a.claim.version.size_bytes, a.sent_bytes, a.key, a.claim.seen_at
                )
                for a in self._by_claim.values()
            )
