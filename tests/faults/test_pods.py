"""Several real archivers, one bucket, the same names: what `python -m tests.faults --pods` does, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.pods import pods
from tests.servers import S3Server

pytestmark = pytest.mark.store


def test_three_processes_with_the_same_names_bring_every_file_in_once_and_say_so(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    found = pods(3, 25, 1, seaweedfs, tmp_path, forks=True)
    assert found.held, found.lines()


def test_without_create_only_writes_nothing_that_was_there_is_replaced(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    found = pods(2, 10, 1, rclone_s3, tmp_path, forks=True)
    assert found.kept, found.lines()
