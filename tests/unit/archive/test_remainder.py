"""The sentence about what is not proven in the bucket at a stop."""

from __future__ import annotations

import pytest

from cloud_archive.archive.remainder import Remainder


@pytest.mark.parametrize(
    ("remainder", "sentence"),
    [
        (
            Remainder(files=1, size_bytes=3),
            "1 file (3 B) is not proven in the bucket yet; the next start continues with it.",
        ),
        (
            Remainder(files=2, size_bytes=3, baseline_files=4, scanned=True),
            "2 files (3 B) are not proven in the bucket yet; the next start continues with them.",
        ),
        (
            Remainder(files=2, size_bytes=3, leaves_new_files=True),
            "2 files (3 B) are not proven in the bucket yet; the next start continues with those that the ledger"
            " knows. With CLOUD_ARCHIVE_BACKFILL=none it leaves any others alone.",
        ),
        (
            Remainder(),
            "Everything that was seen is in the bucket, but the directory was not scanned at the end:"
            " run `cloud-archive status` to see whether there is more.",
        ),
        (Remainder(scanned=True), "Everything is in the bucket."),
        (
            Remainder(scanned=True, baseline_files=4),
            "Everything is in the bucket except 4 older files. See `cloud-archive upload --baseline`.",
        ),
    ],
)
def test_the_sentence_says_what_is_left_and_what_happens_to_it(remainder: Remainder, sentence: str) -> None:
    assert remainder.sentence == sentence
