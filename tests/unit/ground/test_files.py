"""What of a file's facts is certain when it was read."""

from __future__ import annotations

import pytest

from cloud_archive.files import UNSURE_NS, FileVersion

SECOND = 10**9


@pytest.mark.parametrize(
    ("mtime_ns", "changed_ns", "sure"),
    [
        (1_000 * SECOND + 5, 1_000 * SECOND + 5, True),
        (2_000 * SECOND - 5_000_000, 2_000 * SECOND - 5_000_000, False),
        # A program wrote to it and set the mtime back: only its change time shows that it may do so again in this tick.
        (1_000 * SECOND + 5, 2_000 * SECOND - 5_000_000, False),
        # The filesystem has whole seconds.
        (1_000 * SECOND, 1_999 * SECOND, False),
        (1_000 * SECOND, 1_997 * SECOND, True),
        (1_000 * SECOND + 5, 0, True),
    ],
)
def test_a_file_that_changed_within_a_tick_of_its_reading_is_unsure(
    mtime_ns: int, changed_ns: int, sure: bool
) -> None:
    read = FileVersion("a.png", 1, mtime_ns, 1, 2, changed_ns).as_read_at(2_000.0)
    assert read.changed_ns == (changed_ns if sure else UNSURE_NS)
