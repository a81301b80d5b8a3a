"""What a progress bar says, and that a silent store is mentioned."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.cli.progress import Progress, describe_rate
from cloud_archive.cli.upload import _Upload
from cloud_archive.terminal import print_line
from tests.commands import FakeTerminal
from tests.memory_store import MemoryStore


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


@pytest.mark.parametrize(
    ("rate", "left", "words"),
    [
        (0, None, []),
        (2_100_000, None, ["2.1 MB/s"]),
        (1000, 90, ["1 kB/s", "about 2 min"]),
        (0, 5, ["about 5 s"]),
    ],
)
def test_only_what_is_known_is_said(rate: int, left: int | None, words: list[str]) -> None:
    assert describe_rate(rate, left) == words


def test_lines_for_a_pipe_stay_on_standard_output_while_a_bar_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", bar := FakeTerminal())
    with Progress(True) as progress:
        progress.draw(1, 2, "1/2")
        print_line("Archived a.png")
    assert capsys.readouterr().out == "Archived a.png\n"
    assert "1/2" in bar.getvalue()


@pytest.mark.usefixtures("own_state", "settings_in_environment")
def test_prune_mentions_a_store_that_does_not_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, mentioned = MemoryStore(), threading.Event()

    def on_call(operation: str, key: str) -> None:
        mentioned.wait(60)

    store.on_call = on_call
    monkeypatch.setattr("cloud_archive.cli.prune.bucket", lambda settings: nullcontext(store))
    monkeypatch.setattr("cloud_archive.cli.common.SILENT_SECONDS", 0)
    monkeypatch.setattr("cloud_archive.cli.common.print_error", lambda words: mentioned.set())
    assert main(["prune", str(root), "--older-than", "1h", "--favorites"]) == 0
    assert mentioned.is_set()
