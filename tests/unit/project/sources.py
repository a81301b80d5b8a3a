"""The Python files of the tests."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parents[2]


def python_files() -> list[Path]:
    """Return them, without those in `node_modules`, where npm may add and remove folders meanwhile."""
    found: list[Path] = []
    for folder, folders, names in os.walk(TESTS):
        folders[:] = [name for name in folders if name not in ("node_modules", "__pycache__")]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return found
