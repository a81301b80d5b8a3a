"""Replaced objects, a few rounds; the run of a thousand is by hand:

python -m tests.faults --replaced 1000 --seed N
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.replaced import replaced
from tests.servers import S3Server

pytestmark = pytest.mark.store


def test_no_good_copy_is_given_up_for_an_object_that_was_replaced(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    found = replaced(15, 3, seaweedfs, tmp_path)
    assert found.held, found.lines()
    assert found.restores > 0
    assert found.verifies > 0
    assert found.named > 0
    assert found.freed > 0
