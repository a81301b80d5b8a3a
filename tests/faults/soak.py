"""The soak: 100,000 small and 200 large files through one engine, whose memory must not grow beyond its caches.

Files are written folder by folder while the engine archives. Each folder is compared with the bucket (by MD5, which
SeaweedFS gives as the ETag; large files by the SHA-256 of what is read back), and then removed on both sides, so that
the disk never fills.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import sqlite3
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.stage import RunningEngine
from tests.servers import S3Server

MEBIBYTE = 1024 * 1024
PER_FOLDER = 500
MOST_FOLDERS = 6  # that wait to be archived; the writer pauses at more
FOLDER_LOOKS = 3000
LOOK_SECONDS = 0.2
SAMPLE_SECONDS = 0.5
LEAST_SMALL = 20_000  # fewer are archived before enough samples are taken
WARM_UP_LARGE = 10
VACUUM_FOLDERS = 10
GROWTH = 1.10
CACHES = 32 * MEBIBYTE  # SQLite's page caches of two connections to the catalog: they fill as its file grows
SPARE_DESCRIPTORS = 4  # connections come and go
PREFIX = "ours"


@dataclass(frozen=True, slots=True)
class Sample:
    """What the engine's process held at one moment."""

    seconds: float
    files: int
    memory: int
    descriptors: int
    threads: int
    cpu_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.0f} s {self.files:8,} files {self.memory / MEBIBYTE:7.1f} MiB"
            f" {self.descriptors:4} descriptors {self.threads:3} threads {self.cpu_seconds:7.1f} s of CPU"
        )


