"""How many files are open at once: macOS allows a process 256, Linux 1,024, unless it asks for more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloud_archive.archive.upload_groups import OPEN_FILES
from cloud_archive.ledger.rows import Claim
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore

posix = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


@posix
def test_the_engine_asks_for_as_many_as_it_may_need() -> None:
    script = (
        "import resource; from cloud_archive.daemon.process import raise_open_files_limit, OPEN_FILES;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard)); raise_open_files_limit();"
        "most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES);"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_more_workers_claim_fewer_files_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    asked: list[int] = []

    def claim_several(claimant: str, *, most: int, **_: int) -> list[Claim]:
        asked.append(most)
        return []

    many = str(workers)
    with archiving(tmp_path / "output", MemoryStore(), start=False, CLOUD_ARCHIVE_WORKERS=many) as archiver:
        monkeypatch.setattr(archiver.ledger, "claim_several", claim_several)
        archiver.pipeline._pool.claim("test", oldest=False)
    assert asked[0] * workers <= OPEN_FILES
