"""Decide which engine archives a directory: the lock, the standby behind another engine, and the hand-over.

An engine whose ComfyUI has ended hands the directory over when another engine asks for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..config.settings import state_directory as configured_state_directory
from ..handshake import call_engine
from ..state import DirectoryLock, find_state_directory, make_state_directory, read_engine_info

logger = logging.getLogger("cloud_archive.engine")

STANDBY_SECONDS = 1.0  # between two tries to take over
LONGEST_STANDBY_SECONDS = 30.0  # the longest pause between two tries, after several faults
HANDOVER_ANSWER_SECONDS = 5.0  # how long to wait for the answer of the engine that is asked to hand over
HANDOVER_SECONDS = 10.0  # how long to wait for the lock once it has agreed


class Ownership:
    """The right to archive one directory. One engine on this machine holds it, and others stand by.

    Args:
        state_base: the folder for the state; None = CLOUD_ARCHIVE_STATE_DIR, or else the platform's default.
        prefer_environment: use CLOUD_ARCHIVE_STATE_DIR, if it is set, instead of `state_base`.
        machine_wide: False if no other process uses the directory (the demo), so that nothing is written outside
            `state_base`.
        orphaned: returns whether the process that this engine serves has ended.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        *,
        state_base: Path | None,
        prefer_environment: bool,
        machine_wide: bool,
        orphaned: Callable[[], bool],
    ) -> None:
        self._root = root
        self._environ = environ
        self._state_base = state_base
        self._prefer_environment = prefer_environment
        self._machine_wide = machine_wide
        self._orphaned = orphaned
        self.state_directory: Path | None = None
        self.closing = threading.Event()
        self._handed_over = threading.Event()
        self._ending = threading.Event()
        self._lock: DirectoryLock | None = None
        self._standby: threading.Thread | None = None

    def prepare(self) -> Path:
        """Make the state directory and return it. CloudArchiveError: it can't be made, or other users may change it."""
        base = self._state_base
        if base is None or self._prefer_environment:
            base = configured_state_directory(self._environ) or base
        from_environment = base is not self._state_base
        self.state_directory = make_state_directory(self._root, base, keep_mode=from_environment)
        return self.state_directory

    # --- the lock

    def acquire(self) -> bool:
        """Take the lock, if necessary by asking an orphaned engine for it. Return False if another engine keeps it.

        If no lock can be made, that counts as having it; see `unlocked`. CloudArchiveError: see `prepare`.
        """
        state_directory = self.state_directory or self.prepare()
        if self._lock is None:
            self._lock = DirectoryLock(state_directory, self._root, machine_wide=self._machine_wide)
        if self._lock.acquire():
            return True
        if not self.ask_for_handover():
            return False
        deadline = time.monotonic() + HANDOVER_SECONDS
        while not self._lock.acquire():
            if time.monotonic() > deadline or self.closing.wait(0.05):
                return False
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()

    @property
    def unlocked(self) -> bool:
        """Whether no lock could be made, so that nothing prevents a second engine."""
        return self._lock is not None and self._lock.unlocked

    # --- standing by

    @property
    def stands_by(self) -> bool:
        """Whether this engine waits, or has waited, to take over from another one or to begin again after a fault."""
        return self._standby is not None

    def stand_by(self, begin: Callable[[], bool], failed: Callable[[], bool]) -> None:
        """Call `begin` again and again in a thread of its own, until it returns True, or until `close`.

        `failed` returns whether the last try failed with a fault, and not because another engine holds the lock. The
        pauses grow with each fault in a row. No-op while the thread runs.
        """
        if self._standby is not None and self._standby.is_alive():
            return

        def keep_trying() -> None:
            failures = 0
            while not self.closing.wait(min(STANDBY_SECONDS * 2**failures, LONGEST_STANDBY_SECONDS)):
                after_fault = failed()
                if begin():
                    done = "The fault is over: opened" if after_fault else "Took over"
                    logger.info("%s the archive of %s", done, self._root)
                    return
                failures = min(failures + 1, 10) if failed() else 0

        thread = threading.Thread(target=keep_trying, name="cloud-archive-standby", daemon=True)
        thread.start()
        self._standby = thread  # only now, because a thread that could not start can't be joined

    # --- hand-over

    def ask_for_handover(self) -> bool:
        """Ask the engine that is registered in the state directory to hand over. Return whether it agreed."""
        assert self.state_directory is not None
        info = read_engine_info(self.state_directory)
        if info is None or info.pid == os.getpid():
            return False
        from http.client import HTTPException

        try:
            _, answer = call_engine(
                info.port, info.token, "POST", "/engine/handover", None, HANDOVER_ANSWER_SECONDS
            )
        except (OSError, HTTPException):
            return False
        return isinstance(answer, dict) and bool(answer.get("success"))

    def agree_to_handover(self) -> bool:
        """Agree to hand the directory over if this engine is orphaned. Return whether it agreed."""
        if not self._orphaned():
            return False
        self._handed_over.set()
        self._ending.set()
        return True

    @property
    def handed_over(self) -> bool:
        """Whether this engine has agreed to hand over, and must end."""
        return self._handed_over.is_set()

    def wait_for_handover(self) -> None:
        """Wait until this engine has agreed to hand over, or is closed."""
        self._ending.wait()

    # --- the end

    def close(self) -> None:
        """End the standby. Keeps the lock until `release`."""
        self.closing.set()
        self._ending.set()
        if self._standby is not None and self._standby is not threading.current_thread():
            self._standby.join()


def engine_state_directory(root: Path, environ: Mapping[str, str]) -> Path:
    """Return the state directory of `root`, in which a running engine registers itself."""
    return find_state_directory(root, configured_state_directory(environ))
