"""How many requests a file costs, counted on the wire: users pay for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import requests_per_file as cases
from tests.servers import S3Server

pytestmark = pytest.mark.store


def test_a_new_file_costs_one_request_and_doubt_a_few_more(seaweedfs: S3Server, tmp_path: Path) -> None:
    found = cases.count_requests(seaweedfs, tmp_path, large_bytes=20 * cases.MEBIBYTE)
    assert found[cases.FIRST] == {"HeadObject": 1, "PutObject": 2}
    assert found[cases.SMALL] == {"PutObject": 1}
    assert found[cases.CONFLICT] == {"PutObject": 2, "HeadObject": 2}
    assert found[cases.SAME] == {"PutObject": 1, "HeadObject": 1, "GetObject": 1}
    # A HEAD precedes CompleteMultipartUpload if the probe, which runs beside the parts, has not ended by then.
    assert found[cases.FIRST_LARGE].pop("HeadObject") in (1, 2)
    assert found[cases.FIRST_LARGE] == {
        "CreateMultipartUpload": 2,
        "UploadPart": 3,
        "CompleteMultipartUpload": 2,
        "AbortMultipartUpload": 1,
        "PutObject": 1,
    }
    assert found[cases.LARGE] == {
        "HeadObject": 1,
        "CreateMultipartUpload": 1,
        "UploadPart": 3,
        "CompleteMultipartUpload": 1,
    }
