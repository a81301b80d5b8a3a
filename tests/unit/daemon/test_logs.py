"""The engine's log takes standard error: lines of Python code, raw writes, and the report of a crash."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_archive.daemon.logs import LogFileHandler, RedactingFormatter

SECRET = "planted+secret/value"
SCRIPT = """
import faulthandler, os, sys, threading, traceback
from pathlib import Path
from cloud_archive.daemon import logs

logs.LOG_BYTES = 3000
handler = logs.log_to_file(Path(sys.argv[1]), ("planted+secret/value",), private=True)
handler.receive_stderr()
print("half a line of", "planted+secret/value", end="", file=sys.stderr)
thread = threading.Thread(target=lambda: print("a line of a thread", file=sys.stderr))
thread.start()
thread.join()
print(" and its end", file=sys.stderr)
thread = threading.Thread(target=lambda: {}["missing"])
thread.start()
thread.join()
os.write(2, b"raw words\\n")
for number in range(int(sys.argv[3])):
    print(f"line {number} " + "x" * 60, file=sys.stderr)
sys.stderr.flush()
os.write(2, b"last words\\n")
exec(sys.argv[2])
"""


def run(log: Path, end: str, lines: int = 0) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(log), end, str(lines)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr, log.read_text()


def test_lines_become_log_lines_without_secrets(tmp_path: Path) -> None:
    _, said, log = run(tmp_path / "engine.log", "pass")
    assert said == ""
    assert "ERROR half a line of *** and its end\n" in log
    assert "ERROR a line of a thread\n" in log
    assert "ERROR KeyError: 'missing'\n" in log
    assert "raw words\n" in log
    assert SECRET not in log


def test_a_file_name_cannot_forge_a_line() -> None:
    record = logging.makeLogRecord(
        {"msg": "Archived %s", "args": ("a\nERROR forged\x1b[2J",), "levelname": "INFO"}
    )
    assert RedactingFormatter("%(levelname)s %(message)s", ()).format(record) == (
        r"INFO Archived a\nERROR forged\x1b[2J"
    )


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("faulthandler._sigsegv()", "Fatal Python error: Segmentation fault"),
        ("os.abort()", "Fatal Python error: Aborted"),
        ("raise RuntimeError('planted+secret/value')", "RuntimeError: ***"),
    ],
)
def test_a_crash_leaves_its_cause(tmp_path: Path, end: str, cause: str) -> None:
    status, _, log = run(tmp_path / "engine.log", end)
    assert status != 0
    assert cause in log
    assert SECRET not in log


def test_a_rotated_log_still_receives_standard_error(tmp_path: Path) -> None:
    _, _, log = run(tmp_path / "engine.log", "pass", lines=100)
    assert "last words" in log
    assert "raw words" not in log, "that is in an old file"
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def full(tmp_path: Path) -> tuple[LogFileHandler, Path, Path]:
    """The handler of a log that is full, the log, and the old one before it."""
    path, old = tmp_path / "engine.log", tmp_path / "engine.log.1"
    path.write_text("x" * 100, encoding="utf-8")
    old.write_text("older", encoding="utf-8")
    return LogFileHandler(path, maxBytes=50, backupCount=3), path, old


def write_while_open(opened: Path, handler: LogFileHandler) -> None:
    """Write two lines while another program has a file open; Windows renames no such file, and none onto it."""
    real = os.rename

    def rename(source: str, target: str) -> None:
        if opened in (Path(source), Path(target)):
            raise PermissionError(13, "The process cannot access the file")
        real(source, target)

    with opened.open(encoding="utf-8"), pytest.MonkeyPatch.context() as patch:
        if os.name != "nt":
            patch.setattr(os, "rename", rename)
        for line in ("one", "two"):
            handler.emit(logging.makeLogRecord({"msg": line}))


def test_a_full_log_that_another_program_reads_grows_and_the_old_ones_stay(
    full: tuple[LogFileHandler, Path, Path],
) -> None:
    handler, path, old = full
    write_while_open(path, handler)
    handler.emit(logging.makeLogRecord({"msg": "three"}))
    handler.close()
    assert path.read_text("utf-8") == "three\n"
    assert old.read_text("utf-8") == "x" * 100 + "one\ntwo\n"
    assert old.with_name("engine.log.2").read_text("utf-8") == "older"


def test_no_line_is_lost_while_another_program_has_an_old_log_open(
    full: tuple[LogFileHandler, Path, Path],
) -> None:
    handler, path, old = full
    write_while_open(old, handler)
    handler.close()
    assert path.read_text("utf-8") == "x" * 100 + "one\ntwo\n"
    assert old.read_text("utf-8") == "older"


def test_a_log_that_cannot_be_written_does_not_call_itself_for_ever(tmp_path: Path) -> None:
    end = "handler.stream.close(); handler.stream = open(os.devnull); print('lost', file=sys.stderr)"
    status, _, _ = run(tmp_path / "engine.log", end)
    assert status == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_log_on_a_full_disk_is_named_once_without_secrets() -> None:
    script = f"""
