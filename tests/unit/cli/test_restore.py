"""What `restore` says of its result."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.cli.common import enclosing_root, ledger_path
from cloud_archive.cli.restore import _show
from cloud_archive.maintenance.restore import RestoreItem, RestoreReport, RestoreResult


def counted(**counts: int) -> RestoreReport:
    report = RestoreReport()
    for name, count in counts.items():
        setattr(report, name, count)
    return report


def lines(capsys: pytest.CaptureFixture[str], report: RestoreReport) -> list[str]:
    _show(report, Path("to"))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_was_restored_is_summed_up_in_one_line(
    capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    verb = "Would restore" if dry_run else "Restored"
    report = RestoreReport(restored=1200, restored_bytes=1_500_000, skipped=5, dry_run=dry_run)
    assert lines(capsys, report) == [f"{verb} 1,200 files (1.5 MB) to to."]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("already", "Already there: 7."),
        ("renamed", "another name"),
        ("older", "--all-versions"),
        ("guessed", "under the names of their keys: 7."),
        ("unproven", "without a checksum"),
        ("undated", "the time of the upload"),
        ("failed", "Failed: 7."),
    ],
)
def test_each_count_has_its_line(capsys: pytest.CaptureFixture[str], field: str, words: str) -> None:
    found = lines(capsys, counted(restored=1, **{field: 7}))
    assert len(found) == 2
    assert words in found[1]
    assert "7" in found[1]


def test_where_nothing_was_restored_the_last_line_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, RestoreReport(skipped=3))[1:] == [
        "No file matches: 3 objects in the bucket left out by PATTERN or options."
        " A PATTERN matches the path, or is a whole key."
    ]
    assert "no object below the prefix" in lines(capsys, RestoreReport())[1]
    for field in ("already", "older", "failed"):
        assert "No file matches" not in "".join(lines(capsys, counted(skipped=3, **{field: 1})))


@pytest.mark.usefixtures("own_state")
def test_a_target_in_a_watched_directory_belongs_to_its_archive(root: Path) -> None:
    assert enclosing_root(root / "sub" / "deep") is None
    ledger = ledger_path(root)
    ledger.parent.mkdir(parents=True)
    ledger.touch()
    assert enclosing_root(root / "sub" / "deep") == enclosing_root(root) == root
    assert enclosing_root(root.parent) is None


@pytest.mark.usefixtures("own_state")
def test_a_state_directory_that_this_user_cannot_enter_does_not_hide_that_of_a_parent(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = root / "sub", Path.stat
    denied = ledger_path(folder)

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self == denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    assert enclosing_root(folder) is None
    ledger = ledger_path(root)
    ledger.parent.mkdir(parents=True)
    ledger.touch()
    assert enclosing_root(folder) == root


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_files_are_sorted_whatever_thread_ends_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def restore(
        *_: object, on_item: Callable[[RestoreItem, RestoreReport], None], **__: object
    ) -> RestoreReport:
        report = RestoreReport(dry_run=True)
        for path in ("b/2.png", "a.png", "b/10.png"):
            report.add(item := RestoreItem(f"out/{path}", RestoreResult.RESTORED, 1000, path))
            on_item(item, report)
        return report

    monkeypatch.setattr("cloud_archive.maintenance.restore.restore", restore)
    assert main(["restore", "--dry-run", "--to", str(tmp_path / "back")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["a.png  1 kB", "b/10.png  1 kB", "b/2.png  1 kB"]


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_a_damaged_ledger_prevents_only_what_needs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
    monkeypatch.setattr(
        "cloud_archive.maintenance.restore.restore", lambda *_, **__: RestoreReport(restored=1)
    )
    ledger = ledger_path(root)
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(b"garbage" * 1000)
    assert main(["restore", "--to", str(tmp_path / "back")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Restored 1 file")
    assert "is damaged" in err
    assert main(["restore"]) == 1, "its files would be archived again"
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_a_pattern_that_chooses_nothing_is_named_and_the_exit_status_is_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = RestoreReport(restored=1, unmatched=["typo.png"])
    monkeypatch.setattr("cloud_archive.maintenance.restore.restore", lambda *_, **__: report)
    assert main(["restore", "fox.png", "typo.png", "--to", str(tmp_path / "back")]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Restored 1 file")
    assert err == "The PATTERN 'typo.png' chooses no file below the prefix.\n"
