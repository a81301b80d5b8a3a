"""Which files a flush reads again whose earlier reads failed."""

from __future__ import annotations

import pytest

from cloud_archive.errors import StoreError
from tests.memory_store import refuse
from tests.unit.catalog.filling import found

from .cataloguing import Stage, png


def refuse_all(stage: Stage, code: str, status: int) -> list[str]:
    """Let the store refuse every request; return a list to which it adds the key of each."""
    refused: list[str] = []

    def fail(operation: str, key: str) -> None:
        refused.append(key)
        refuse(code, status, key)

    stage.store.on_call = fail
    return refused


def test_a_flush_reads_files_again_that_could_not_be_read_once(stage: Stage) -> None:
    stage.archive("a.png", png("a fox"))
    (stage.root / "a.png").unlink()
    refused = refuse_all(stage, "NoSuchKey", 404)
    for _ in range(5):  # it fails three times, and stays postponed then, so that no flush takes long
        stage.fill()
        stage.filler.wake(retry=True)
    assert len(refused) == 3
    stage.store.on_call = lambda operation, key: None
    stage.database.change(lambda db: db.execute("UPDATE assets SET tries = 1") and None)
    stage.filler.wake(retry=True)
    stage.fill()
    assert [asset["metadata"]["prompt"] for asset in found(stage)] == ["a fox"]


def test_a_flush_reads_one_file_again_from_a_store_that_denies_all_reads(stage: Stage) -> None:
    for number in range(4):
        stage.archive(f"{number}.png", png("a fox"))
        (stage.root / f"{number}.png").unlink()
    refused = refuse_all(stage, "AccessDenied", 403)
    for _ in range(4):
        with pytest.raises(StoreError):
            stage.fill()
    stage.fill()
    stage.filler.wake(retry=True)
    with pytest.raises(StoreError):  # the filler waits after that
        stage.fill()
    stage.fill()
    assert stage.filler.caught_up.is_set()
    assert len(refused) == 5


def test_a_flush_reads_only_some_of_very_many_unreadable_files_again(stage: Stage) -> None:
    for number in range(60):
        stage.archive(f"{number}.png", png("a fox"))
        (stage.root / f"{number}.png").unlink()
    refused = refuse_all(stage, "NoSuchKey", 404)
    stage.fill()
    assert len(refused) == 60
    stage.filler.wake(retry=True)
    stage.fill()
    assert stage.filler.caught_up.is_set()
    assert len(refused) == 60 + 50
