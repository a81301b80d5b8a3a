"""The state of a directory while no engine runs for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from cloud_archive.archive.unarchived import Tally
from cloud_archive.cli import ledger_view
from cloud_archive.cli.app import main
from cloud_archive.cli.common import ledger_of, ledger_path
from cloud_archive.cli.ledger_view import own_files, read_ledger_view, selection_of
from cloud_archive.cli.status import _show_ledger
from cloud_archive.errors import CloudArchiveError, LedgerError, SettingsError
from cloud_archive.files import stat_version
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Count, Totals
from cloud_archive.own_files import OwnFiles
from tests.archived_rows import mark_archived
from tests.functional.archives import added

pytestmark = pytest.mark.usefixtures("own_state")


def environ(**more: str) -> Mapping[str, str]:
    return {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"], **more}


def open_ledger(root: Path) -> Ledger:
    path = ledger_path(root)
    path.parent.mkdir(parents=True)
    ledger = Ledger(path)
    ledger.open()
    return ledger


def test_an_unknown_directory_lists_its_files(root: Path) -> None:
    (root / "a.png").write_bytes(b"a")
    (root / ".hidden.png").write_bytes(b"h")
    view = read_ledger_view(root, environ())
    assert (view.known, view.unarchived_files, view.remaining) == (False, 1, ("a.png",))
    assert [file.path for file in view.skipped] == [".hidden.png"]
    assert not ledger_path(root).exists(), "reading makes no ledger"
    found = view.to_json()
    assert (found["safe_to_stop"], found["pending_files"], found["skipped_files"]) == (False, 1, 1)


def test_an_empty_ledger_stays_empty_so_that_the_next_start_sees_that_it_is_lost(root: Path) -> None:
    path = ledger_path(root)
    path.parent.mkdir(parents=True)
    path.touch()
    assert not read_ledger_view(root, environ()).known
    assert own_files(root, environ())
    for needed in (False, True):
        with contextlib.suppress(LedgerError), ledger_of(root, needed=needed) as ledger:
            assert ledger is None
    assert path.stat().st_size == 0


def test_the_ledgers_open_files_and_new_ones_count_once(root: Path) -> None:
    ledger = open_ledger(root)
    (root / "archived.png").write_bytes(b"x")
    os.utime(root / "archived.png", (1000, 1000))
    ledger.add([version := stat_version(root, "archived.png")])
    archived = ledger.claim_version("test", version)
    assert archived is not None
    mark_archived(ledger, archived, key="out/archived.png", sha256="00" * 32, etag=None)
    added(ledger, root, "pending.png", b"yy")
    (root / "new.png").write_bytes(b"new")
    ledger.close()
    view = read_ledger_view(root, environ())
    assert view.known
    assert view.remaining == ("pending.png", "new.png")
    assert (view.totals.archived.files, view.totals.open.files, view.unseen_files) == (1, 1, 1)
    assert (view.unarchived_files, view.to_json()["pending_files"]) == (2, 2)


@pytest.mark.skipif(os.name == "nt", reason="inode numbers mean nothing on Windows")
def test_a_file_that_was_touched_since_it_was_archived_is_named_as_such(
    capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    ledger = open_ledger(root)
    (root / "a.png").write_bytes(b"a")
    version = stat_version(root, "a.png")
    ledger.add([version._replace(inode=version.inode + 1)])
    claim = ledger.claim("test")
    assert claim is not None
    mark_archived(ledger, claim, key="out/a.png", sha256="00" * 32, etag=None)
    ledger.close()
    assert main(["status", str(root)]) == 1
    answer = capsys.readouterr()
    assert "Not confirmed in the bucket: 1 file. Start ComfyUI" in answer.out
    assert answer.err == "a.png: touched since it was archived.\n"


def test_newer_pending_files_do_not_hide_the_cause_of_a_failed_one(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setattr(ledger_view, "_MAX_REMAINING", 2)
    ledger = open_ledger(root)
    added(ledger, root, "failed.png", b"f")
    claim = ledger.claim("test")
    assert claim is not None
    ledger.mark_failed(claim, code="X", cause="It was refused.", cure="", next_try=None)
    for name in ("a.png", "b.png"):
        added(ledger, root, name, b"p")
    ledger.close()
    assert read_ledger_view(root, environ()).errors == ("failed.png: It was refused.",)


def test_a_directory_that_cannot_be_read_is_named(root: Path) -> None:
    root.rmdir()
    with pytest.raises(CloudArchiveError, match=re.escape(f"{root} can't be scanned: ")):
        read_ledger_view(root, environ())


def test_the_selection_needs_no_settings_of_the_store(root: Path) -> None:
    own = OwnFiles(root, root / "state")
    selection = selection_of({"CLOUD_ARCHIVE_EXCLUDE": "*.txt"}, own)
    assert (selection.wants("a.png"), selection.wants("a.txt")) == (True, False)
    with pytest.raises(SettingsError):
        selection_of({"CLOUD_ARCHIVE_INCLUDE": "a[", "CLOUD_ARCHIVE_EXCLUDE": "!"}, own)


BASELINE = "Run `cloud-archive upload --baseline --dir DIR` to archive it."


@pytest.mark.parametrize(
    ("known", "backfill", "advice"),
    [
        (True, "", "Start ComfyUI or `cloud-archive watch` to archive it."),
        (False, "", "Run `cloud-archive watch DIR --once` to archive it."),
        (False, "all", "Run `cloud-archive watch DIR --once` to archive it."),
        (False, "missed", BASELINE),
        (False, "none", BASELINE),
    ],
)
def test_the_advice_is_what_archives_the_files_that_are_there(
    capsys: pytest.CaptureFixture[str], root: Path, known: bool, backfill: str, advice: str
) -> None:
    (root / "a.png").write_bytes(b"a")
    view = read_ledger_view(root, environ(CLOUD_ARCHIVE_BACKFILL=backfill))
    _show_ledger(dataclasses.replace(view, known=known), details=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"Not confirmed in the bucket: 1 file. {advice}"


def test_new_files_that_a_start_with_backfill_none_leaves_alone_come_with_other_advice(
    capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    ledger = open_ledger(root)
    added(ledger, root, "pending.png", b"yy")
    ledger.close()
    none = environ(CLOUD_ARCHIVE_BACKFILL="None")
    _show_ledger(read_ledger_view(root, none), details=False)
    assert "BACKFILL" not in capsys.readouterr().out, "the next start uploads what has a row"
    (root / "new.png").write_bytes(b"new")
    _show_ledger(read_ledger_view(root, none), details=False)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Not confirmed in the bucket: 2 files. A start with CLOUD_ARCHIVE_BACKFILL=none leaves new files alone."
        " Start ComfyUI or `cloud-archive watch` with CLOUD_ARCHIVE_BACKFILL=missed to archive them."
    )


@pytest.mark.parametrize(
    ("older", "pruned", "left_out"),
    [
        (0, 0, ""),
        (2, 0, " except 2 older files"),
        (0, 1, " except files whose objects `cloud-archive prune` deleted"),
        (1, 1, " except 1 older file and files whose objects `cloud-archive prune` deleted"),
    ],
)
def test_what_is_safe_leaves_out_older_and_pruned_files(
    capsys: pytest.CaptureFixture[str], root: Path, older: int, pruned: int, left_out: str
) -> None:
    view = dataclasses.replace(
        read_ledger_view(root, environ()),
        tally=Tally(baseline=older),
        totals=Totals(pruned=Count(pruned, 1)),
    )
    _show_ledger(view, details=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"Safe to stop: every file is in the bucket{left_out}."
    found = view.to_json()
    assert (found["baseline_files"], found["pruned_files"]) == (older, pruned)
