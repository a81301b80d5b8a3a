"""What `restore --dry-run` prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.maintenance.restore import RestoreItem, RestoreReport, RestoreResult


@pytest.mark.usefixtures("own_state")
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

    settings = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "secret-of-this-test"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("cloud_archive.maintenance.restore.restore", restore)
    assert main(["restore", "--dry-run", "--to", str(tmp_path / "back")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["a.png  1 kB", "b/10.png  1 kB", "b/2.png  1 kB"]
