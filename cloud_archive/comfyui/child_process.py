"""Start the engine process and follow it to its end, in a thread, so that no zombie process remains.

ComfyUI's process loads this: standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..redaction import redact, secret_values

_MAX_ANSWER_BYTES = 64 * 1024
_TAIL_BYTES = 16 * 1024
_MAX_CAUSE_CHARACTERS = 400
_SEE_LOG = " See engine.log in the state directory."


def engine_command() -> list[str]:
    """Return the command line of an engine.

    Not with `-m`, because an embedded Python ignores PYTHONPATH and the current directory, and the plugin's folder may
    have any name.
    """
    interpreter = sys.executable or getattr(sys, "_base_executable", "")
    return [interpreter, *interpreter_flags(), str(Path(__file__).parents[1] / "__main__.py"), "engine"]


def interpreter_flags() -> list[str]:
    """Return the flags with which a child imports packages and reads text as this interpreter does."""
    flags = []
    if sys.flags.isolated:
        flags.append("-I")
    else:
        flags += ["-s"] if sys.flags.no_user_site else []
        flags += ["-E"] if sys.flags.ignore_environment else []
        flags += ["-P"] if getattr(sys.flags, "safe_path", False) else []
    flags += ["-B"] if sys.flags.dont_write_bytecode else []
    flags += ["-X", "utf8"] if sys.flags.utf8_mode else []
    return flags


class EngineProcess:
    """One engine process, from its start to its end.

    Args:
        command: the command line.
        orders: the JSON object that is written to its standard input, which then stays open until `release`. Its token
            must not appear in the command line.
        on_ready: called with the engine's answer (`{"port", "pid", "version"}`), in this object's thread.
        on_end: called once, in the same thread, with the cause as a sentence, after the process was reaped or could not
            be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        orders: Mapping[str, Any],
        *,
        on_ready: Callable[[Mapping[str, Any]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._command = list(command)
        self._orders = dict(orders)
        self._on_ready = on_ready
        self._on_end = on_end
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._released = False
        self._kill_cause = ""
        self._thread = threading.Thread(target=self._run, name="cloud-archive-engine", daemon=True)

    def start(self) -> None:
        """Start the process; returns at once. Raises RuntimeError if there can be no more threads."""
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process id; None before the process was started."""
        process = self._process
        return process.pid if process is not None else None

    def release(self) -> None:
        """Close the engine's standard input, so that it finishes what is pending and ends by itself."""
        with self._lock:
            self._released = True
            self._close_input()

    def kill(self, cause: str) -> None:
        """Kill the process, now or once it is started, and give `on_end` this cause. No-op if it has ended."""
        with self._lock:
            process = self._process
            if process is None:
                self._kill_cause = cause
            elif process.poll() is None:
                self._kill_cause = cause
                process.kill()

    def _run(self) -> None:
        try:
            with _open_error_output() as output:
                cause = self._run_process(output)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            cause = f"The engine can't be started: {getattr(error, 'strerror', None) or error}."
        self._on_end(cause)

    def _run_process(self, output: IO[bytes]) -> str:
        process = _spawn(self._command, output)
        with self._lock:
            self._process = process
            if self._released:
                self._close_input()
            if self._kill_cause:
                process.kill()
        assert process.stdout is not None
        ready = False
        try:
            self._send_orders(process)
            line = process.stdout.readline(_MAX_ANSWER_BYTES)
            answer = _parse_ready(line)
            ready = answer is not None
            if answer is not None:
                self._on_ready(answer)
            elif line:
                self.kill("The engine answered something unexpected at start.")
            while process.stdout.read(_MAX_ANSWER_BYTES):
                pass  # the engine prints nothing more; but if something does, a full pipe must not block it
            process.wait()
        finally:
            with self._lock:
                self._close_input()
            process.stdout.close()
        return self._kill_cause or _cause_of_end(process.returncode, output, ready)

    def _send_orders(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        line = memoryview(json.dumps(self._orders).encode() + b"\n")
        with contextlib.suppress(OSError, ValueError):  # the process has ended, or was released meanwhile
            while line:
                line = line[process.stdin.write(line) :]

    def _close_input(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _open_error_output() -> IO[bytes]:
    """Open a file for the engine's standard error. A full pipe would block the engine; a closed one would break it."""
    try:
        return tempfile.TemporaryFile(mode="a+b", prefix="cloud-archive-engine-")
    except OSError:  # no place for temporary files
        return open(os.devnull, "a+b")


def _spawn(command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    platform: dict[str, Any] = {}
    if sys.platform == "win32":
        platform["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    else:
        platform["start_new_session"] = True  # Ctrl-C in ComfyUI's terminal must not reach the engine
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        bufsize=0,  # no buffers, whose locks a daemon thread could hold while the interpreter ends
        **platform,
    )


def _parse_ready(line: bytes) -> Mapping[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    if isinstance(answer, dict) and isinstance(answer.get("port"), int):
        return answer
    return None


def _cause_of_end(returncode: int, output: IO[bytes], ready: bool) -> str:
    when = "The engine ended" if ready else "The engine ended at start"
    last_line = "" if ready else _last_line(output)  # once the engine is ready, it writes errors to its log
    if last_line:
        return f"{when}: {last_line}"
    if returncode < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-returncode).name
            hint = " (perhaps this machine ran out of memory)" if name == "SIGKILL" else ""
            return f"{when}: signal {name}{hint}.{_SEE_LOG if ready else ''}"
    return f"{when} with exit status {returncode}.{_SEE_LOG if ready else ''}"


def _last_line(output: IO[bytes]) -> str:
    """Return the last line of the engine's standard error, without the exception's class, secrets and excess length."""
    try:
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _TAIL_BYTES))
        text = output.read().replace(b"\0", b"").decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    line = re.sub(r"^(?:\w+\.)*\w*(?:Error|Exception): ", "", lines[-1])
    return redact(line, secret_values(os.environ))[:_MAX_CAUSE_CHARACTERS]
