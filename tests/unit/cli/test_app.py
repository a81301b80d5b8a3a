"""What the help of every command looks like."""

from __future__ import annotations

import re

import pytest

from cloud_archive.cli.app import main
from tests.commands import run_command

CATALOG = ("status", "rebuild", "sync", "compact", "export", "sql")
COMMANDS = (
    "demo",
    "watch",
    "upload",
    "check",
    "status",
    "flush",
    "retry",
    "rescan",
    "verify",
    "restore",
    "report",
    "prune",
    "free",
    "compact",
    "search",
    "show",
    "share",
    "unshare",
    "job",
)


def test_ctrl_c_in_a_command_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cloud_archive.cli.prune.settings_now", interrupt)
    status, out, err = run_command(capsys, "prune", "--older-than", "1h")
    assert (status, out, err) == (1, "", "Interrupted.\n")


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


EACH_COMMAND = pytest.mark.parametrize(
    "words", [*((name,) for name in COMMANDS), *(("catalog", name) for name in CATALOG)]
)


@EACH_COMMAND
def test_help_shows_arguments_without_types_defaults_and_extra_brackets(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    text = help_of(capsys, *words)
    for ugly in ("<", "list[", "{", "[[", "...", "x>=0", "30.0", "60.0", " 0.0"):
        assert ugly not in text


@pytest.mark.parametrize(
    "words",
    [("search",), ("show",), ("share",), ("job",), *(("catalog", name) for name in CATALOG)],
)
def test_every_command_that_reads_the_catalog_takes_a_directory(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert "--dir DIR" in help_of(capsys, *words)


@EACH_COMMAND
def test_the_second_line_of_a_description_begins_below_the_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = re.split(r"^(?:Arguments|Options):\n", help_of(capsys, *words), flags=re.MULTILINE)[1:]
    for section in listed:
        columns = {
            len(match[1])
            for line in section.splitlines()
            if (match := re.match(r"(  \S.*?  +| {3,})\S", line))
        }
        assert len(columns) == 1, section


@pytest.mark.parametrize(("words", "commands"), [((), (*COMMANDS, "catalog")), (("catalog",), CATALOG)])
def test_a_list_of_commands_names_each_and_cuts_no_description_short(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], commands: tuple[str, ...]
) -> None:
    listed = help_of(capsys, *words).partition("Commands:\n")[2]
    assert "..." not in listed
    assert {line.split()[0] for line in listed.splitlines() if line[2] != " "} >= set(commands)


@pytest.mark.parametrize(
    "words",
    [
        ("watch", ""),
        ("watch", "", "--once"),
        ("status", ""),
        ("free", "", "--older-than", "7d"),
        ("restore", "--to", ""),
        ("search", "--dir", ""),
        ("upload", "--baseline", "--dir", ""),
        ("catalog", "export", "--jsonl", ""),
    ],
)
def test_an_empty_directory_is_not_the_current_one(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """It is the value of a shell variable that is not set."""
    status, out, err = run_command(capsys, *words)
    assert (status, out) == (2, "")
    assert "It is empty: give a directory" in err


@pytest.mark.parametrize(
    ("words", "most"),
    [(("watch", "DIR", "--grace"), 86400), (("flush", "--timeout"), 3600), (("job", "id", "--wait"), 86400)],
)
@pytest.mark.parametrize("seconds", ["soon", "", "-1", "nan", "1e9"])
def test_what_is_no_number_of_seconds_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], most: int, seconds: str
) -> None:
    status, out, err = run_command(capsys, *words, seconds)
    assert (status, out) == (2, "")
    assert err.endswith(f": Give a number of seconds from 0 to {most}.\n")
