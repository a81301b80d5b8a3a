"""Many archivers write the same names with different bytes into one bucket: each file must be there exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.fork_server import PIPE, popen, whole_process
from tests.servers import S3Server

PACKAGE_ROOT = Path(__file__).parents[2]
PREFIX = "out"


@dataclass(frozen=True, slots=True)
class Pods:
    """The result of a run. It counts digests, so that a second copy shows."""

    pods: int
    names: int
    seconds: float
    last_lines: list[str]
    exit_statuses: list[int]
    missing: int
    doubled: int
    foreign: int
    overwritten: int

    @property
    def held(self) -> bool:
        """Whether every file of every pod is there exactly once, and every pod reported that."""
        said = [f"Complete: {self.names}/{self.names}"] * self.pods
        return self.kept and not self.missing and self.last_lines == said and not any(self.exit_statuses)

    @property
    def kept(self) -> bool:
        """Whether all earlier objects are unchanged, and no object is doubled or unknown."""
        return not self.overwritten and not self.doubled and not self.foreign

    def lines(self) -> list[str]:
        return [
            f"{self.pods} pods, {self.names} names, {self.pods * self.names} files in {self.seconds:.1f} s:"
            f" missing {self.missing}, doubled {self.doubled}, of nobody {self.foreign},"
            f" replaced that were there before {self.overwritten}",
            f"said: {dict(Counter(self.last_lines))}, exit {dict(Counter(self.exit_statuses))}",
        ]


def pods(
    count: int, names: int, seed: int, server: S3Server, directory: Path, *, forks: bool = False
) -> Pods:
    """Run `count` processes `watch --once`, each on a directory of its own with the same names.

    Args:
        forks: fork them instead of starting Python.
    """
    dice = random.Random(seed)
    wanted: Counter[str] = Counter()
    before = {}
    for number in range(0, names, 3):
        key = f"{PREFIX}/ComfyUI_{number:05}_.png"
        before[key] = dice.randbytes(500)
        server.put(key, before[key])
    for pod in range(count):
        root = directory / f"pod{pod}"
        root.mkdir(parents=True)
        for number in range(names):
            body = dice.randbytes(dice.randrange(300, 20_000))
            (root / f"ComfyUI_{number:05}_.png").write_bytes(body)
            wanted[sha256(body).hexdigest()] += 1
    environ = os.environ | server.environ(S3_PREFIX=PREFIX) | {"PYTHONPATH": str(PACKAGE_ROOT)}
    began = time.monotonic()
    with contextlib.ExitStack() as logs:
        processes = [
            (popen if forks else whole_process)(
                [sys.executable, "-m", "cloud_archive", "watch", "--once", str(directory / f"pod{pod}")],
                env=environ | {"CLOUD_ARCHIVE_STATE_DIR": str(directory / f"state{pod}")},
                stdout=PIPE,
                stderr=logs.enter_context((directory / f"pod{pod}.log").open("w")),
            )
            for pod in range(count)
        ]
        said = [process.communicate(timeout=600)[0].strip().rpartition("\n")[2] for process in processes]
    seconds = time.monotonic() - began
    objects = server.objects(PREFIX)
    overwritten = sum(objects.get(key) != body for key, body in before.items())
    held = Counter(sha256(body).hexdigest() for key, body in objects.items() if key not in before)
    return Pods(
        count,
        names,
        seconds,
        said,
        [process.returncode for process in processes],
        missing=sum((wanted - held).values()),
        doubled=sum(number - 1 for number in held.values() if number > 1),
        foreign=sum(number for digest, number in held.items() if digest not in wanted),
        overwritten=overwritten,
    )
