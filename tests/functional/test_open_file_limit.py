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


ENGINE = """
from cloud_archive.daemon.process import raise_open_files_limit
raise_open_files_limit()
"""
COMMAND = """
from cloud_archive.cli.direct_upload import DirectUpload
from cloud_archive.config.settings import load_settings
from tests.functional.archives import ENVIRON
from tests.memory_store import MemoryStore
DirectUpload(load_settings(ENVIRON), [], session_id="s", make_store=lambda _: MemoryStore()).run()
"""


@posix
@pytest.mark.parametrize("start", [ENGINE, COMMAND], ids=["engine", "upload"])
def test_a_process_that_uploads_asks_for_as_many_as_it_may_need(start: str) -> None:
    script = (
        "import resource\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n{start}\n"
        "from cloud_archive.daemon import process\n"
        "most = process.OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, process.OPEN_FILES)\n"
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
