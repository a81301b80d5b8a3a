"""An upload's journal that keeps in memory what a ledger keeps of one file."""

from __future__ import annotations


class MemoryJournal:
    """The last notes of one file's attempts.

    Attributes:
        key, sha256: of the last attempt; empty before the first.
        upload_id, part_size_bytes: of its multipart upload.
        abandoned: (key, upload ID) of each multipart upload that must be aborted.
    """

    def __init__(self) -> None:
        self.key = ""
        self.sha256 = ""
        self.upload_id: str | None = None
        self.part_size_bytes: int | None = None
        self.abandoned: list[tuple[str, str]] = []

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        if (self.key, self.sha256) != (key, sha256):
            self.upload_id = None
        self.key, self.sha256 = key, sha256

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        self.upload_id, self.part_size_bytes = upload_id, part_size_bytes

    def abandon(self, key: str, upload_id: str) -> None:
        self.abandoned.append((key, upload_id))
