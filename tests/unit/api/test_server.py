"""What the answers of `flush` say."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.api.routes import bare_status
from cloud_archive.api.server import _describe_archived, _describe_remaining


@pytest.mark.parametrize(
    ("older", "sentence"),
    [
        (0, "everything is in the bucket."),
        (1, "everything since the first start is in the bucket; 1 older file is not."),
        (2000, "everything since the first start is in the bucket; 2,000 older files are not."),
    ],
)
def test_what_is_archived_leaves_older_files_out(older: int, sentence: str) -> None:
    assert _describe_archived(bare_status("idle") | {"baseline_files": older}) == sentence


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
        ({"unwritten_rows": 1500}, "Not yet safe to stop."),
        ({"safe_to_stop": True}, "Not yet safe to stop."),
    ],
)
def test_what_remains_is_counted_with_the_last_error(changes: dict[str, Any], sentence: str) -> None:
    assert _describe_remaining(bare_status("idle") | changes) == sentence
