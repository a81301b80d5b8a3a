"""What the catalog in the bucket takes: a new machine and a million rows, on a SeaweedFS on loopback.

`python -m tests.benchmarks catalog-bucket [ROWS]`. Rows are those of catalog_million.py. Packs are not written: a new
machine does not read them. The new machine is a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud_archive.catalog.bucket.names import CatalogFolder, new_names
from cloud_archive.catalog.bucket.objects import SEGMENT_TYPE, write_proven
from cloud_archive.catalog.bucket.outgoing import MAX_ROWS
from cloud_archive.catalog.bucket.segment import encode
from cloud_archive.config.settings import load_settings
from cloud_archive.store.s3 import S3Store
from tests.servers import S3Server, running_seaweedfs

from .catalog_million import put_rows

PREFIX = "comfyui-outputs"
FILES_A_DAY = 2000
PUT_DOLLARS = 0.005 / 1000  # https://aws.amazon.com/s3/pricing/, us-east-1, PUT and LIST
GET_DOLLARS = 0.0004 / 1000
_SOURCE = """
import resource, sys, threading, time
from pathlib import Path
from cloud_archive.catalog.bucket.copy import opened_catalog
from cloud_archive.catalog.search import search
from cloud_archive.config.settings import load_settings
from cloud_archive.store.s3 import S3Store

settings = load_settings()
store = S3Store(settings)
began = time.monotonic()
first = []
with opened_catalog(Path(sys.argv[1]) / "catalog.sqlite3", store, settings) as opened:
    def look(done, total):
        if done and not first:
            with opened.database.reading() as db:
                found = search(db, "fox")
            first.append((time.monotonic() - began, found.total))
    result = opened.syncing().sync(on_progress=look)
    took = time.monotonic() - began
    opened.database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    size = (Path(sys.argv[1]) / "catalog.sqlite3").stat().st_size
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"first search after {first[0][0]:.2f} s ({first[0][1]} found)")
print(f"everything, {result.rows:,} rows, after {took:.1f} s: {result.rows / took:,.0f} rows a second")
print(f"memory {peak:.0f} MiB at the most, {size / max(1, result.rows):.0f} bytes a row on disk")
"""


def main(rows: int = 1_000_000) -> int:
    """Fill a bucket, let a new machine read it, and print the figures. Returns the exit status."""
    with tempfile.TemporaryDirectory() as directory, running_seaweedfs(Path(directory) / "store") as server:
        size, files = _fill(server.with_fresh_bucket(), rows, Path(directory))
        print(f"{rows:,} rows in {files:,} segments: {size / rows:.0f} bytes a row in the bucket")
        _print_costs(size / rows)
    return 0


def _fill(server: S3Server, rows: int, directory: Path) -> tuple[int, int]:
    settings = load_settings(server.environ(S3_PREFIX=PREFIX))
    store = S3Store(settings)
    folder = CatalogFolder.of(PREFIX)
    began = time.monotonic()
    total = 0
    with ThreadPoolExecutor(4) as pool:

        def write(first: int) -> int:
            made = put_rows(first, min(rows, first + MAX_ROWS), rows)
            name, _ = new_names("pod-1", made[0]["clock"])
            body = encode(made, machine="pod-1", now=made[-1]["clock"])
            write_proven(store, folder.key(name), body, SEGMENT_TYPE)
            return len(body)

        for size in pool.map(write, range(0, rows, MAX_ROWS)):
            total += size
    store.close()
    print(f"written in {time.monotonic() - began:.0f} s", flush=True)
    place = directory / "new-machine"
    subprocess.run(
        [sys.executable, "-c", _SOURCE, str(place)],
        env={**_clean_environment(), **server.environ(S3_PREFIX=PREFIX)},
        check=True,
    )
    return total, -(-rows // MAX_ROWS)


def _print_costs(bytes_a_row: float) -> None:
    """What 2,000 files a day cost on AWS: one engine that runs all day, and somebody who looks for an hour."""
    writes = 2 * min(24 * 12, FILES_A_DAY)  # a segment and a pack each five minutes at the most
    lists = 5 * (24 * 12 + 120)
    reads = 24 * 12
    dollars = 30 * ((writes + lists) * PUT_DOLLARS + reads * GET_DOLLARS)
    print(
        f"{FILES_A_DAY:,} files a day, spread over it: {writes} PUT, {lists} LIST, {reads} GET a day for each other"
        f" machine, {dollars:.2f} dollars a month; {FILES_A_DAY * 30 * bytes_a_row / 1e6:.0f} MB of rows a month"
    )


def _clean_environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith(("S3_", "AWS_", "R2_"))}
