"""The rules of ruff hold in every clone, whatever its folder is called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = ("pyproject.toml", "__init__.py", "cloud_archive/__init__.py", "cloud_archive/__main__.py")


@pytest.mark.parametrize("folder", ["cloud-archive", "Cloud.Archive-main", "312"])
def test_a_clone_may_have_any_name(tmp_path: Path, folder: str) -> None:
    clone = tmp_path / folder
    for name in FILES:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    found = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
