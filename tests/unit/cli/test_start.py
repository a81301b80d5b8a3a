"""Every error of a command is a sentence and an exit status."""

from __future__ import annotations

import errno

import pytest

from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.start import exit_status
from cloud_archive.errors import CloudArchiveError, SettingProblem, SettingsError


def ended(error: BaseException) -> int:
    def run() -> None:
        raise error

    return exit_status(run)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (CloudArchiveError("It failed"), 1, "It failed.\n"),
        (CloudArchiveError("Did it fail?"), 1, "Did it fail?\n"),
        (WrongUsage("Give DIR."), 2, "Give DIR.\n"),
        (
            SettingsError([SettingProblem("A", None, "b")], ["C is wrong."]),
            2,
            "A is not set: b.\nC is wrong.\n",
        ),
        (OSError(2, "No such file", "a\nb.png"), 1, "a\\nb.png: No such file.\n"),
        (OSError("no number"), 1, "no number.\n"),
        (KeyboardInterrupt(), 1, "Interrupted.\n"),
        (BrokenPipeError(), 1, ""),
        (SystemExit(3), 3, ""),
        (SystemExit(), 0, ""),
    ],
)
def test_an_error_is_a_sentence_and_a_status(
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    words: str,
) -> None:
    assert ended(error) == status
    assert capsys.readouterr() == ("", words)


def test_windows_reports_a_closed_pipe_as_an_invalid_argument(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as windows:
        windows.setattr("os.name", "nt")
        statuses = [ended(OSError(errno.EINVAL, "Invalid argument", name)) for name in (None, "a?.png")]
    assert statuses == [1, 1]
    assert capsys.readouterr() == ("", "a?.png: Invalid argument.\n")


def test_a_defect_is_one_line_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ValueError("first\nsecond")) == 1
    err = capsys.readouterr().err
    assert err.startswith("Internal error, please report it: ValueError at test_start.py:")
    assert "first" in err
    assert "second" not in err
    assert err.count("\n") == 1


def test_a_missing_package_is_left_to_the_caller() -> None:
    with pytest.raises(ModuleNotFoundError):
        ended(ModuleNotFoundError("typer"))


@pytest.mark.parametrize(("answer", "status"), [(0, 0), (1, 1), (None, 0), ("text", 0)])
def test_only_a_number_is_a_status(answer: object, status: int) -> None:
    assert exit_status(lambda: answer) == status
