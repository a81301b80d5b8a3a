"""SIGKILL during the very first start, and a watched directory that is replaced for a moment."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloud_archive.api.client import LocalEngine
from cloud_archive.errors import EngineUnavailable
from cloud_archive.state import read_engine_info
from tests.faults.killer import Killer
from tests.faults.tormentor import OLDER, Tormentor

RUNNING_SECONDS = 60.0


def write_older_files(root: Path) -> None:
    """Write files that are older than the first start: they are not archived, and keep the first scan busy."""
    (root / OLDER).mkdir()
    for number in range(10_000):
        file = root / OLDER / f"{number}.png"
        file.write_bytes(b"older %d" % number)
        os.utime(file, (1.7e9, 1.7e9))


def kill_first_starts(killer: Killer, state: Path, seed: int) -> None:
    """Kill up to two first starts at random moments; return as soon as the next one reports that it is running."""
    dice = random.Random(seed + 2)
    for _ in range(dice.randint(0, 2)):
        killer.start()
        time.sleep(dice.uniform(0, 1.0))
        killer.kill()
    killer.start()
    deadline = time.monotonic() + RUNNING_SECONDS
    while not (_status(state) or {}).get("running"):
        assert time.monotonic() < deadline, killer.log_file.read_text(errors="replace")[-3000:]
        time.sleep(0.002)


def _status(state: Path) -> dict[str, Any] | None:
    """Return the status of the engine that archives now; None if none answers."""
    info = read_engine_info(state)
    with contextlib.suppress(EngineUnavailable):
        return None if info is None else LocalEngine(info).status()
    return None


class Replacer:
    """Replaces the watched directory by an empty one and puts it back, as an unmounted volume does."""

    def __init__(self, root: Path, state: Path, tormentor: Tormentor, seed: int) -> None:
        self._root = root
        self._state = state
        self._tormentor = tormentor
        self._dice = random.Random(seed + 3)
        self.replaced = 0
        self.called_safe = 0

    def replace(self, killers: Sequence[Killer]) -> None:
        """Replace it for a moment, during which a process may be killed and another one started."""
        away = self._root.with_name("away")
        with self._tormentor.paused():
            away.mkdir()
            _exchange(self._root, away)
            self.replaced += 1
            if self._dice.random() < 0.5:
                for each in killers:
                    if each.alive:
                        each.kill()
            if not killers[0].alive:
                killers[0].start()
            time.sleep(self._dice.uniform(0.2, 2.5))
            status = _status(self._state)
            self.called_safe += bool(status and status["safe_to_stop"])
            _exchange(self._root, away)
            away.rmdir()


def _exchange(one: Path, other: Path) -> None:
    """Exchange two directories; on Linux a process that starts meanwhile finds one of them, as at a mount point."""
    if sys.platform != "linux":
        spare = one.with_name("spare")
        one.rename(spare)
        other.rename(one)
        spare.rename(other)
        return
    at_working_directory, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE, renameat2(2)
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    if rename(at_working_directory, os.fsencode(one), at_working_directory, os.fsencode(other), exchange):
        raise OSError(ctypes.get_errno(), "The directories can't be exchanged", str(one))
