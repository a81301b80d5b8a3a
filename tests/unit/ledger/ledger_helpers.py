"""A clock and shortcuts for tests of the ledger."""

from __future__ import annotations

from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim
from tests.archived_rows import mark_archived

SHA = "ab" * 32


class Clock:
    """Seconds since 1970, moved by hand."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def version(path: str, size: int = 10, mtime_ns: int = 5) -> FileVersion:
    return FileVersion(path, size, mtime_ns, 1, 2)


def claimed(ledger: Ledger, **how: bool) -> Claim:
    claim = ledger.claim("me", **how)
    assert claim is not None
    return claim


def archive(ledger: Ledger, claim: Claim) -> None:
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")
    mark_archived(ledger, claim, key="k", sha256=SHA, etag="e")
