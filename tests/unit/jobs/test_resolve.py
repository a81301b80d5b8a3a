"""What became of a job's file: from a real ledger and a real directory."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.files import FileVersion, SkipReason, stat_version
from cloud_archive.intake.selection import Selection
from cloud_archive.jobs.records import JobRecord, Output
from cloud_archive.jobs.resolve import Resolver
from cloud_archive.jobs.store import JobStore
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim
from tests.archived_rows import mark_archived
from tests.unit.ledger.ledger_helpers import SHA

END = 1_775_046_896.0


class Stage:
    """A watched directory with its ledger and its list of jobs."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.now = END
        self.ledger = Ledger(folder / "ledger.sqlite3", clock=lambda: self.now)
        self.ledger.open()
        self.store = JobStore(folder / "jobs.sqlite3")
        self.store.open()
        self.resolver = Resolver(self.store, root, self.ledger, Selection(exclude=["*.wav"]))

    def write(self, path: str, body: bytes = b"picture", *, written: float = END - 1) -> FileVersion:
        """A file with this mtime, which the ledger does not know."""
        target = self.root / path
        target.write_bytes(body)
        os.utime(target, ns=(int(written * 1e9), int(written * 1e9)))
        return stat_version(self.root, path)

    def archive(self, version: FileVersion) -> None:
        """Add the version to the ledger, archived as `out/PATH`."""
        key = f"out/{version.path}"
        claim = self.claimed(version)
        self.ledger.record_attempt(claim, sha256=SHA, base_key=key, key=key)
        mark_archived(self.ledger, claim, key=key, sha256=SHA, etag="e")

    def claimed(self, version: FileVersion) -> Claim:
        self.ledger.add([version])
        claim = self.ledger.claim_version("me", version)
        assert claim is not None
        return claim

    def resolve(self, output: Output, *, finished_at: float = END) -> Output:
        job = JobRecord("j", "finished", status="success", started_at=END - 10, finished_at=finished_at)
        return self.resolver.resolve(job, output)


def file(name: str, *, cached: bool = False, state: str | None = None) -> Output:
    return Output(0, "9", name, "", "output", cached, state)


