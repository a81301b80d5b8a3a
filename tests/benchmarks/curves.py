"""Measure how time and memory grow with the number of files and workers; write SVG curves and a table.

python -m tests.benchmarks curves [FOLDER] [PAGE]    default: docs/images, docs/performance.md
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.page import PAGE, put_between
from tests.benchmarks.relay import far_away
from tests.benchmarks.stage import before_a_backlog, write_files
from tests.benchmarks.svg import Chart, Curve, to_svg
from tests.servers import S3Server, running_seaweedfs

FILES = (100, 1_000, 10_000, 100_000)
WORKERS = (1, 2, 4, 8, 16, 32, 64)
WORKER_FILES = 1_000
SMALL_BYTES = 20_000
FAR_SECONDS = 0.025
IMAGES = PAGE.parent / "images"


@dataclass(frozen=True)
class Run:
    """One backlog: its seconds, and the engine's peak memory in MB."""

    seconds: float
    megabytes: float


class Table:
    """Lines that are shown as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines += lines
        print("\n".join(lines), flush=True)


def main(folder: Path = IMAGES, page: Path = PAGE) -> int:
    """Measure everything, draw the curves into the folder, and put the tables into the page."""
    table = Table()
    with tempfile.TemporaryDirectory() as directory, running_seaweedfs(Path(directory) / "store") as server:
        work = Path(directory)
        by_files = _by_files(server, work, table)
        near = _by_workers(server, work, 0.0, table)
        far = _by_workers(server, work, FAR_SECONDS, table)
    for name, chart in _charts(by_files, near, far).items():
        (folder / name).write_text(to_svg(chart), encoding="utf-8")
    put_between(page, "growth", table.lines)
    return 0


def _by_files(server: S3Server, work: Path, table: Table) -> dict[int, Run]:
    table.add("| files of 20 KB, 8 workers | seconds | files a second | memory, MB |", "|---|---|---|---|")
    found = {}
    for count in FILES:
        root = work / "files"
        write_files(root, count, SMALL_BYTES)
        found[count] = _measure_backlog(server, root, count, 8, rounds=1 if count > 10_000 else 3)
        table.add(_line(f"{count:,}", count, found[count]))
    return found


def _by_workers(server: S3Server, work: Path, delay_seconds: float, table: Table) -> dict[int, Run]:
    place = f"{delay_seconds * 1000:.0f} ms of latency" if delay_seconds else "loopback"
    head = f"| workers, {WORKER_FILES:,} × 20 KB, {place} | seconds | files a second | memory, MB |"
    table.add("", head, "|---|---|---|---|")
    root = work / "workers"
    write_files(root, WORKER_FILES, SMALL_BYTES)
    road: AbstractContextManager[S3Server] = (
        far_away(server, delay_seconds) if delay_seconds else nullcontext(server)
    )
    found = {}
    with road as seen:
        for workers in WORKERS:
            found[workers] = _measure_backlog(seen, root, WORKER_FILES, workers, rounds=3)
            table.add(_line(str(workers), WORKER_FILES, found[workers]))
    return found


def _measure_backlog(server: S3Server, root: Path, count: int, workers: int, rounds: int) -> Run:
    runs = []
    for _ in range(rounds):
        with before_a_backlog(server, root, workers) as running:
            begin = time.perf_counter()
            running.call("POST", "start")
            running.until_archived(count, 0.02)
            runs.append(Run(time.perf_counter() - begin, running.peak_megabytes))
    return Run(statistics.median(run.seconds for run in runs), max(run.megabytes for run in runs))


def _line(name: str, count: int, run: Run) -> str:
    return f"| {name} | {run.seconds:.2f} | {count / run.seconds:,.0f} | {run.megabytes:.0f} |"


def _charts(by_files: dict[int, Run], near: dict[int, Run], far: dict[int, Run]) -> dict[str, Chart]:
    far_name = f"{FAR_SECONDS * 1000:.0f} ms of latency"

    def rate(runs: dict[int, Run]) -> list[tuple[float, float]]:
        return [(workers, WORKER_FILES / run.seconds) for workers, run in runs.items()]

    def memory(runs: dict[int, Run]) -> list[tuple[float, float]]:
        return [(number, run.megabytes) for number, run in runs.items()]

    seconds = [(count, run.seconds) for count, run in by_files.items()]
    return {
        "performance-time-by-files.svg": Chart(
            "Time of a backlog of 20 KB files", "files", "seconds", [Curve("8 workers", seconds)], log_y=True
        ),
        "performance-memory-by-files.svg": Chart(
            "Memory of the engine during a backlog of 20 KB files",
            "files",
            "MB",
            [Curve("8 workers", memory(by_files))],
        ),
        "performance-rate-by-workers.svg": Chart(
            "Files a second by workers, 20 KB each",
            "workers",
            "files a second",
            [Curve("loopback", rate(near)), Curve(far_name, rate(far))],
        ),
        "performance-memory-by-workers.svg": Chart(
            "Memory of the engine by workers, 20 KB files",
            "workers",
            "MB",
            [Curve("loopback", memory(near)), Curve(far_name, memory(far))],
        ),
    }


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
