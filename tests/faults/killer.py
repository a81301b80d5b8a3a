"""Start a command, kill it with SIGKILL at moments drawn from a seed, and start it again.

A moment drawn at random mostly falls into the start of the interpreter. So most kills are aimed: they wait until the
process does something that the caller can see (`busy`), and come at a random moment after that.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.fork_server import Process, popen, whole_process


class Killer:
    """Starts and kills one command repeatedly.

    Args:
        command: the program and its arguments; it must stay in the foreground.
        environment: its whole environment.
        log_file: takes its output; each start appends.
        seed: of the random moments.
        busy: called with a timeout in seconds; returns once the process does something worth interrupting.
        aimed_share: the share of kills that wait for `busy`.
        longest_seconds: the longest wait of a kill that is not aimed.
        strike_seconds: the longest wait of an aimed kill after `busy`.
        forks: fork it instead of starting Python, so that no kill hits the start of Python.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        *,
        seed: int,
        busy: Callable[[float], object] | None = None,
        aimed_share: float = 0.75,
        longest_seconds: float = 2.0,
        strike_seconds: float = 0.4,
        forks: bool = False,
    ) -> None:
        self._command = [*command]
        self._environment = dict(environment)
        self.log_file = log_file
        self._dice = random.Random(seed)
        self._busy = busy
        self._aimed_share = aimed_share
        self._longest_seconds = longest_seconds
        self._strike_seconds = strike_seconds
        self._popen = popen if forks else whole_process
        self._process: Process | None = None
        self.kills = 0
        self.died: list[int] = []
        """Exit statuses of processes that ended without being killed."""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the command, in a process group of its own."""
        with self.log_file.open("ab") as log:
            log.write(f"--- start after {self.kills} kills\n".encode())
            log.flush()
            self._process = self._popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Send SIGKILL to the process and its children now."""
        assert self._process is not None
        if self._process.poll() is not None:
            self.died.append(self._process.returncode)
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.kills += 1

    def kill_once(self) -> None:
        """Start the command if it does not run, wait for the moment, kill it."""
        if not self.alive:
            self.start()
        # Both draws always happen, so that the sequence does not depend on what the process does.
        aimed, share = self._dice.random() < self._aimed_share, self._dice.random()
        if aimed and self._busy is not None:
            self._busy(10)
            time.sleep(share * self._strike_seconds)
        else:
            time.sleep(share * self._longest_seconds)
        self.kill()

    def stop(self, timeout_seconds: float = 60) -> int:
        """Send SIGTERM (it has 30 s of grace). Returns the exit status; -9 if it had to be killed after the timeout."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()
