"""Start Python processes fast: fork one that has loaded everything.

An engine process costs a second of processor time before it does anything: the interpreter, its imports, the SDK. In
a test that is not about the start, `popen` makes it as a fork of a process that did all this once. It is a real
process, with its own memory, signals, session and files, and can be killed like any other.

On other systems than Linux, for an interpreter with flags, or for other programs, it is `subprocess.Popen`.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent
PIPE = subprocess.PIPE
_MAX_ORDER_BYTES = 128 * 1024


class Forked:
    """A forked process, with the part of `subprocess.Popen`'s interface that tests use; text only."""

    def __init__(self, args: Sequence[str], reports: IO[str], streams: Sequence[IO[str] | None]) -> None:
        self.args = args
        self.stdin, self.stdout, self.stderr = streams
        self.returncode: int | Any = None
        self._reports = reports  # a line with its id, later one with its exit status
        self.pid = int(reports.readline())

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._read_status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        status = self._read_status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def _read_status(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._reports], [], [], timeout)[0]:
            self.returncode = int(self._reports.readline())
            self._reports.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Close its input, read all its output, wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.stdin is not None:
            self.stdin.close()
        threads = ThreadPoolExecutor(2)
        try:
            reading = [threads.submit(_read_all, stream) for stream in (self.stdout, self.stderr)]
            out, err = (future.result(_seconds_left(deadline)) for future in reading)
        except NotInTime:
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        finally:
            threads.shutdown(wait=False)
        self.wait(_seconds_left(deadline))
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal; no-op if the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Forked | subprocess.Popen[str]


def _read_all(stream: IO[str] | None) -> str:
    if stream is None or stream.closed:
        return ""
    with stream:
        return stream.read()


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


whole_process: Callable[..., Process] = functools.partial(subprocess.Popen, text=True)
"""As `popen`, but never a fork: for tests of the start itself."""


def popen(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    start_new_session: bool = False,
) -> Process:
    """As `subprocess.Popen` in text mode; a fork if `args` begin with this interpreter, without flags."""
    if not _can_be_a_fork(args):
        return whole_process(
            args,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=start_new_session,
        )
    order = {
        "arguments": args[1:],
        "environ": dict(os.environ if env is None else env),
        "directory": str(cwd or Path.cwd()),
        "session": start_new_session,
    }
    reports, report_to = os.pipe()
    given, ours = [report_to], [report_to]
    streams: list[IO[str] | None] = []
    for number, wanted in enumerate((stdin, stdout, stderr)):
        stream = None
        if wanted == PIPE:
            reads, writes = os.pipe()
            theirs, mine, mode = (reads, writes, "w") if number == 0 else (writes, reads, "r")
            stream = os.fdopen(mine, mode, encoding="utf-8")
            ours.append(theirs)
        elif wanted == subprocess.DEVNULL:
            theirs = os.open(os.devnull, os.O_RDWR)
            ours.append(theirs)
        elif wanted is None:
            theirs = number
        else:
            theirs = wanted if isinstance(wanted, int) else wanted.fileno()
        streams.append(stream)
        given.append(theirs)
    socket.send_fds(_server(), [json.dumps(order).encode()], given)
    for each in ours:
        os.close(each)
    return Forked(args, open(reports, encoding="ascii"), streams)


def _can_be_a_fork(args: Sequence[str]) -> bool:
    with_flags = args[1].startswith("-") and args[1] not in ("-m", "-c")
    return sys.platform == "linux" and args[0] == sys.executable and not with_flags


@functools.cache
def _server() -> socket.socket:
    """Return a socket to the process to fork from, started at the first call; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("S3_", "R2_", "AWS_"))
    }
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
            cwd=ROOT,
            env=environ | {"PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # so that a Ctrl+C reaches neither it nor its forks
        )

    def close() -> None:
        ours.close()
        process.wait()

    atexit.register(close)
    return ours


# --- the process to fork from


def _load_everything() -> None:
    import cloud_archive
    from cloud_archive.config.settings import load_settings
    from cloud_archive.store.s3 import S3Store
    from tests.sdk_data import read_sdk_data_once

    for module in pkgutil.walk_packages(cloud_archive.__path__, "cloud_archive."):
        if module.name not in ("cloud_archive.comfyui.plugin", "cloud_archive.__main__"):
            importlib.import_module(module.name)
    read_sdk_data_once()
    nowhere = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s"}
    store = S3Store(load_settings(nowhere | {"S3_ENDPOINT_URL": "http://127.0.0.1:9"}))
    store._requests.client()
    store.close()
    gc.collect()
    gc.freeze()


def _reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> None:
    """Fork a process for each order, until the other end of the socket is closed."""
    _load_everything()
    orders = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        line, given, _, _ = socket.recv_fds(orders, _MAX_ORDER_BYTES, 4)
        if not line:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            orders.close()
            break
        for each in given:
            os.close(each)
    report_to, *streams = given
    child = os.fork()
    if child:  # the parent only waits for it
        for each in streams:
            os.close(each)
        os.write(report_to, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(0)
    order = json.loads(line)
    if order["session"]:
        os.setsid()
    os.write(report_to, b"%d\n" % os.getpid())  # after `setsid`: a reader may kill its group at once
    os.close(report_to)
    _become(order, streams)


def _become(order: Mapping[str, Any], streams: Sequence[int]) -> None:
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    # The streams that Python opened at its start belong to other files.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environ"])
    tempfile.tempdir = None  # an import may have asked for the directory of the environment before
    what, *rest = order["arguments"]
    if what == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif what == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [what, *rest]
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    main()
