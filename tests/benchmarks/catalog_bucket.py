"""Measure a new machine that reads a catalog of a million rows from a bucket, on SeaweedFS on loopback.

`python -m tests.benchmarks catalog-bucket [ROWS…]`. Rows are those of catalog_million.py. Packs are not written: a new
machine does not read them. The new machine is a process of its own; its CPU and memory are those of it and its child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud_archive.catalog.bucket.follower import IDLE_SECONDS, VIEWED_SECONDS
from cloud_archive.catalog.bucket.names import CatalogFolder, last_days, new_names
from cloud_archive.catalog.bucket.objects import SEGMENT_TYPE, write_proven
from cloud_archive.catalog.bucket.outgoing import MAX_ROWS
from cloud_archive.catalog.bucket.segment import encode
from cloud_archive.catalog.bucket.sync import RECENT_DAYS
from cloud_archive.catalog.bucket.writer import WRITE_AFTER_SECONDS
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.maintenance.costs import load_prices
from cloud_archive.store.s3 import S3Store
from tests.servers import S3Server, running_seaweedfs

from .catalog_million import put_rows

PREFIX = "comfyui-outputs"
FILES_A_DAY = 2000
WATCHED_HOURS = 2  # hours a day in which a gallery is open
_SOURCE = """
import time
began = time.monotonic()
import json, resource, sys
from pathlib import Path
from cloud_archive.catalog.bucket.copy import opened_catalog
from cloud_archive.catalog.search import search
from cloud_archive.config.settings import load_settings
from cloud_archive.store.s3 import S3Store

settings = load_settings()
store = S3Store(settings)
first = []
with opened_catalog(Path(sys.argv[1]) / "catalog.sqlite3", store, settings) as opened:
    def look(done, total):
        if done and not first:
            with opened.database.reading() as db:
                found = search(db, "fox")
            first.append(time.monotonic() - began)
    result = opened.make_sync().sync(on_progress=look)
    took = time.monotonic() - began
    opened.database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    size = (Path(sys.argv[1]) / "catalog.sqlite3").stat().st_size
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({
    "first": first[0] if first else took, "everything": took, "rows": result.rows,
    "cpu": sum(one.ru_utime + one.ru_stime for one in used), "memory": sum(one.ru_maxrss for one in used) / 1024,
    "disk": size,
}))
"""
HEADER = (
    "| rows | segments | in the bucket | first search | everything | CPU | rows a second | memory | on disk |",
    "|---|---|---|---|---|---|---|---|---|",
)


def main(*sizes: int) -> int:
    """Fill a bucket with rows, let a new machine read it, print the figures. Returns the exit status."""
    print(*HEADER, sep="\n")
    for rows in sizes or (10_000, 100_000, 1_000_000):
        with (
            tempfile.TemporaryDirectory() as directory,
            running_seaweedfs(Path(directory) / "store") as server,
        ):
            size = _fill(server.with_fresh_bucket(), rows, Path(directory))
    print(*_costs(size / rows), sep="\n")
    return 0


def _fill(server: S3Server, rows: int, directory: Path) -> int:
    settings = load_settings(server.environ(S3_PREFIX=PREFIX))
    store = S3Store(settings)
    folder = CatalogFolder.of(PREFIX)
    total = 0
    with ThreadPoolExecutor(4) as pool:

        def write(first: int) -> int:
            made = put_rows(first, min(rows, first + MAX_ROWS), rows)
            body = encode(made, machine="pod-1", now=made[-1]["clock"])
            for last_try in (False, False, True):  # the store runs on the same busy machine
                try:
                    name, _ = new_names("pod-1", made[0]["clock"])
                    write_proven(store, folder.key(name), body, SEGMENT_TYPE)
                    break
                except StoreError:
                    if last_try:
                        raise
            return len(body)

        for size in pool.map(write, range(0, rows, MAX_ROWS)):
            total += size
    store.close()
    place = directory / "new-machine"
    ended = subprocess.run(
        [sys.executable, "-c", _SOURCE, str(place)],
        env={**_clean_environment(), **server.environ(S3_PREFIX=PREFIX)},
        check=True,
        stdout=subprocess.PIPE,
    )
    found = json.loads(ended.stdout)
    assert found["rows"] == rows
    files = -(-rows // MAX_ROWS)
    print(
        f"| {rows:,} | {files:,} | {total / 1e6:.1f} MB, {total / rows:.0f} bytes a row | {found['first']:.1f} s"
        f" | {found['everything']:.1f} s | {found['cpu']:.1f} s | {rows / found['everything']:,.0f}"
        f" | {found['memory']:.0f} MiB | {found['disk'] / 1e6:.0f} MB, {found['disk'] / rows:.0f} bytes a row |",
        flush=True,
    )
    return total


def _costs(bytes_a_row: float) -> list[str]:
    """What 2,000 files a day cost: one engine that runs all day, and one that follows it, watched for two hours."""
    writes = 2 * int(min(86_400 / WRITE_AFTER_SECONDS, FILES_A_DAY))  # a segment and a pack
    watched = WATCHED_HOURS * 3600
    passes = watched / VIEWED_SECONDS + (86_400 - watched) / IDLE_SECONDS
    days = list(last_days(14 * 86_400.0, RECENT_DAYS - 1))  # in the middle of a month
    lists = int(passes * (len(days) + len({day[:7] for day in days})))
    reads = writes // 2
    prices = {each.name: each for each in load_prices().providers}
    lines = [
        f"{FILES_A_DAY:,} files a day, spread over it: {writes} PUT a day for the machine that writes,"
        f" {lists:,} LIST and {reads} GET for each that follows it,"
        f" {FILES_A_DAY * 30 * bytes_a_row / 1e6:.0f} MB of rows a month"
    ]
    for name in ("AWS S3", "Cloudflare R2"):
        price = prices[name]
        dollars = [
            30 * count * million / 1e6
            for count, million in ((writes + lists, price.writes_million), (reads, price.reads_million))
        ]
        lines.append(f"{name}: {sum(dollars):.2f} dollars a month for both")
    return lines


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("S3_", "AWS_", "R2_"))}
