"""What is not proven in the bucket when the archive stops, and the sentence about it."""

from __future__ import annotations

from typing import NamedTuple

from ..text import count_noun, format_bytes


class Remainder(NamedTuple):
    """How many files are not proven in the bucket when the archive stops, and their size.

    Attributes:
        files: files that are to be archived, including failed ones, and archived files that may hold new bytes.
        size_bytes: their total size; files whose size is unknown count as 0.
        baseline_files: files of the baseline; `files` does not include them.
        scanned: whether the directory was scanned at the end. If not, there may be more files.
    """

    files: int = 0
    size_bytes: int = 0
    baseline_files: int = 0
    scanned: bool = False

    @property
    def sentence(self) -> str:
        """Say whether everything is in the bucket: the last log line of a daemon."""
        if self.files:
            verb, them = ("is", "it") if self.files == 1 else ("are", "them")
            return (
                f"{count_noun(self.files, 'file')} ({format_bytes(self.size_bytes)}) {verb} not proven in"
                f" the bucket yet; the next start continues with {them}."
            )
        if not self.scanned:
            return (
                "Everything that was seen is in the bucket, but the directory was not scanned at the end:"
                " run `cloud-archive status` to see whether there is more."
            )
        if self.baseline_files:
            return (
                f"Everything is in the bucket except {count_noun(self.baseline_files, 'older file')}:"
                " see `cloud-archive upload --baseline`."
            )
        return "Everything is in the bucket."
