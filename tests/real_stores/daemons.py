"""Start servers from Debian's packages in a directory of their own, and end only these."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


class CannotRun(Exception):
    """The store can't be installed or started here; the text says what failed."""


def need(programs: Sequence[str], packages: Sequence[str], *, install: bool) -> None:
    """Make sure that programs are there; with `install`, install Debian's packages where they are not.

    Raises:
        CannotRun: a program is missing.
    """
    if any(shutil.which(program) is None for program in programs) and install:
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", "-q", *arguments], capture_output=True, text=True)
            if done.returncode:
                raise CannotRun(f"apt-get {' '.join(arguments)}: {done.stderr.strip()[-800:]}")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise CannotRun(f"{', '.join(missing)}: not installed. Debian's packages: {' '.join(packages)}.")


def package_version(package: str) -> str:
    """Return the version of an installed Debian package."""
    return run(["dpkg-query", "-W", "-f", "${Version}", package])


def run(arguments: Sequence[str], *, timeout_seconds: float = 120) -> str:
    """Run a program to its end and return what it wrote.

    Raises:
        CannotRun: it failed.
    """
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_seconds)
    if done.returncode:
        raise CannotRun(f"{' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout.strip()


class Daemons(contextlib.ExitStack):
    """Processes that end with the block, the last one first.

    Args:
        directory: their logs go there, as `NAME.out`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def start(self, name: str, arguments: Sequence[str], is_up: Callable[[], bool]) -> None:
        """Start a process and wait until `is_up`.

        Raises:
            CannotRun: it ended, or is not up within a minute.
        """
        log = self._directory / f"{name}.out"
        with log.open("ab") as output:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(os.environ)
            )
        self.callback(_end, process)
        deadline = time.monotonic() + 60
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                raise CannotRun(f"{name} did not start: {log.read_text(errors='replace').strip()[-800:]}")
            time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def daemons(directory: Path) -> Iterator[Daemons]:
    """Yield a `Daemons` whose processes are ended afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    with Daemons(directory) as started:
        yield started
