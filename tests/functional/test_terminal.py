"""Seconds in options, completion in shells, and durations."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cloud_archive.cli.app import main
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


def test_durations_read_as_in_the_panel() -> None:
    found = [format_duration(seconds) for seconds in (0.2, 59, 90, 3600, 7800, 30 * 86400)]
    assert found == ["1 s", "59 s", "2 min", "1 h", "2 h 10 min", "30 d"]
