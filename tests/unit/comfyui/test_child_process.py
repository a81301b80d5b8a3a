"""How an engine process ends, in a sentence; the process is a small Python program."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.comfyui.child_process import EngineProcess, engine_command, interpreter_flags

READY = "print('{\"port\": 4711}', flush=True); "
READ = "import sys; orders = sys.stdin.readline(); "


class Followed:
    """An engine process that runs `program`; what it answered, and why it ended."""

    def __init__(self, *command: str, orders: Mapping[str, Any] | None = None) -> None:
        self.answers: list[Mapping[str, Any]] = []
        self.causes: list[str] = []
        self.ended = threading.Event()
        self.process = EngineProcess(
            command, orders or {}, on_ready=self.answers.append, on_end=self._note_end
        )

    def _note_end(self, cause: str) -> None:
        self.causes.append(cause)
        self.ended.set()

    def cause(self) -> str:
        self.process.start()
        assert self.ended.wait(60)
        (cause,) = self.causes
        return cause


def python(program: str, **more: Any) -> Followed:
    return Followed(sys.executable, "-I", "-c", READ + program, **more)


def test_the_orders_arrive_in_one_line_and_the_answer_comes_back() -> None:
    engine = python(READY.replace("4711", "' + str(len(orders)) + '"), orders={"token": "x" * 200_000})
    engine.cause()
    assert engine.answers == [{"port": len('{"token": "') + 200_000 + len('"}\n')}]


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        ("sys.exit('ValueError: S3_BUCKET is not set')", "The engine ended at start: S3_BUCKET is not set"),
        ("raise RuntimeError('no disk\\n\\n')", "The engine ended at start: no disk"),
        ("sys.exit(3)", "The engine ended at start with exit status 3."),
        (
            READY + "sys.exit(3)",
            "The engine ended with exit status 3. See engine.log in the state directory.",
        ),
        (
            READY + "sys.exit('an error')",
            "The engine ended with exit status 1. See engine.log in the state directory.",
        ),
        (
            "print('hello', flush=True); sys.stdin.read()",
            "The engine answered something unexpected at start.",
        ),
        ("print('{}', flush=True); sys.stdin.read()", "The engine answered something unexpected at start."),
    ],
)
def test_the_end_is_a_sentence_with_its_cause(program: str, cause: str) -> None:
    assert python(program).cause() == cause


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_kill_may_mean_that_the_memory_ran_out() -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert python(kill).cause() == (
        "The engine ended at start: signal SIGKILL (perhaps this machine ran out of memory)."
    )


def test_a_secret_on_standard_error_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "planted-secret-key")
    cause = python("sys.exit('refused: planted-secret-key')").cause()
    assert cause.startswith("The engine ended at start: refused: ")
    assert "planted" not in cause


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    cause = Followed(str(tmp_path / "no python")).cause()
    assert cause.startswith("The engine can't be started: ")


def test_output_beyond_the_answer_does_not_block_the_engine() -> None:
    engine = python(READY + "print('x' * 1_000_000, flush=True)")
    assert engine.cause().startswith("The engine ended with exit status 0.")


def test_released_before_it_was_started_it_ends_at_once() -> None:
    engine = python("sys.exit(5 if orders or sys.stdin.read() else 6)")
    engine.process.release()
    assert engine.cause() == "The engine ended at start with exit status 6."


def test_killed_before_it_was_started_it_ends_at_once() -> None:
    engine = python("sys.stdin.read()")
    engine.process.kill("It took too long.")
    assert engine.cause() == "It took too long."


@pytest.mark.parametrize("flags", [["-I"], ["-s"], ["-E"], ["-s", "-E", "-B"], ["-X", "utf8"]])
def test_the_child_gets_the_flags_of_this_interpreter(flags: list[str]) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from cloud_archive.comfyui.child_process import interpreter_flags; print(interpreter_flags())"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, *flags, "-c", code, root], capture_output=True, text=True, check=True
    )
    # PYTHONDONTWRITEBYTECODE may add its own.
    found = [flag for flag in ast.literal_eval(done.stdout) if flag != "-B" or "-B" in flags]
    assert found == flags


def test_the_command_names_the_package_by_path() -> None:
    command = engine_command()
    assert command[0] == sys.executable
    assert command[1 : 1 + len(interpreter_flags())] == interpreter_flags()
    assert Path(command[-2]).name == "__main__.py"
    assert Path(command[-2]).is_file()
    assert command[-1] == "engine"