@dataclass
class SoakResult:
    """The result of a run."""

    small: int
    large: int
    seconds: float = 0.0
    size_bytes: int = 0
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ledger_bytes: int = 0
    rows: int = 0
    errors: list[str] = field(default_factory=list)

    def _parts(self) -> tuple[list[Sample], list[Sample]]:
        """Return the samples of the second quarter, after the warm-up, and of the last one."""
        quarter = max(1, len(self.samples) // 4)
        return self.samples[quarter : 2 * quarter], self.samples[-quarter:]

    def lines(self) -> Iterator[str]:
        early, late = self._parts()
        files = self.small + self.large
        yield (
            f"{self.small:,} small and {self.large} large files, {self.size_bytes / 1e9:.1f} GB in {self.seconds:.0f} s"
            f" ({files / self.seconds:.0f} files a second)"
        )
        for what, part in (("second quarter", early), ("last quarter", late)):
            columns = {
                "memory in MiB": [round(sample.memory / MEBIBYTE, 1) for sample in part],
                "descriptors": [float(sample.descriptors) for sample in part],
                "threads": [float(sample.threads) for sample in part],
            }
            for name, values in columns.items():
                least, middle, most = min(values), statistics.median(values), max(values)
                yield f"{what}, {name}: least {least:.1f}, median {middle:.1f}, most {most:.1f}"
        yield f"ledger: {self.rows:,} rows, {self.ledger_bytes / max(1, self.rows):.0f} bytes a row"
        yield f"wrong: {len(self.wrong)}, errors in the status: {len(self.errors)}"
        yield from (f"  {each}" for each in [*self.wrong[:20], *self.errors[:20]])

    @property
    def held(self) -> bool:
        """Whether every file arrived unchanged, and nothing grew but the caches.

        Of threads and descriptors the least count: while files are hashed and sent there are more.
        """
        early, late = self._parts()

        def middle(part: list[Sample]) -> float:
            return statistics.median(sample.memory for sample in part)

        return (
            not self.wrong
            and not self.errors
            and self.rows == self.small + self.large
            and middle(late) <= middle(early) * GROWTH + CACHES
            and max(s.memory for s in late)
            <= max(s.memory for s in self.samples[: -len(late)]) * GROWTH + CACHES
            and min(s.threads for s in late) <= min(s.threads for s in early)
            and min(s.descriptors for s in late) <= min(s.descriptors for s in early) + SPARE_DESCRIPTORS
        )


def soak(
    small: int, large: int, seed: int, server: S3Server, directory: Path, progress: Callable[[str], None]
) -> SoakResult:
    """Write, archive, compare and remove files, folder by folder."""
    root, state = directory / "output", directory / "state"
    root.mkdir(parents=True)
    found = SoakResult(small, large)
    engine = RunningEngine(root, state, server.environ(S3_PREFIX=PREFIX))
    try:
        engine.until(lambda status: status["state"] == "idle")
        _go_through(found, random.Random(seed), engine, server, root, progress)
        engine.until(lambda status: bool(status["safe_to_stop"]))
        found.errors = list(engine.call("GET", "status")["errors"])
    finally:
        engine.close()
    with closing(sqlite3.connect(state / "ledger.sqlite3")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (found.rows,) = db.execute("SELECT count(*) FROM files WHERE state = 3").fetchone()
    found.ledger_bytes = (state / "ledger.sqlite3").stat().st_size
    return found


def _go_through(
    found: SoakResult,
    dice: random.Random,
    engine: RunningEngine,
    server: S3Server,
    root: Path,
    progress: Callable[[str], None],
) -> None:
    began = time.monotonic()
    process = engine.process
    folders = -(-found.small // PER_FOLDER)
    waiting: list[tuple[Path, dict[str, str]]] = []
    written, next_sample = 0, 0.0

    def look() -> None:
        nonlocal next_sample
        if time.monotonic() < next_sample:
            return
        next_sample = time.monotonic() + SAMPLE_SECONDS
        with process.oneshot():
            times = process.cpu_times()
            found.samples.append(
                Sample(
                    time.monotonic() - began,
                    written,
                    process.memory_info().rss,
                    process.num_fds(),
                    process.num_threads(),
                    times.user + times.system,
                )
            )

    def settle_down(most: int) -> None:
        while len(waiting) > most:
            folder, digests = waiting.pop(0)
            _await(server, folder.name, len(digests), look)
            found.wrong += _compare(server, folder.name, digests)
            shutil.rmtree(folder)
            _empty(server, folder.name)
            if not int(folder.name) % VACUUM_FOLDERS:
                _vacuum(server)

    large_left = found.large
    for number in range(folders):
        folder = root / f"{number:05}"
        folder.mkdir()
        digests: dict[str, str] = {}
        for each in range(min(PER_FOLDER, found.small - number * PER_FOLDER)):
            size = int(dice.lognormvariate(9, 1)) + 200  # around 8 kB
            digests |= _write(folder, f"ComfyUI_{each:05}_.bin", size, dice)
            found.size_bytes += size
            written += 1
            if each % 50 == 0:
                look()
        # Some at the very start, so that everything that is made once exists before the comparison begins.
        later = min(max(0, found.large - WARM_UP_LARGE), found.large * (folders - number - 1) // folders)
        for each in range(large_left - later):
            size = dice.randrange(16 * MEBIBYTE, 64 * MEBIBYTE)
            digests |= _write(folder, f"video_{each:05}_.bin", size, dice)
            found.size_bytes += size
            written += 1
            look()
        large_left = later
        waiting.append((folder, digests))
        settle_down(MOST_FOLDERS)
        if found.samples and number % max(1, folders // 25) == 0:
            progress(str(found.samples[-1]))
    settle_down(0)
    found.seconds = time.monotonic() - began


def _write(folder: Path, name: str, size: int, dice: random.Random) -> dict[str, str]:
    body = dice.randbytes(size) if size < MEBIBYTE else os.urandom(size)
    (folder / name).write_bytes(body)
    kind = hashlib.md5 if size < MEBIBYTE else hashlib.sha256
    return {name: kind(body).hexdigest()}


def _await(server: S3Server, folder: str, count: int, look: Callable[[], None]) -> None:
    for _ in range(FOLDER_LOOKS):  # counted, not timed: a machine may sleep, and a long run may be paused
        if len(server.keys(f"{PREFIX}/{folder}/")) >= count:
            return
        look()
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"folder {folder} did not arrive")


def _compare(server: S3Server, folder: str, digests: dict[str, str]) -> Iterator[str]:
    prefix = f"{PREFIX}/{folder}/"
    pages = server.client.get_paginator("list_objects_v2").paginate(Bucket=server.bucket, Prefix=prefix)
    held = {
        entry["Key"].removeprefix(prefix): entry["ETag"].strip('"')
        for page in pages
        for entry in page.get("Contents", [])
    }
    for name in sorted(held.keys() ^ digests.keys()):
        yield f"{folder}/{name}: {'missing' if name in digests else 'not ours'}"
    for name in held.keys() & digests.keys():
        digest = digests[name]
        if len(digest) == 64:
            held[name] = hashlib.sha256(server.read(prefix + name)).hexdigest()
        if held[name] != digest:
            yield f"{folder}/{name}: other bytes"


def _vacuum(server: S3Server) -> None:
    """Make SeaweedFS free the space of deleted objects; else the disk would have to hold all files."""
    assert server.embedded is not None
    address = f"http://127.0.0.1:{server.embedded._ports['master']}/vol/vacuum?garbageThreshold=0.1"
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=60):
        pass


def _empty(server: S3Server, folder: str) -> None:
    keys = server.keys(f"{PREFIX}/{folder}/")
    for start in range(0, len(keys), 1000):
        server.client.delete_objects(
            Bucket=server.bucket,
            Delete={"Objects": [{"Key": key} for key in keys[start : start + 1000]], "Quiet": True},
        )
