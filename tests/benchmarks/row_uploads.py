"""Measure how soon files are archived: one, a burst, a backlog, a large one; near the store and far from it."""

from __future__ import annotations

import itertools
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from cloud_archive.intake.settle_rules import QuietTimes
from tests.benchmarks.figures import Figure, Row, no_slower, within, without_goal
from tests.benchmarks.relay import far_away
from tests.benchmarks.stage import (
    bare_pool,
    before_a_backlog,
    engine,
    in_turn,
    own_bucket,
    png,
    rclone,
    s5cmd,
    seconds,
    write_files,
    write_large,
)
from tests.servers import S3Server

IMAGE_BYTES = 1_500_000
SMALL_BYTES = 20_000
LARGE_BYTES = 1_000_000_000
QUIET_SECONDS = QuietTimes().closed_whole
S5CMD = "s5cmd, 16 workers"
_numbers = itertools.count()

ONE = "one 1.5 MB image: last byte closed → confirmed"
ONE_OWN = "of which our own part, without quiet time and PUT"
BURST = "burst of 100 × 1.5 MB"
MEMORY_BODIES = "memory of the engine, 64 workers with 150 × 8 MB"
MEMORY_PARTS = "memory of the engine, 4 files of 300 MB at once"


def _one(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    root = work / "one"
    root.mkdir()
    with engine(root, server) as running:
        (root / "warm.png").write_bytes(png(IMAGE_BYTES))
        running.until_archived(1)
        # So that the next image finds the engine idle, as in ComfyUI.
        time.sleep(1.0)

        def ours() -> float:
            path, before = root / f"image{next(_numbers)}.png", running.archived
            path.write_bytes(png(IMAGE_BYTES))
            took = seconds(lambda: running.until_archived(before + 1, 0.001))
            time.sleep(0.5)
            return took

        def put() -> float:
            body = png(IMAGE_BYTES)
            return seconds(
                lambda: server.client.put_object(
                    Bucket=server.bucket, Key=f"peer/{next(_numbers)}.png", Body=body
                )
            )

        mine, bare = in_turn(max(4, rounds * 4), ours, put)
    usual = [_size_poll(server, root / "peer.png") for _ in range(rounds)]
    own = [(took - QUIET_SECONDS - statistics.median(bare)) * 1000 for took in mine]
    bare_ms = [took * 1000 for took in bare]
    return [
        within(ONE, mine, 0.125, peer=usual, against="size poll 0.5 s × 3, then PUT"),
        within(ONE_OWN, own, 20, "ms", peer=bare_ms, against="boto3's PUT of the same bytes"),
    ]


def _size_poll(server: S3Server, path: Path) -> float:
    """Return the seconds of the usual way: upload once the size is the same three times, 0.5 s apart."""
    path.write_bytes(png(IMAGE_BYTES))

    def poll() -> None:
        sizes: list[int] = []
        while len(sizes) < 3 or len(set(sizes[-3:])) > 1:
            sizes.append(path.stat().st_size)
            time.sleep(0.5)
        server.put("peer/one.png", path.read_bytes())

    return seconds(poll)


def _burst(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    root = work / "burst"
    root.mkdir()
    images = [png(IMAGE_BYTES) for _ in range(100)]

    def write(folder: Path) -> list[Path]:
        folder.mkdir()
        paths = [folder / f"{number:03}.png" for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            path.write_bytes(image)
        return paths

    with engine(root, server) as running:

        def ours() -> float:
            before = running.archived

            def archive() -> None:
                write(root / f"b{next(_numbers)}")
                running.until_archived(before + len(images))

            return seconds(archive)

        def peer() -> float:
            folder = work / f"p{next(_numbers)}"
            return seconds(lambda: bare_pool(server, write(folder), f"peer/{folder.name}"))

        mine, theirs = in_turn(rounds, ours, peer)
    most = 1.1 * statistics.median(theirs) + QUIET_SECONDS
    goal = f"≤ 1.1 × + {QUIET_SECONDS:g} s quiet time"
    return [Figure(BURST, mine, theirs, "bare boto3, 8 threads", goal, most, absolute=True)]


def _backlog(
    name: str,
    count: int,
    write: Callable[[Path], object],
    peer: Callable[[S3Server, Path, str], float],
    against: str,
    most: float,
    *,
    delay_seconds: float = 0.0,
    workers: int = 8,
    shows_memory: bool = True,
) -> Row:
    """Return the row of a backlog, from `start` to the last commit; a fresh engine, ledger and bucket each time."""
    memory_of = f"memory of the engine meanwhile, {name}"

    def measure(server: S3Server, work: Path, rounds: int) -> list[Figure]:
        root = work / "backlog"
        write(root)
        memory: list[float] = []
        road: AbstractContextManager[S3Server] = (
            far_away(server, delay_seconds) if delay_seconds else nullcontext(server)
        )
        with road as seen:

            def theirs_of() -> float:
                with own_bucket(seen) as bucket:
                    return peer(bucket, root, "peer")

            def ours() -> float:
                with before_a_backlog(seen, root, workers) as running:
                    begin = time.perf_counter()
                    running.call("POST", "start")
                    running.until_archived(count)
                    took = time.perf_counter() - begin
                    memory.append(running.peak_megabytes)
                    return took

            mine, theirs = in_turn(rounds, ours, theirs_of)
        figures = [no_slower(name, mine, theirs, against, most)]
        return [*figures, within(memory_of, memory, 150, "MB")] if shows_memory else figures

    return Row((name, memory_of) if shows_memory else (name,), measure)


def _memory(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """Measure memory with many large bodies or parts at once."""
    figures = []
    for name, count, size_bytes, workers in (
        (MEMORY_BODIES, 150, 8_000_000, 64),
        (MEMORY_PARTS, 4, 300_000_000, 8),
    ):
        root = work / "memory"
        root.mkdir()
        for number in range(count):
            write_large(root / f"{number}", size_bytes)
        with before_a_backlog(server, root, workers) as running:
            running.call("POST", "start")
            running.until_archived(count)
            figures.append(within(name, [running.peak_megabytes], 200, "MB"))
        shutil.rmtree(root)
    return figures


def _relay(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """Measure what the relay of the latency rows costs by itself: s5cmd with it and without it."""
    figures = []
    with far_away(server, 0.0) as seen:
        for name, (count, size_bytes) in zip(RELAY, ((400, IMAGE_BYTES), (3000, SMALL_BYTES)), strict=True):
            root = work / "backlog"
            write_files(root, count, size_bytes)
            through, direct = in_turn(rounds, lambda: _by_s5cmd(seen, root), lambda: _by_s5cmd(server, root))  # noqa: B023
            figures.append(without_goal(name, through, direct, "the direct road"))
    return figures


def _by_s5cmd(server: S3Server, root: Path) -> float:
    with own_bucket(server) as bucket:
        return s5cmd(bucket, root, "peer")


RELAY = (
    "s5cmd through the relay without latency, 400 × 1.5 MB",
    "s5cmd through the relay without latency, 3,000 × 20 KB",
)


def _images(root: Path) -> object:
    return write_files(root, 400, IMAGE_BYTES)


def _small(root: Path) -> object:
    return write_files(root, 3000, SMALL_BYTES)


def _large(root: Path) -> None:
    write_large(root, LARGE_BYTES)


def _far(name: str, count: int, write: Callable[[Path], object], milliseconds: int) -> Row:
    return _backlog(
        f"{name}, {milliseconds} ms of latency a request, 16 workers",
        count,
        write,
        s5cmd,
        S5CMD,
        1.1,
        delay_seconds=milliseconds / 1000,
        workers=16,
        shows_memory=False,
    )


BACKLOG_IMAGES = "backlog of 400 × 1.5 MB"
BACKLOG_SMALL = "backlog of 3,000 × 20 KB"
BACKLOG_LARGE = "one file of 1 GB"

ROWS: dict[str, Row] = {
    "one": Row((ONE, ONE_OWN), _one),
    "burst": Row((BURST,), _burst),
    "images": _backlog(BACKLOG_IMAGES, 400, _images, s5cmd, S5CMD, 1.0),
    "small": _backlog(BACKLOG_SMALL, 3000, _small, rclone, "rclone copy, 8 transfers", 0.9),
    "small-s5cmd": _backlog(f"{BACKLOG_SMALL}, s5cmd", 3000, _small, s5cmd, S5CMD, 1.0, shows_memory=False),
    "large": _backlog(BACKLOG_LARGE, 1, _large, s5cmd, S5CMD, 1.03),
    "memory": Row((MEMORY_BODIES, MEMORY_PARTS), _memory),
    "relay": Row(RELAY, _relay),
    "images-25ms": _far(BACKLOG_IMAGES, 400, _images, 25),
    "images-100ms": _far(BACKLOG_IMAGES, 400, _images, 100),
    "small-25ms": _far(BACKLOG_SMALL, 3000, _small, 25),
    "small-100ms": _far(BACKLOG_SMALL, 3000, _small, 100),
    "large-25ms": _far(BACKLOG_LARGE, 1, _large, 25),
    "large-100ms": _far(BACKLOG_LARGE, 1, _large, 100),
}
