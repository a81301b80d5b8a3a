"""What the answers of `flush` say."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.api.routes import bare_status
from cloud_archive.api.server import _describe_archived, _describe_remaining


@pytest.mark.parametrize(
    ("older", "pruned", "sentence"),
    [
        (0, 0, "everything is in the bucket."),
        (1, 0, "everything is in the bucket except 1 older file."),
        (2000, 0, "everything is in the bucket except 2,000 older files."),
        (0, 3, "everything is in the bucket except files whose objects `cloud-archive prune` deleted."),
    ],
)
def test_what_is_archived_leaves_older_and_pruned_files_out(older: int, pruned: int, sentence: str) -> None:
    status = bare_status("idle") | {"baseline_files": older, "pruned_files": pruned}
    assert _describe_archived(status) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"pending_files": 1200, "pending_bytes": 41_000_000},
            "Not yet safe to stop: 1,200 pending (41 MB) left.",
        ),
        (
            {"pending_files": 1, "failed_files": 2, "errors": ["Busy.", "Denied."]},
            "Not yet safe to stop: 1 pending (0 B) and 2 failed left. Denied.",
        ),
        ({}, "Not yet safe to stop."),
        (
            {"safe_to_stop": True, "unwritten_rows": 1500},
            "Every file is in the bucket, but 1,500 rows of the catalog are not written to it yet.",
        ),
        (
            {"safe_to_stop": True, "unwritten_rows": 1},
            "Every file is in the bucket, but 1 row of the catalog is not written to it yet.",
        ),
        (
            {"safe_to_stop": True, "unwritten_rows": 2, "baseline_files": 5},
            "Every file except 5 older files is in the bucket, but 2 rows of the catalog are not written to it yet.",
        ),
        ({"unwritten_rows": 1500}, "Not yet safe to stop."),
        (
            {"state": "stopped", "errors": ["It is missing."]},
            "Not yet safe to stop: not all files in the directory are known to be in the bucket. It is missing."
            " The archive is stopped: start it first.",
        ),
        (
            {"state": "stopped", "failed_files": 1},
            "Not yet safe to stop: 1 failed left. The archive is stopped: start it first.",
        ),
        (
            {"safe_to_stop": True},
            "Every file is in the bucket now, but the flush did not complete. Try again.",
        ),
        (
            {"safe_to_stop": True, "baseline_files": 1, "errors": ["Busy."]},
            "Every file except 1 older file is in the bucket now, but the flush did not complete. Try again.",
        ),
    ],
)
def test_what_remains_is_counted_with_the_last_error(changes: dict[str, Any], sentence: str) -> None:
    assert _describe_remaining(bare_status("idle") | changes, None) == sentence


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (0, "Every file is in the bucket, but the catalog is not complete. The disk is full."),
        (
            2,
            "Every file is in the bucket, but 2 rows of the catalog are not written to it yet. The disk is full.",
        ),
    ],
)
def test_what_keeps_the_catalog_from_the_bucket_is_named(rows: int, sentence: str) -> None:
    status = bare_status("idle") | {"safe_to_stop": True, "unwritten_rows": rows}
    assert _describe_remaining(status, "The disk is full.") == sentence
