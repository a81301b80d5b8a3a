"""What is not proven in the bucket when the archive stops, and the sentence about it."""

from __future__ import annotations

from typing import NamedTuple

from ..text import count_noun, format_bytes, left_out_words


class Remainder(NamedTuple):
    """How many files are not proven in the bucket when the archive stops, and their size.

    Attributes:
        files: files that are to be archived, including failed ones, and archived files that may hold new bytes.
        size_bytes: their total size; files whose size is unknown count as 0.
        baseline_files: files of the baseline; `files` does not include them.
        pruned_files: see `Status`; `files` does not include them.
        scanned: whether the directory was scanned at the end. If not, there may be more files.
        leaves_new_files: `files` may include some that the ledger does not know, and the next start leaves those alone.
    """

    files: int = 0
    size_bytes: int = 0
    baseline_files: int = 0
    pruned_files: int = 0
    scanned: bool = False
    leaves_new_files: bool = False

    @property
    def sentence(self) -> str:
        """Say whether everything is in the bucket: the last log line of a daemon."""
        if self.files:
            verb, them = ("is", "it") if self.files == 1 else ("are", "them")
            following = f"the next start continues with {them}"
            if self.leaves_new_files:
                following = (
                    "the next start continues with those that the ledger knows."
                    " With CLOUD_ARCHIVE_BACKFILL=none it leaves any others alone"
                )
            return (
                f"{count_noun(self.files, 'file')} ({format_bytes(self.size_bytes)}) {verb} not proven in"
                f" the bucket yet; {following}."
            )
        if not self.scanned:
            return (
                f"Everything that was seen is in the bucket{left_out_words(0, self.pruned_files)}, but the"
                " directory was not scanned at the end: run `cloud-archive status` to see whether there is more."
            )
        see = " See `cloud-archive upload --baseline`." if self.baseline_files else ""
        return f"Everything is in the bucket{left_out_words(self.baseline_files, self.pruned_files)}.{see}"
