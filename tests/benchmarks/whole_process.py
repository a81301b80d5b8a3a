"""Measure whole processes, from start to exit: `watch --once` against a script and other programs.

python -m tests.benchmarks process-one process-images process-small cores

The interpreter's bytecode is kept between runs, as it is for users, and the files are older than any settling.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.figures import Figure, Row, no_slower, without_goal
from tests.benchmarks.stage import (
    before_a_backlog,
    checked_bucket,
    in_turn,
    own_bucket,
    rclone,
    s5cmd,
    seconds,
    write_files,
)
from tests.servers import S3Server

IMAGE_BYTES = 1_500_000
SMALL_BYTES = 20_000
OLD_SECONDS = 60.0
S5CMD = "s5cmd, 16 workers"
Peer = Callable[[S3Server, Path], float]
_numbers = itertools.count()

_BOTO3 = """
import os, sys
import boto3
s3 = boto3.client(
    "s3", endpoint_url=os.environ["S3_ENDPOINT_URL"], region_name="us-east-1",
    aws_access_key_id=os.environ["S3_ACCESS_KEY_ID"], aws_secret_access_key=os.environ["S3_SECRET_ACCESS_KEY"],
)
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        s3.upload_file(os.path.join(folder, name), os.environ["S3_BUCKET"], f"script/{name}")
"""


def _whole(count: int, size_bytes: int, peers: Sequence[tuple[str, Peer, float]]) -> Row:
    """Return the row of `watch --once` on `count` files, with a line and a limit for each peer."""
    name = f"watch --once, whole process, {count:,} × {size_bytes // 1000:,} KB"
    names = tuple(f"{name}, {against}" for against, _, _ in peers)

    def measure(server: S3Server, work: Path, rounds: int) -> list[Figure]:
        root = _old_files(work / "process", count, size_bytes)
        _once(server, root, work)  # so that the bytecode is written
        mine, *theirs = in_turn(
            rounds,
            lambda: _once(server, root, work),
            *(lambda peer=peer: _in_own_bucket(server, root, peer) for _, peer, _ in peers),
        )
        return [
            no_slower(work, mine, other, against, most)
            for work, (against, _, most), other in zip(names, peers, theirs, strict=True)
        ]

    return Row(names, measure)


def _workers(counts: Sequence[int]) -> Row:
    """Return the row of the files a second that a running engine archives, by its number of workers."""
    count = 3000
    names = tuple(f"files a second, engine running, 3,000 × 20 KB, workers: {workers}" for workers in counts)

    def measure(server: S3Server, work: Path, rounds: int) -> list[Figure]:
        root = _old_files(work / "threads", count, SMALL_BYTES)

        def rate(workers: int) -> float:
            with before_a_backlog(server, root, workers) as running:
                begin = time.perf_counter()
                running.call("POST", "start")
                running.until_archived(count)
                return count / (time.perf_counter() - begin)

        found = in_turn(rounds, *(lambda workers=workers: rate(workers) for workers in counts))
        return [
            without_goal(name, rates, found[0], f"{counts[0]} worker", "/s")
            for name, rates in zip(names, found, strict=True)
        ]

    return Row(names, measure)


def _old_files(root: Path, count: int, size_bytes: int) -> Path:
    moment = time.time() - OLD_SECONDS
    for path in write_files(root, count, size_bytes):
        os.utime(path, (moment, moment))
    return root


def _once(server: S3Server, root: Path, work: Path) -> float:
    with checked_bucket(server) as bucket:
        state = work / f"state{next(_numbers)}"
        command = [sys.executable, "-m", "cloud_archive", "watch", "--once", str(root)]
        took = _run(command, bucket.environ(CLOUD_ARCHIVE_STATE_DIR=str(state)))
        shutil.rmtree(state)
        return took


def _script(server: S3Server, root: Path) -> float:
    return _run([sys.executable, "-c", _BOTO3, str(root)], server.environ())


def _s5cmd(server: S3Server, root: Path) -> float:
    return s5cmd(server, root, "peer")


def _rclone(server: S3Server, root: Path) -> float:
    return rclone(server, root, "peer")


def _in_own_bucket(server: S3Server, root: Path, peer: Callable[[S3Server, Path], float]) -> float:
    with own_bucket(server) as bucket:
        return peer(bucket, root)


def _run(command: list[str], environ: dict[str, str]) -> float:
    """Run a process that must succeed; return its seconds."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done: list[subprocess.CompletedProcess[str]] = []
    took = seconds(
        lambda: done.append(
            subprocess.run(command, check=False, capture_output=True, text=True, env=kept | environ)
        )
    )
    assert done[0].returncode == 0, done[0].stderr[-2000:]
    return took


ROWS: dict[str, Row] = {
    "process-one": _whole(1, SMALL_BYTES, [("a ten-line boto3 script", _script, 1.0)]),
    "process-images": _whole(300, IMAGE_BYTES, [(S5CMD, _s5cmd, 1.1)]),
    "process-small": _whole(
        2000, SMALL_BYTES, [("rclone copy, 8 transfers", _rclone, 1.0), (S5CMD, _s5cmd, 1.3)]
    ),
    "cores": _workers((1, 2, 4, 8, 16)),
}
