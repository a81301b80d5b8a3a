"""A running pipeline of watcher and settle thread, for the tests of watching."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.watched import Pipeline


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    root = tmp_path / "output"
    root.mkdir()
    pipeline = Pipeline(root)
    pipeline.start()
    yield pipeline
    pipeline.stop()
