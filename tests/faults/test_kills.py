"""The short run: 25 times SIGKILL while files are written and the store misbehaves. The long one, whose archiver is
started as a user starts it, is a command:

python -m tests.faults --kills 1000 --seed N
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.run import Figures, Plan, run

if TYPE_CHECKING:
    from tests.servers import S3Server

pytestmark = [
    pytest.mark.store,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL to a process group"),
]

# The same in each run, so that a green test stays green; the command above draws new ones.
SEED = int(os.environ.get("FAULTS_SEED", "1"))

# Uploads every file that it sees, under the file's own name, without a ledger and without conditional writes.
NAIVE = """
import os, sys, time
from pathlib import Path
import boto3
from botocore.config import Config

root, seen = Path(sys.argv[1]), {}
store = boto3.client(
    "s3",
    endpoint_url=os.environ["S3_ENDPOINT_URL"],
    aws_access_key_id=os.environ["S3_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["S3_SECRET_ACCESS_KEY"],
    region_name="us-east-1",
    config=Config(retries={"total_max_attempts": 1}, read_timeout=5),
)
while True:
    for path in [path for path in root.rglob("*") if path.is_file()]:
        try:
            looked = path.stat().st_mtime_ns
            if seen.get(path) == looked:
                continue
            key = os.environ["S3_PREFIX"] + "/" + path.relative_to(root).as_posix()
            store.put_object(Bucket=os.environ["S3_BUCKET"], Key=key, Body=path.read_bytes())
            seen[path] = looked
        except Exception as error:
            print(error)
    print("Archiving", flush=True)  # the harness waits for it after a start
    time.sleep(0.05)
"""


def print_figures(figures: Figures) -> Figures:
    print(*figures.lines(), sep="\n")
    return figures


def test_25_kills_lose_nothing_and_double_nothing(tmp_path: Path, seaweedfs: S3Server) -> None:
    plan = Plan(
        25,
        SEED,
        fault_share=0.3,
        pause_seconds=0.25,
        drain_seconds=180,
        quiet_seconds=1.5,
        breather_every=13,
        breather_seconds=2,
        aimed_share=0.6,
        longest_seconds=1.2,
    )
    figures = print_figures(run(plan, seaweedfs, tmp_path, forks=True))
    assert figures.kills == 25
    assert figures.faults
    assert figures.findings.clean, str(figures.findings)
    assert figures.held


def test_kills_from_the_very_first_start_on_lose_nothing_and_double_nothing(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    """A standby takes over after kills, and an empty directory replaces the watched one for moments."""
    plan = Plan(
        8,
        SEED,
        largest_bytes=1_000_000,
        drain_seconds=180,
        quiet_seconds=0.5,
        breather_every=4,
        breather_seconds=2,
        aimed_share=0.5,
        longest_seconds=1.2,
        first_start=True,
        replace_every=3,
    )
    figures = print_figures(run(plan, seaweedfs, tmp_path, forks=True))
    assert figures.kills >= 8
    assert figures.replaced
    assert figures.held


def test_the_harness_finds_the_faults_of_an_archiver_without_a_protocol(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    def naive(root: Path) -> list[str]:
        return [sys.executable, "-c", NAIVE, str(root)]

    # In the last life, too, it uploads all files before the harness ends it.
    plan = Plan(3, 7, largest_bytes=100_000, pause_seconds=0.03, drain_seconds=60, quiet_seconds=0.01)
    figures = print_figures(run(plan, seaweedfs, tmp_path, naive, forks=True))
    assert figures.findings.overwritten
    assert not figures.held
