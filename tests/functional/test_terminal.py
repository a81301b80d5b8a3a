"""How the command reads: its completion, progress and the reason why nothing is freed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.cli.progress import Progress
from cloud_archive.cli.upload import _Upload
from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.free import Limits
from cloud_archive.text import format_duration


@pytest.mark.parametrize("value", ["-1", "nan", "4000"])
def test_seconds_out_of_range_are_wrong_usage(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flush", "--timeout", value]) == 2
    assert "Give a number of seconds from 0 to 3600." in capsys.readouterr().err


def test_the_shell_completes_commands() -> None:
    asked = {"_CLOUD_ARCHIVE_COMPLETE": "complete_bash", "COMP_WORDS": "cloud-archive ver", "COMP_CWORD": "1"}
    found = subprocess.run(
        [sys.executable, "-c", "from cloud_archive.cli.app import main; main()"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.stdout.split() == ["verify"]


class _Words(Progress):
    """Keeps what would be drawn."""

    def __init__(self) -> None:
        super().__init__(False)
        self.words: list[str] = []

    def draw(self, done: float, total: float | None, words: str) -> None:
        self.words.append(words)


def test_the_progress_shows_rate_and_time_left_and_never_zero_of_zero() -> None:
    progress = _Words()
    status = {
        **dict.fromkeys(("uploaded_files", "already_archived_files", "failed_files", "total_files"), 0),
        **dict.fromkeys(("pending_bytes", "unsent_bytes", "rate_bytes_per_second"), 0),
        "seconds_left": None,
        "state": "idle",
    }
    progress.show(status)
    progress.show(
        {
            **status,
            "uploaded_files": 3,
            "total_files": 5,
            "unsent_bytes": 12_000_000,
            "rate_bytes_per_second": 2_100_000,
            "seconds_left": 6,
        }
    )
    assert progress.words == ["", "3/5, 12 MB left, 2.1 MB/s, about 6 s"]


def test_the_bar_of_an_upload_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    run, progress = _Upload(None, json=False), _Words()
    for second in range(7):
        now = 100.0 + second
        run._draw(progress, second * 1_000_000, 10_000_000)
    assert progress.words[4] == "4 MB of 10 MB"
    assert progress.words[6] == "6 MB of 10 MB, 1 MB/s, about 5 s"


def test_free_says_why_nothing_is_due(tmp_path: Path) -> None:
    from cloud_archive.cli.free import _why_nothing

    ledger = Ledger(None)
    ledger.open()
    assert _why_nothing(ledger, Limits(60.0), tmp_path) == "No archived file is on this disk."
    version = FileVersion("a.png", 1, 5)
    ledger.add([version])
    claim = ledger.claim_version("w", version)
    assert claim is not None
    ledger.mark_archived(claim, key="k", sha256="00" * 32, etag=None)
    young = _why_nothing(ledger, Limits(60.0), tmp_path)
    assert young == "Nothing is due: 1 archived file was modified less than 1 h ago."
    enough = _why_nothing(ledger, Limits(None, 1), tmp_path)
    assert enough.startswith("Nothing is due: the disk has ")
    ledger.close()


def test_durations_read_as_in_the_panel() -> None:
    found = [format_duration(seconds) for seconds in (0.2, 59, 90, 3600, 7800, 30 * 86400)]
    assert found == ["1 s", "59 s", "2 min", "1 h", "2 h 10 min", "30 d"]
