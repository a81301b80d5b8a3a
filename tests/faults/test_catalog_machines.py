"""Machines that are killed while they archive: what `python -m tests.faults --machines 10` does, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.catalog_machines import catalog_machines
from tests.servers import S3Server

pytestmark = pytest.mark.store


def test_a_new_machine_finds_every_object_once_after_kills_and_after_two_compactions(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    found = catalog_machines(3, 2, 3, 11, seaweedfs, tmp_path)
    assert (found.objects, found.kills) == (3 * 9, 3 * 3)
    assert found.rows >= found.objects
    assert found.held, found.lines()


def test_the_same_on_a_store_without_conditional_writes(tmp_path: Path, rclone_s3: S3Server) -> None:
    found = catalog_machines(2, 1, 2, 12, rclone_s3, tmp_path)
    # Without create-only writes two machines may write one key at the same moment; the catalog must match the bucket.
    assert found.held, found.lines()