@pytest.fixture
def stage(root: Path, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(root, tmp_path)
    yield stage
    stage.store.close()
    stage.ledger.close()


def test_a_file_that_is_settled_or_elsewhere_stays_as_it_is(stage: Stage) -> None:
    for output in (file("a.png", state="archived"), file("../a.png")):
        assert stage.resolve(output) is output


def test_an_archived_file_has_its_key_checksum_and_size(stage: Stage) -> None:
    stage.archive(stage.write("a.png"))
    found = stage.resolve(file("a.png"))
    assert (found.state, found.key, found.sha256, found.size_bytes) == ("archived", "out/a.png", SHA, 7)


def test_a_file_that_is_gone_is_known_by_its_row(stage: Stage) -> None:
    stage.archive(stage.write("a.png"))
    (stage.root / "a.png").unlink()
    assert stage.resolve(file("a.png")).state == "archived"


@pytest.mark.parametrize(("next_try", "state"), [(END + 60, "retrying"), (None, "failed")])
def test_a_failure_says_why_and_whether_it_is_final(stage: Stage, next_try: float | None, state: str) -> None:
    claim = stage.claimed(stage.write("a.png"))
    stage.ledger.mark_failed(claim, code="AccessDenied", cause="Denied.", cure="Allow it.", next_try=next_try)
    found = stage.resolve(file("a.png"))
    assert (found.state, found.reason, found.key) == (state, "Denied. Allow it.", None)


def test_a_file_that_the_ledger_does_not_know_is_pending_skipped_or_older(stage: Stage) -> None:
    older = stage.write("old.png")
    stage.ledger.add_to_baseline([older.fingerprint])
    stage.write("new.png")
    stage.write("a.wav")
    stage.write(".hidden.png")
    found = [stage.resolve(file(name)) for name in ("new.png", "a.wav", ".hidden.png", "old.png")]
    assert [output.state for output in found] == ["pending", "skipped", "skipped", "baseline"]
    assert [output.reason for output in found[1:3]] == [
        SkipReason.EXCLUDED.sentence,
        SkipReason.HIDDEN.sentence,
    ]
    assert "upload --baseline" in (found[3].reason or "")


def test_a_file_that_was_never_archived_and_is_gone_has_vanished(stage: Stage) -> None:
    found = stage.resolve(file("gone.png"))
    assert (found.state, found.reason) == ("vanished", "It was deleted before it could be archived.")


@pytest.mark.skipif(sys.platform == "win32", reason="a user may make no symlinks")
@pytest.mark.parametrize("linked", ["folder", "file"])
def test_a_file_behind_a_link_was_not_deleted(stage: Stage, tmp_path: Path, linked: str) -> None:
    elsewhere = tmp_path / "large-disk"
    elsewhere.mkdir()
    (elsewhere / "a.png").write_bytes(b"picture")
    if linked == "folder":
        (stage.root / "clips").symlink_to(elsewhere, target_is_directory=True)
        output = file("a.png")._replace(subfolder="clips")
    else:
        (stage.root / "a.png").symlink_to(elsewhere / "a.png")
        output = file("a.png")
    found = stage.resolve(output)
    assert (found.state, found.reason) == ("failed", "It is behind a symbolic link; links are not followed.")


def test_without_its_directory_nothing_has_vanished(stage: Stage) -> None:
    stage.root.rmdir()
    assert stage.resolve(file("gone.png")).state == "pending"


def test_a_file_that_cannot_be_read_waits_with_the_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("cloud_archive.files.stat_file", fail)
    found = stage.resolve(file("a.png"))
    assert found.state == "pending"
    assert (found.reason or "").endswith(".")


def test_what_a_later_job_wrote_is_not_the_file_of_this_job(stage: Stage) -> None:
    later = JobRecord("k", "finished", status="success", finished_at=END + 60, outputs=(file("a.png"),))
    stage.archive(stage.write("a.png", b"later!", written=END + 50))
    assert stage.resolve(file("a.png")).size_bytes == 6, "no later job named it: a clock may be wrong"
    stage.store.add([later])
    found = stage.resolve(file("a.png"))
    assert (found.state, found.reason) == ("vanished", "It was replaced before it could be archived.")
    stage.archive(stage.write("a.png", b"this", written=END - 1))
    stage.write("a.png", b"later!", written=END + 50)
    assert stage.resolve(file("a.png")).size_bytes == 4


def test_what_another_job_wrote_seconds_later_is_not_the_file_of_this_job(stage: Stage) -> None:
    for body, written in ((b"other job", END - 4), (b"this", END + 0.0005), (b"later!", END + 2)):
        stage.archive(stage.write("a.png", body, written=written))
    (stage.root / "a.png").unlink()
    assert stage.resolve(file("a.png")).size_bytes == 4
    assert stage.resolve(file("a.png"), finished_at=END - 4.5).size_bytes == 9, "the clocks differ"


def test_the_file_of_an_earlier_job_is_not_this_jobs_where_the_disks_clock_is_ahead(stage: Stage) -> None:
    for body, written in ((b"earlier", END - 9), (b"this", END + 0.6)):
        stage.archive(stage.write("a.png", body, written=written))
    (stage.root / "a.png").unlink()
    assert stage.resolve(file("a.png")).size_bytes == 4


def test_a_file_from_the_cache_is_that_of_the_earlier_job(stage: Stage) -> None:
    archived = file("a.png", state="archived")._replace(key="out/first.png", sha256=SHA, size_bytes=9)
    stage.store.add([JobRecord("i", "finished", finished_at=END - 60, outputs=(archived,))])
    found = stage.resolve(file("a.png", cached=True))
    assert (found.state, found.key, found.size_bytes) == ("archived", "out/first.png", 9)
    assert stage.resolve(file("a.png")).state == "vanished"


def test_rows_from_before_the_job_count_only_for_files_from_the_cache(stage: Stage) -> None:
    stage.now = END - 60
    stage.archive(stage.write("a.png", written=END - 61))
    (stage.root / "a.png").unlink()
    assert stage.resolve(file("a.png")).state == "vanished"
    assert stage.resolve(file("a.png", cached=True)).state == "archived"
