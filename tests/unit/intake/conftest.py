"""Fixtures of the tests of the settle queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from .settle_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
