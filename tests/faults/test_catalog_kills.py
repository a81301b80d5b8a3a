"""A few kills while the catalog is filled; `python -m tests.faults --catalog 100` does more of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .catalog_kills import catalog_kills


@pytest.mark.skipif(not hasattr(os, "fork"), reason="what is killed is a fork")
def test_each_archived_file_has_its_row_once_after_kills(tmp_path: Path) -> None:
    figures = catalog_kills(5, 1, tmp_path)
    assert figures.kills == 5
    assert figures.held, figures.lines()
