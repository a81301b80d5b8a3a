"""The command without a store: usage, settings, words and log lines."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_archive import __version__
from cloud_archive.cli.arguments import WrongUsage, host_and_port
from cloud_archive.cli.logs import logging_to_stderr
from cloud_archive.cli.start import main as start_main
from cloud_archive.cli.start import plain_watch
from cloud_archive.terminal import format_table
from cloud_archive.text import count_noun, format_bytes, format_duration, make_printable
from tests.commands import run_command

SECRET = "planted+SECRET/value"

pytestmark = pytest.mark.usefixtures("own_state")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "S3_BUCKET": "some-bucket",
        "S3_ACCESS_KEY_ID": "AKIATEST",
        "S3_SECRET_ACCESS_KEY": SECRET,
    }.items():
        monkeypatch.setenv(name, value)


# --- usage


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(capsys, "--version") == (0, f"cloud-archive {__version__}\n", "")


def test_help_loads_neither_the_store_nor_rich() -> None:
    code = (
        "import sys; from cloud_archive.cli.app import main; main(['--help']);"
        "bad = {'boto3', 'botocore', 'rich', 'watchdog', 'pydantic', 'aiohttp'} & set(sys.modules);"
        "sys.exit(f'loaded: {bad}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_command_collects_garbage() -> None:
    gc.disable()  # as `__main__` does while modules load
    try:
        assert start_main(["--version"]) == 0
        assert gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("arguments", [("watch", "--once"), ("watch", "--json", "d", "--once")])
def test_the_plain_form_of_once_starts_without_typer(arguments: tuple[str, ...]) -> None:
    assert plain_watch(arguments) is not None


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("watch",),
        ("watch", "d"),
        ("watch", "--once", "a", "b"),
        ("watch", "--once", ""),
        ("watch", "--once", "--help"),
        ("watch", "--once", "--", "-d"),
        ("watch", "--once", "--serve", "8080"),
        ("watch", "--once", "--grace=5"),
        ("upload", "--once", "d"),
    ],
)
def test_every_other_form_is_parsed_by_typer(arguments: tuple[str, ...]) -> None:
    assert plain_watch(arguments) is None


@pytest.mark.parametrize("arguments", [("watch", "--once"), ("watch", "--once", "no-such-directory")])
def test_both_ways_to_start_once_say_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.delenv("COMFYUI_OUTPUT_DIR", raising=False)
    assert start_main(arguments) == 2
    assert capsys.readouterr() == ("", run_command(capsys, *arguments)[2])


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("watch", "--nonsense"), ("watch", "a", "b"), ("upload",), ("flush", "--timeout", "-1")],
)
def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    status, out, err = run_command(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err


def test_a_table_of_prices_that_cant_be_read_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, err = run_command(capsys, "report", "--prices", str(tmp_path / "none.json"))
    assert (status, out) == (2, "")
    assert "none.json" in err


@pytest.mark.parametrize("command", ["watch", "status", "flush", "retry"])
def test_without_a_directory_the_variable_is_named(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, _, err = run_command(capsys, command)
    assert status == 2
    assert "COMFYUI_OUTPUT_DIR" in err


@pytest.mark.skipif(os.name == "nt", reason="there the home is not a variable")
@pytest.mark.usefixtures("configured")
def test_without_a_usable_home_commands_answer_and_errors_stand_alone(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Locks that nothing removes go there.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "/proc/no such folder")
    status, out, err = run_command(capsys, "status", str(tmp_path))
    assert (status, err) == (0, "")
    assert "This user has archived nothing from this directory." in out
    status, out, err = run_command(capsys, "watch", "--once", str(tmp_path))
    assert (status, out) == (0, "Complete: nothing to archive\n")
    assert f"The state is kept in {tmp_path / '.cloud-archive-state'}" in err
    monkeypatch.setenv("CLOUD_ARCHIVE_STATE_DIR", "/proc/no such folder")
    status, out, err = run_command(capsys, "watch", "--once", str(tmp_path))
    assert (status, out) == (1, "")
    assert "Set CLOUD_ARCHIVE_STATE_DIR to a directory that can be written." in err


@pytest.mark.parametrize("command", ["watch", "status", "flush", "retry"])
def test_a_missing_directory_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    status, _, err = run_command(capsys, command, str(tmp_path / "nowhere"))
    assert status == 2
    assert str(tmp_path / "nowhere") in err


def test_the_variable_stands_for_the_directory(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(root))
    status, out, _ = run_command(capsys, "status")
    assert status == 0
    assert str(root) in out


@pytest.mark.skipif(os.name == "nt", reason="there every name has a home")
@pytest.mark.parametrize("command", ["watch", "status", "search"])
def test_a_home_directory_that_is_not_known_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", "~no such user/x")
    status, out, err = run_command(capsys, command)
    assert (status, out) == (2, "")
    assert (
        err
        == "COMFYUI_OUTPUT_DIR is '~no such user/x': the home directory is not known. Give a whole path.\n"
    )


def test_every_wrong_setting_is_named_and_no_secret(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("CLOUD_ARCHIVE_WORKERS", "many")
    status, out, err = run_command(capsys, "watch", str(root), "--once")
    assert (status, out) == (2, "")
    for name in ("S3_ACCESS_KEY_ID", "S3_BUCKET", "CLOUD_ARCHIVE_WORKERS"):
        assert name in err
    assert SECRET not in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
        ("box.local:1", ("box.local", 1)),
    ],
)
def test_serve_takes_an_address(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", "host:http", "1:99999", "http://host:80"])
def test_serve_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(WrongUsage, match="--serve"):
        host_and_port(text)


@pytest.mark.usefixtures("configured")
def test_a_taken_port_is_named(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = run_command(capsys, "watch", str(root), "--serve", f"127.0.0.1:{port}")
    assert status == 1
    assert err.startswith(f"--serve 127.0.0.1:{port}: nothing can listen there: ")
    assert err.endswith("Give an address of this machine and a free port.\n")


@pytest.mark.usefixtures("configured")
def test_a_log_file_that_cannot_be_written_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    status, _, err = run_command(
        capsys, "watch", str(root), "--once", "--log-file", str(tmp_path / "file" / "log")
    )
    assert status == 2
    assert "--log-file" in err


def test_a_wrong_setting_is_in_the_log_file(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("CLOUD_ARCHIVE_WORKERS", "many")
    status, _, err = run_command(capsys, "watch", str(root), "--log-file", str(log))
    assert status == 2
    for text in (log.read_text(), err):
        assert text.count("CLOUD_ARCHIVE_WORKERS is 'many': accepted is a whole number from 1 to 64") == 1


def test_an_unexpected_error_is_one_sentence(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("first line\nsecond")

    monkeypatch.setattr("cloud_archive.cli.ledger_view.read_ledger_view", broken)
    status, _, err = run_command(capsys, "status", str(root))
    assert status == 1
    assert "RuntimeError at test_cli.py" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("value", ["-1", "nan", "4000"])
def test_seconds_out_of_range_are_wrong_usage(capsys: pytest.CaptureFixture[str], value: str) -> None:
    status, _, err = run_command(capsys, "flush", "--timeout", value)
    assert status == 2
    assert "Give a number of seconds from 0 to 3600." in err


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


# --- words


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_950, "1 MB"),
        (1_500_000, "1.5 MB"),
        (41_234_567, "41 MB"),
        (5 * 10**9, "5 GB"),
    ],
)
def test_sizes_read_well(count: int, expected: str) -> None:
    assert format_bytes(count) == expected


def test_durations_read_as_in_the_panel() -> None:
    found = [format_duration(seconds) for seconds in (0.2, 59, 90, 3600, 7800, 30 * 86400)]
    assert found == ["1 s", "59 s", "2 min", "1 h", "2 h 10 min", "30 d"]


def test_numbers_and_names_read_well() -> None:
    assert (count_noun(1, "file"), count_noun(1200, "file")) == ("1 file", "1,200 files")
    assert make_printable("plain ü 😀.png") == "plain ü 😀.png"
    assert format_table([("a", "b"), ("long", "c")]) == ["a     b", "long  c"]
    # A terminal shows these in two columns, in none and in one.
    assert format_table([("狐🦊", "b"), ("e\u0301", "c"), ("long", "d")]) == [
        "狐🦊  b",
        "e\u0301     c",
        "long  d",
    ]
    for shown_in_two in ("\u1112\u1161\u11ab", "\u0e01\u0e35\u0e01", "\u2665\ufe0e!"):
        assert format_table([(shown_in_two, "b"), ("long", "c")])[0] == f"{shown_in_two}    b"


def test_log_lines_hold_no_secret_and_no_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = logging.getLogger("cloud_archive.test")
    file = tmp_path / "logs" / "watch.log"
    with logging_to_stderr(log_file=file, environ={"S3_SECRET_ACCESS_KEY": SECRET}):
        log.info("with %s and a\nbreak", SECRET)
        try:
            raise ValueError(SECRET)
        except ValueError:
            log.exception("It failed")
    err = capsys.readouterr().err
    first, second = err.splitlines()
    assert first.endswith("INFO    with *** and a\\nbreak")
    assert second.endswith("ERROR   It failed (ValueError: ***)")
    assert "Traceback" in file.read_text(), "the log file keeps the traceback"
    assert SECRET not in file.read_text()


def test_log_lines_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(json_lines=True, environ={"S3_SECRET_ACCESS_KEY": SECRET}):
        logging.getLogger("cloud_archive.test").warning('a "quoted"\n%s', SECRET)
    entry = json.loads(capsys.readouterr().err)
    assert entry["level"] == "warning"
    assert entry["logger"] == "cloud_archive.test"
    assert entry["message"] == 'a "quoted"\n***'


def test_only_refusals_that_last_end_a_command() -> None:
    from cloud_archive.archive.gate import Closed
    from cloud_archive.cli.give_up import Refusals
    from cloud_archive.store.failures import explain

    away, wrong_key = explain("ConnectionRefused"), explain("InvalidAccessKeyId")
    assert away.transient
    refusals = Refusals()
    assert not refusals.are_final(Closed(away, 0.0, 7))
    assert not refusals.are_final(Closed(wrong_key, 0.0, 8)), "the first after the store was away"
    assert not refusals.are_final(Closed(wrong_key, 0.0, 8)), "the same one, seen again"
    assert refusals.are_final(Closed(wrong_key, 0.0, 9))
    assert not refusals.are_final(None)
    assert not refusals.are_final(Closed(wrong_key, 0.0, 1))


def test_a_flush_gives_a_slow_scan_of_the_directory_all_of_its_time() -> None:
    """A directory whose scan takes ten seconds would never be safe if every call had two."""
    from cloud_archive.archive.status import State, Status
    from cloud_archive.cli.status import _flush

    asked: list[float] = []

    class Answer:
        def __init__(self, status: int, pending: int) -> None:
            self.status, self.message = status, "so"
            found = Status(running=True, session_id="s", state=State.IDLE, pending_files=pending)
            self.body = {"status": found.to_json()}

    class SlowEngine:
        def call(self, method: str, path: str, body: dict[str, float], *, timeout_seconds: float) -> Answer:
            assert timeout_seconds > body["timeout_seconds"]
            asked.append(body["timeout_seconds"])
            return (
                Answer(504, 3) if len(asked) == 1 else Answer(200 if body["timeout_seconds"] > 10 else 504, 0)
            )

    _, _, safe = _flush(SlowEngine(), 30.0)  # type: ignore[arg-type]
    assert safe
    assert [seconds > 10 for seconds in asked][-1]
