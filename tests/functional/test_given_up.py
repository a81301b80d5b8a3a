"""Files that the store refused are archived once it accepts them, with nothing pressed and no new file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.store.failures import explain
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore
from tests.servers import wait_until

FILES = 150


def test_many_files_that_were_given_up_are_archived_once_the_store_accepts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.pipeline.KEEPER_SECONDS", 0.05)
    monkeypatch.setattr("cloud_archive.archive.given_up.FIRST_ROUND_SECONDS", 0.5)
    monkeypatch.setattr("cloud_archive.archive.given_up.LONGEST_ROUND_SECONDS", 0.5)
    store, refuses = MemoryStore(), [True]

    def refuse(operation: str, key: str) -> None:
        if operation == "PutObject" and refuses:
            raise StoreError(operation, key, explain("413", 413), status=413)

    store.on_call = refuse
    with archiving(tmp_path / "output", store) as archiver:
        for number in range(FILES):
            (archiver.root / f"{number:03}.mov").write_bytes(b"%d" % number)
        # One of them may just be tried again.
        wait_until(lambda: archiver.status(scan=False).failed_files >= FILES - 1, "all are given up")
        refuses.clear()
        assert archiver.flush(60), "all are archived"
        assert len(store.objects) == FILES
