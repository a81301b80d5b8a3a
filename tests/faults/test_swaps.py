"""Folders that are swapped for symbolic links, in short. The long run is a command:

python -m tests.faults --swaps 1000 --seed N
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.swaps import swaps
from tests.servers import S3Server

pytestmark = [
    pytest.mark.store,
    pytest.mark.skipif(os.name == "nt", reason="an open folder can't be swapped there"),
]


def test_folders_that_are_swapped_for_links_lead_nothing_outside(tmp_path: Path, seaweedfs: S3Server) -> None:
    found = swaps(6, 1, seaweedfs, tmp_path)
    assert found.held, found.lines()
    assert found.flips > 6
