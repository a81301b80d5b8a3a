"""Measure many archivers with the same file names and one bucket: every byte must be there. Not part of the suite.

python -m tests.benchmarks scale-out [ARCHIVERS] [FILES EACH]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.servers import running_seaweedfs

ROOT = Path(__file__).parents[2]


def main(archivers: int = 8, files: int = 50) -> int:
    """Returns 0 where the bucket holds each file of each archiver exactly once."""
    with tempfile.TemporaryDirectory() as folder, running_seaweedfs(Path(folder) / "store") as started:
        right = True
        for name, prefix in (
            ("one prefix for all", "out"),
            ("a prefix for each session", "out/{session_id}"),
        ):
            server = started.with_fresh_bucket()
            bodies: list[bytes] = []
            processes: list[subprocess.Popen[bytes]] = []
            for number in range(archivers):
                directory = Path(folder) / f"{len(prefix)}-pod{number}"
                directory.mkdir()
                for file in range(files):
                    body = os.urandom(20_000)
                    (directory / f"ComfyUI_{file:05}_.png").write_bytes(body)
                    bodies.append(body)
            began = time.monotonic()
            for number in range(archivers):
                environ = os.environ | server.environ(
                    S3_PREFIX=prefix,
                    CLOUD_ARCHIVE_STATE_DIR=str(Path(folder) / f"{len(prefix)}-state{number}"),
                    PYTHONPATH=str(ROOT),
                )
                arguments = [sys.executable, "-m", "cloud_archive", "watch", "--once"]
                arguments.append(str(Path(folder) / f"{len(prefix)}-pod{number}"))
                processes.append(subprocess.Popen(arguments, env=environ, stderr=subprocess.DEVNULL))
            ends = [process.wait() for process in processes]
            seconds = time.monotonic() - began
            held = sorted(server.objects().values())
            whole = held == sorted(bodies) and not any(ends)
            right = right and whole
            print(
                f"{name}: {archivers} archivers, {len(bodies):,} files in {seconds:.1f} s"
                f" ({len(bodies) / seconds:.0f} a second), {'every one once' if whole else f'WRONG {ends}'}"
            )
        return 0 if right else 1