import logging
from pathlib import Path
from cloud_archive.cli.logs import logging_to_stderr

with logging_to_stderr(log_file=Path("/dev/full"), environ={{"S3_SECRET_ACCESS_KEY": {SECRET!r}}}):
    for number in range(3):
        logging.getLogger("cloud_archive").info("line %d of %s", number, {SECRET!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    first, second, *rest = [line.split(maxsplit=2)[2] for line in done.stderr.splitlines()]
    assert first.startswith("WARNING The log /dev/full can't be written: ")
    assert [second, *rest] == [f"INFO    line {number} of ***" for number in range(3)]
    assert done.returncode == 0


def test_a_log_that_could_be_written_meanwhile_is_named_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handler = LogFileHandler(tmp_path / "engine.log")

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for is_full in (True, True, False, True):
        with monkeypatch.context() as full:
            if is_full:
                full.setattr(handler, "flush", fail)
            handler.emit(logging.makeLogRecord({"msg": "a line"}))
    handler.close()
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2
    assert "engine.log can't be written: No space left on device. Free space" in named[0]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with a path")
def test_a_log_may_be_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    writer = f"""
import logging
from pathlib import Path
from cloud_archive.daemon.logs import log_to_file

log_to_file(Path({str(tmp_path / "log")!r}), ())
logging.getLogger("cloud_archive").info("a line")
"""
    with subprocess.Popen([sys.executable, "-c", writer], stderr=subprocess.PIPE, text=True) as process:
        assert (tmp_path / "log").read_text("utf-8").endswith("INFO a line\n")
        assert process.communicate()[1] == ""


STANDBY = """
import logging, sys
from pathlib import Path
from cloud_archive.daemon import logs

logs.LOG_BYTES = 3000
state = Path(sys.argv[1])
handler = logs.log_to_file(state / "engine.log", (), private=True)
handler.follow(state / "engine.log", rotate=False)
log = logging.getLogger("cloud_archive")
handler.receive_stderr()
log.info("starting " + "x" * 4000)
log.info("still starting")
handler.follow(state / "standby.log", rotate=True)
for number in range(100):
    log.info("standing by %d", number)
print("standard error", file=sys.stderr)
handler.follow(state / "engine.log", rotate=True)
log.info("took over")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no file that another process has open")
def test_a_standby_leaves_the_log_of_the_engine_that_runs_alone(tmp_path: Path) -> None:
    owned = (tmp_path / "engine.log").open("a", encoding="utf-8")
    with owned:
        owned.write("first line of the engine that runs\n")
        owned.flush()
        subprocess.run([sys.executable, "-c", STANDBY, str(tmp_path)], check=True)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert set(names) >= {"engine.log", "engine.log.1", "standby.log", "standby.log.1"}
        assert "engine.log.2" not in names
        # Only what was written after the take-over rotated it: all that came before is in one file.
        before = (tmp_path / "engine.log.1").read_text("utf-8")
        assert before.startswith("first line of the engine that runs")
        assert "still starting" in before
        assert "standing by" not in before
        assert "took over" in (tmp_path / "engine.log").read_text("utf-8")
        assert "standard error" in (tmp_path / "standby.log").read_text("utf-8")


def test_a_file_that_cannot_be_opened_now_is_opened_once_it_can_be(tmp_path: Path) -> None:
    script = """
import logging, sys
from pathlib import Path
from cloud_archive.daemon import logs

state = Path(sys.argv[1])
handler = logs.log_to_file(state / "engine.log", (), private=True)
handler.receive_stderr()
log = logging.getLogger("cloud_archive")
try:
    handler.follow(state / "away" / "engine.log", rotate=True)
except OSError:
    log.info("lost")
(state / "away").mkdir()
log.info("found")
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert (tmp_path / "away" / "engine.log").read_text("utf-8").endswith("INFO found\n")
