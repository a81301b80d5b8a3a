"""Whole processes, from their start to their exit: `watch --once` beside what a script or another program takes.

python -m tests.benchmarks process

The interpreter's bytecode is kept between runs, as it is for users, and the files are older than any settling.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.figures import HEADER, Figure, known, no_slower
from tests.benchmarks.stage import (
    before_a_backlog,
    in_turn,
    own_bucket,
    rclone,
    s5cmd,
    seconds,
    write_files,
)
from tests.servers import S3Server, running_seaweedfs

IMAGE_BYTES = 1_500_000
SMALL_BYTES = 20_000
OLD_SECONDS = 60.0
THREADS = (1, 2, 4, 8, 16)
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


def measure(server: S3Server, work: Path, rounds: int, threads: Sequence[int] = THREADS) -> list[Figure]:
    """Every line, in order."""
    return [
        *_against(server, work, rounds, 1, SMALL_BYTES, (("a ten-line boto3 script", _script, 1.0),)),
        *_against(server, work, rounds, 300, IMAGE_BYTES, (("s5cmd, 16 workers", _s5cmd, 1.1),)),
        *_against(
            server,
            work,
            rounds,
            2000,
            SMALL_BYTES,
            (("rclone copy, 8 transfers", _rclone, 1.0), ("s5cmd, 16 workers", _s5cmd, 1.3)),
        ),
        *(_files_per_second(server, work, rounds, workers) for workers in threads),
    ]


def _against(
    server: S3Server,
    work: Path,
    rounds: int,
    count: int,
    size_bytes: int,
    peers: Sequence[tuple[str, Callable[[S3Server, Path], float], float]],
) -> list[Figure]:
    root = _old_files(work / "process", count, size_bytes)
    _once(server, root, work)  # so that all have their bytecode
    mine, *theirs = in_turn(
        rounds,
        lambda: _once(server, root, work),
        *(lambda peer=peer: _in_own_bucket(server, root, peer) for _, peer, _ in peers),
    )
    name = f"watch --once, whole process, {count} × {size_bytes // 1000:,} kB"
    return [
        no_slower(f"{name}, {against}", mine, other, against, most)
        for (against, _, most), other in zip(peers, theirs, strict=True)
    ]


def _files_per_second(server: S3Server, work: Path, rounds: int, workers: int) -> Figure:
    count = 3000
    root = _old_files(work / "threads", count, SMALL_BYTES)

    def ours() -> float:
        with before_a_backlog(server, root, workers) as running:
            begin = time.perf_counter()
            running.call("POST", "start")
            running.until_archived(count)
            return count / (time.perf_counter() - begin)

    (rates,) = in_turn(rounds, ours)
    return known(
        f"files a second, engine running, 20 kB each, {workers} workers", rates, rates, "itself", "1/s"
    )


def _old_files(root: Path, count: int, size_bytes: int) -> Path:
    moment = time.time() - OLD_SECONDS
    for path in write_files(root, count, size_bytes):
        os.utime(path, (moment, moment))
    return root


def _once(server: S3Server, root: Path, work: Path) -> float:
    with own_bucket(server) as bucket:
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
    """Seconds that a process takes, which must succeed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done: list[subprocess.CompletedProcess[str]] = []
    took = seconds(
        lambda: done.append(
            subprocess.run(command, check=False, capture_output=True, text=True, env=kept | environ)
        )
    )
    assert done[0].returncode == 0, done[0].stderr[-2000:]
    return took


def main(rounds: int = 5) -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as directory, running_seaweedfs(Path(directory) / "store") as started:
        figures = measure(started, Path(directory), rounds)
    print("\n".join([*HEADER, *(figure.line for figure in figures)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
