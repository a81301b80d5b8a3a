"""The child that decodes what strangers wrote: its pipes, its priority, and no secret in its environment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from cloud_archive.catalog.child_process import start_child
from cloud_archive.redaction import ACCESS_KEY_VARIABLES, SECRET_VARIABLES

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
ECHO = "import sys; sys.stderr.write('not shown'); sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
LOWER_PRIORITY_AND_START = """
import os, sys
from cloud_archive.catalog.child_process import start_child
os.nice(3)
child = start_child([sys.executable, "-c", "import os; print(os.nice(0))"])
print(os.nice(0), child.communicate(timeout=60)[0].decode())
"""


def environment_of_child() -> dict[str, Any]:
    output, _ = start_child([sys.executable, "-c", PRINT_ENVIRONMENT]).communicate(timeout=60)
    found: dict[str, Any] = json.loads(output)
    return found


def test_the_child_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SECRET_VARIABLES, *ACCESS_KEY_VARIABLES, "HF_HOME", "My_Api_Token", "PGPASSWORD"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@proxy:8080")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:hidden@host/name")
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", "shown")
    found = environment_of_child()
    assert not [name for name, value in found.items() if "hidden" in value]
    assert found["COMFYUI_OUTPUT_DIR"] == "shown"
    assert "PATH" in found


def test_the_child_answers_through_pipes() -> None:
    child = start_child([sys.executable, "-c", ECHO])
    assert child.stderr is None
    assert child.communicate(b"\0\1\xff", timeout=60)[0] == b"\xff\1\0"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no nice values")
def test_the_child_has_the_priority_of_its_parent() -> None:
    command = [sys.executable, "-c", LOWER_PRIORITY_AND_START]
    own, of_child = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout.split()
    assert int(of_child) == int(own) >= 3


@pytest.mark.skipif(sys.platform == "win32", reason="there the flag is accepted")
def test_the_flag_against_a_console_window_is_used_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    with pytest.raises(ValueError, match="creationflags"):  # what other systems say of any flag
        start_child([sys.executable, "-c", ""])


def test_a_program_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        start_child(["/no/such/program"])
