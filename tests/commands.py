"""Run a command of `cloud-archive` in this process, and return what it printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.cli.app import main


class FakeTerminal(io.StringIO):
    """A stream that keeps what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Run one command. Returns (exit status, standard output, standard error)."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def run_json_command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any, str]:
    """Run one command with `--json`. Returns (exit status, the printed JSON or None, standard error)."""
    status, out, err = run_command(capsys, *arguments, "--json")
    return status, json.loads(out.splitlines()[-1]) if out else None, err


def read_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """Run one command with `--json` that must succeed without a warning, and return the printed JSON."""
    status, answer, err = run_json_command(capsys, *arguments)
    assert (status, err) == (0, "")
    return answer
