"""Mark a version of a file as archived, as a worker does after the proof."""

from __future__ import annotations

from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim, ProvenUpload


def mark_archived(
    ledger: Ledger,
    claim: Claim,
    *,
    key: str,
    sha256: str,
    etag: str | None,
    wrote: bool = False,
    read: FileVersion | None = None,
) -> None:
    """Commit that the store has proven the upload of `claim`; see `ProvenUpload` for the other arguments."""
    ledger.mark_all_archived([ProvenUpload(claim, key, sha256, etag, wrote, read=read)])
