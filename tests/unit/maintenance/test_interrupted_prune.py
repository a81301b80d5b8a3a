"""What `finish_interrupted_prune` does if a `prune` was killed, on stores in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cloud_archive.errors import KeyBeingPruned, StoreError
from cloud_archive.files import FileVersion
from cloud_archive.ledger.deletions import begin_deletions, forget_other_destinations, has_deletions
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance import interrupted_prune
from cloud_archive.maintenance.interrupted_prune import PENDING_SECONDS, finish_interrupted_prune
from cloud_archive.store.failures import explain
from tests.memory_store import MemoryStore, refuse

SHA = "ab" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Killed:
    """A ledger whose `prune` was killed after it had deleted all objects of the store that it planned."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.ledger = Ledger(path, clock=self.clock)
        self.ledger.open()
        self.store = MemoryStore()
        self.recorded: list[list[str]] = []
        forget_other_destinations(self.ledger, "here/bucket")

    def begin(self, *keys: str) -> None:
        begin_deletions(self.ledger, dict.fromkeys(keys, ()), since=self.clock.now)

    def finish(self, destination: str = "here/bucket") -> bool:
        def record(gone: Mapping[str, float]) -> None:
            self.recorded.append(list(gone))

        return finish_interrupted_prune(self.ledger, self.store, record, destination=destination)

    def may_archive_at(self, key: str) -> bool:
        self.ledger.add([FileVersion(key, 1, 1)])
        claim = self.ledger.claim("test")
        assert claim is not None
        try:
            self.ledger.record_attempt(claim, sha256=SHA, base_key=key, key=key)
        except KeyBeingPruned:
            return False
        finally:
            self.ledger.release(claim)
        return True


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    made = Killed(tmp_path / "ledger.sqlite3")
    yield made
    made.ledger.close()


def test_no_file_waits_for_a_store_that_denies_to_say_what_is_there(killed: Killed) -> None:
    killed.begin("out/a.png")
    killed.store.on_call = lambda operation, key: refuse("403", 403, key)
    assert killed.finish()
    assert not killed.may_archive_at("out/a.png"), "the killed process may have sent its request a moment ago"
    killed.clock.now += PENDING_SECONDS + 1
    assert not killed.finish()
    assert has_deletions(killed.ledger), "another access key may find out"
    assert killed.may_archive_at("out/a.png")


def test_no_file_waits_for_a_catalog_that_can_not_be_written(killed: Killed) -> None:
    killed.begin("out/a.png", "out/b.png")
    killed.store.add("out/b.png", b"b")
    killed.clock.now += PENDING_SECONDS + 1

    def refused(gone: Mapping[str, float]) -> None:
        raise StoreError("PutObject", None, explain("AccessDenied"), status=403)

    with pytest.raises(StoreError):
        finish_interrupted_prune(killed.ledger, killed.store, refused, destination="here/bucket")
    assert killed.may_archive_at("out/a.png")
    assert killed.finish()
    assert killed.recorded == [["out/a.png"]]


def test_objects_are_looked_up_in_the_bucket_of_the_prune_only(killed: Killed) -> None:
    killed.begin("out/a.png")
    killed.clock.now += PENDING_SECONDS + 1
    assert killed.finish("here/other")
    assert killed.recorded == []
    assert killed.may_archive_at("out/a.png"), "which is there, in the other bucket"
    assert killed.finish()
    assert killed.recorded == [["out/a.png"]]


def test_a_prune_of_another_bucket_forgets_what_can_not_be_looked_up_there(killed: Killed) -> None:
    killed.begin("out/a.png")
    assert forget_other_destinations(killed.ledger, "here/bucket") == 0
    assert forget_other_destinations(killed.ledger, "here/other") == 1
    assert not has_deletions(killed.ledger)


def test_many_deletions_become_few_segments_of_the_catalog(killed: Killed) -> None:
    killed.begin(*(f"out/{number}.png" for number in range(1001)))
    killed.clock.now += PENDING_SECONDS + 1
    assert killed.finish()
    assert [len(keys) for keys in killed.recorded] == [1000, 1]


def test_a_store_that_denies_a_whole_page_is_not_asked_for_the_next(
    killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupted_prune, "_PAGE", 2)
    killed.begin(*(f"out/{number}.png" for number in range(9)))
    killed.clock.now += PENDING_SECONDS + 1
    asked: list[str] = []

    def deny(operation: str, key: str) -> None:
        asked.append(key)
        refuse("403", 403, key)

    killed.store.on_call = deny
    assert not killed.finish()
    assert sorted(asked) == ["out/0.png", "out/1.png"]


def test_a_ledger_in_memory_lets_files_be_archived_too(killed: Killed) -> None:
    killed.begin("out/a.png")
    killed.clock.now += PENDING_SECONDS + 1
    assert killed.ledger.path is not None
    copy = Ledger(None, clock=killed.clock)
    copy.open(copy_of=killed.ledger.path)
    copy.saved_as = killed.ledger.path
    killed.ledger.close()
    killed.ledger = copy
    assert killed.finish()
    assert killed.may_archive_at("out/a.png")
