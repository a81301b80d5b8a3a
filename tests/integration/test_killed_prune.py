"""A `prune --yes` that is killed between a deletion and the end, on a real store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.archive import interrupted_prune as archive_interrupted_prune
from cloud_archive.cli import prune as cli_prune
from cloud_archive.ledger.deletions import has_deletions
from cloud_archive.ledger.rows import FileState
from cloud_archive.maintenance import interrupted_prune
from tests.commands import run_command
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Fault, Kind, Request
from tests.integration.archives import Archive
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store


class HeldPrune:
    """A `prune --yes` of everything that is killed at the end of the `with` block, before it hears of its deletion.

    Args:
        deletes: None: the store gets the deletion at `let_delete`; False: it never does; True: at once.
    """

    def __init__(self, archive: Archive, proxy: FaultProxy, *, deletes: bool | None = None) -> None:
        reached, self._go_on = threading.Event(), threading.Event()

        def hold(request: Request) -> bool:
            reached.set()
            return self._go_on.wait(60)

        proxy.add(
            Fault(Kind.HANG if deletes is False else Kind.HANG_AFTER),
            operations={"DeleteObject", "DeleteObjects"},
            when=hold,
        )
        if deletes is not None:
            self._go_on.set()
        environ = archive.environ | {"CLOUD_ARCHIVE_STATE_DIR": str(archive.state)}
        command = [sys.executable, "-m", "cloud_archive", "prune", str(archive.root), "--keep-bytes", "1B"]
        self._process = subprocess.Popen([*command, "--yes", "--favorites"], env=os.environ | environ)
        assert reached.wait(60)

    def let_delete(self) -> None:
        """Let the store delete the objects."""
        self._go_on.set()

    def __enter__(self) -> HeldPrune:
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self._process.kill()
        self._process.wait(60)


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.environ()["S3_ENDPOINT_URL"], seed=1) as proxy:
        yield proxy


@pytest.fixture
def archive(
    tmp_path: Path, seaweedfs: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> Archive:
    """An archive whose bucket is behind the proxy."""
    archive = Archive(tmp_path, seaweedfs, S3_ENDPOINT_URL=proxy.url)
    archive.set_environment(monkeypatch)
    return archive


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines and commands of this process look at once what a killed prune has deleted."""
    monkeypatch.setattr(interrupted_prune, "PENDING_SECONDS", -1.0)
    monkeypatch.setattr(archive_interrupted_prune, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(cli_prune, "_LOCK_SECONDS", 0.1)


def test_no_file_counts_as_archived_by_an_object_that_is_being_deleted(
    archive: Archive, proxy: FaultProxy, at_once: None
) -> None:
    seaweedfs = archive.server
    body = archive.write("a.png")
    archive.archive_all()
    with archive.running() as engine:
        assert engine.flush(60)
        with HeldPrune(archive, proxy) as prune:
            archive.write("a.png", body)  # the same bytes, so that its object would prove it
            wait_until(lambda: engine.status().retrying_files == 1, "the archive waits for the deletion")
            assert not engine.flush(0.1)
            assert any("`prune` is deleting" in sentence for sentence in engine.status().errors)
            prune.let_delete()
            wait_until(lambda: seaweedfs.keys("out/") == [], "the object is gone")
            assert not engine.flush(0.1), "prune may still delete what is written now"
        # It is killed. The running archive finds out what it has deleted, and archives the file again.
        assert engine.flush(60)
        assert seaweedfs.objects("out/") == {"out/a.png": body}
        status = engine.status()
        assert (status.safe_to_stop, status.archived_files, status.pruned_files) == (True, 1, 1)


@pytest.mark.parametrize("deleted", [True, False])
def test_a_killed_prune_is_finished_by_looking(
    deleted: bool, archive: Archive, proxy: FaultProxy, at_once: None, capsys: pytest.CaptureFixture[str]
) -> None:
    server = archive.server
    for name in ("a.png", "b.png"):
        archive.write(name)
    archive.archive_all()
    with archive.ledger() as ledger:
        before = {row.row: row.archived_at for row in ledger.rows()}
    with HeldPrune(archive, proxy, deletes=deleted):
        if deleted:
            wait_until(lambda: server.keys("out/") == [], "the objects are gone")
    with archive.ledger() as ledger:
        assert ledger.totals().pruned.files == 2, "no row says archived without a proof"
    status, _, _ = run_command(capsys, "verify", archive.root)
    assert status == 0
    with archive.ledger() as ledger:
        assert not has_deletions(ledger)
        rows = ledger.rows()
    if deleted:
        assert {row.state for row in rows} == {FileState.PRUNED}
        assert server.keys("out/.cloud-archive/v1/segments/"), "the other machines get to know it"
    else:
        assert {row.row: row.archived_at for row in rows} == before
        assert {row.state for row in rows} == {FileState.ARCHIVED}


def test_the_next_prune_finishes_one_that_was_killed(
    archive: Archive, proxy: FaultProxy, at_once: None, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.write("a.png")
    archive.archive_all()
    with HeldPrune(archive, proxy) as prune:
        prune.let_delete()
        status, _, err = run_command(capsys, "prune", archive.root, "--keep-bytes", "1B", "--yes")
        assert (status, "Another prune of this archive is running" in err) == (1, True)
        wait_until(lambda: archive.server.keys("out/") == [], "the object is gone")
    status, _, _ = run_command(capsys, "prune", archive.root, "--keep-bytes", "1B", "--yes", "--favorites")
    assert status == 0
    with archive.ledger() as ledger:
        assert not has_deletions(ledger)
        assert ledger.totals().pruned.files == 1
    assert archive.server.keys("out/.cloud-archive/v1/segments/"), "the other machines get to know it"


def test_a_killed_prune_is_not_looked_up_in_another_bucket(
    archive: Archive,
    proxy: FaultProxy,
    at_once: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive.write("a.png")
    archive.archive_all()
    with HeldPrune(archive, proxy, deletes=False):
        pass
    monkeypatch.setenv("S3_BUCKET", archive.server.with_fresh_bucket().bucket)
    assert run_command(capsys, "verify", archive.root)[0] == 0
    with archive.ledger() as ledger:
        assert has_deletions(ledger)
    monkeypatch.setenv("S3_BUCKET", archive.server.bucket)
    assert run_command(capsys, "verify", archive.root)[0] == 0
    with archive.ledger() as ledger:
        assert not has_deletions(ledger)
        assert ledger.totals().archived.files == 1, "its object is there"
