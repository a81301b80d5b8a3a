"""The engine's log takes standard error: lines of Python code, raw writes, and the report of a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "planted+secret/value"
SCRIPT = """
import faulthandler, os, sys, threading, traceback
from pathlib import Path
from cloud_archive.daemon import logs

logs.LOG_BYTES = 3000
handler = logs.log_to_file(Path(sys.argv[1]), ("planted+secret/value",), private=True)
handler.take_stderr()
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


def test_a_rotated_log_goes_on_taking_standard_error(tmp_path: Path) -> None:
    _, _, log = run(tmp_path / "engine.log", "pass", lines=100)
    assert "last words" in log
    assert "raw words" not in log, "that is in an old file"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_log_that_cannot_be_written_does_not_call_itself_for_ever(tmp_path: Path) -> None:
    end = "handler.stream.close(); handler.stream = open(os.devnull); print('lost', file=sys.stderr)"
    status, _, _ = run(tmp_path / "engine.log", end)
    assert status == 0
