"""What `watch` says of its address and of its result."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.cli.once_result import Result
from cloud_archive.cli.watching import _MAX_NAMED, _MAX_SKIPPED_NAMED, _address, _open_to, _report, _run
from cloud_archive.daemon import service
from cloud_archive.daemon.service import PublicAddress
from tests.commands import run_command


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80/"),
        ("::", "http://[::1]:80/"),
        ("::1", "http://[::1]:80/"),
        ("pod.example", "http://pod.example:80/"),
    ],
)
def test_the_dashboards_address_can_be_opened(host: str, url: str) -> None:
    assert _address(host, 80) == url


def test_without_a_token_the_warning_says_who_can_reach_it() -> None:
    assert "port 80 of this machine" in _open_to("0.0.0.0", 80, has_token=False)
    assert "10.0.0.5:80" in _open_to("10.0.0.5", 80, has_token=False)
    assert "10.0.0.5:80 over plain http" in _open_to("10.0.0.5", 80, has_token=True)


def test_only_a_listener_that_fails_is_blamed_on_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Engine, *, on_ready: Callable[[int, int | None], None], **__: Any) -> list[str]:
        on_ready(1, 2)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(service, "run_daemon", fail)
    address = PublicAddress("127.0.0.1", 0, None)
    with pytest.raises(OSError, match="Input/output error"):
        _run(Engine(tmp_path), address, 1.0, lambda: None, lambda: None)


def test_a_token_without_an_address_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (token := tmp_path / "token").write_text("secret")
    assert run_command(capsys, "watch", tmp_path, "--token-file", token) == (
        2,
        "",
        "--token-file needs --serve.\n",
    )


@pytest.mark.parametrize(
    ("result", "line", "status"),
    [
        (Result(archived=2, already=1, total=3, finished=True), "Complete: 3/3", 0),
        (Result(total=3, archived=2, failures=[("a.png", "No.")], finished=True), "Complete: 2/3", 1),
        (Result(archived=1, total=0, finished=True), "Complete: 1/1", 0),
        (Result(finished=True), "Complete: nothing to archive", 0),
        (Result(total=3, archived=3), "Complete: 3/3", 1),
    ],
)
def test_the_last_line_sums_up(
    capsys: pytest.CaptureFixture[str], result: Result, line: str, status: int
) -> None:
    assert _report(result, json=False) == status
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_a_signal_that_left_no_file_over_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(Result(), json=False) == 1
    assert capsys.readouterr() == ("", "Interrupted.\n")


def test_failures_are_on_standard_error_and_a_long_list_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    failures = [("", "All of it."), *((f"{number:05}.png", "No.") for number in range(_MAX_NAMED))]
    assert _report(Result(failures=failures, finished=True), json=False) == 1
    out, err = capsys.readouterr()
    assert out == "", "the errors say it all"
    lines = err.splitlines()
    assert (lines[0], lines[1]) == ("All of it.", "00000.png: No.")
    assert (len(lines), lines[-1]) == (_MAX_NAMED + 1, "… and 1 more")


def test_skipped_files_are_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = [(f"{number:03}", "It is empty.") for number in range(30)]
    _report(Result(archived=1, total=1, skipped=skipped, skipped_files=40, finished=True), json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Skipped 000: It is empty."
    assert lines[_MAX_SKIPPED_NAMED:] == [f"… and {40 - _MAX_SKIPPED_NAMED} more skipped", "Complete: 1/1"]


def test_json_is_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(archived=1, already=2, total=4, failures=[("a\n.png", "No.")], finished=True)
    assert _report(result, json=True) == 1
    out, err = capsys.readouterr()
    assert err == "a\\n.png: No.\n"
    assert json.loads(out) == {
        "archived": 1,
        "already_archived": 2,
        "failed": 1,
        "total": 4,
        "failures": [{"file": "a\n.png", "cause": "No."}],
        "skipped_files": 0,
        "skipped": [],
    }
