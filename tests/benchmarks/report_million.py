"""Reports and lookups on a ledger of 1,000,000 rows. Not part of the suite.

python -m tests.benchmarks report [COUNT]
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cloud_archive.files import fingerprint
from cloud_archive.ledger.history import archived_by_time, oldest_local_files
from cloud_archive.ledger.key_index import KeyIndex
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.costs import load_prices
from cloud_archive.maintenance.report import chart_rows, report_from_ledger

YEAR_SECONDS = 365 * 86_400


def main(count: int = 1_000_000) -> int:
    """Prints seconds for each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        ledger = Ledger(path)
        ledger.open()
        _fill(path, count)
        now = time.time()
        _time_call("chart, last 24 hours", lambda: chart_rows(ledger, "hour", 24, now))
        _time_call("chart, last 30 days", lambda: chart_rows(ledger, "day", 30, now))
        _time_call("all by time", lambda: archived_by_time(ledger))
        _time_call("report by day", lambda: report_from_ledger(ledger, by="day"))
        _time_call(
            "report by day with costs", lambda: report_from_ledger(ledger, by="day", prices=load_prices())
        )
        _time_call("report by type", lambda: report_from_ledger(ledger, by="type"))
        _time_call("report by folder", lambda: report_from_ledger(ledger, by="folder"))
        _time_call("oldest local files", lambda: oldest_local_files(ledger, before_ns=int(now * 1e9)))
        _time_call("oldest waiting", ledger.oldest_waiting)
        _time_call("index by key", lambda: _index(ledger))
        ledger.close()
    return 0


def _fill(path: Path, count: int) -> None:
    now = time.time()
    rows = (
        (
            f"d{n % 1000}/{n}.png".encode(),
            n % 5_000_000,
            n,
            fingerprint(f"d{n % 1000}/{n}.png", n % 5_000_000, n),
            f"out/d{n % 1000}/{n}.png",
            f"out/d{n % 1000}/{n}.png",
            n.to_bytes(32, "little"),
            f'"{n:032x}"',
            now - YEAR_SECONDS + YEAR_SECONDS * n / count,
        )
        for n in range(count)
    )
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.executemany(
            "INSERT INTO files (path, size, mtime_ns, fingerprint, key, base_key, sha256, etag, archived_at, seen_at,"
            " device, inode, state, priority) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1.5e9, 2049, 1234567, 3, 0)",
            rows,
        )
    db.close()
    print(f"{count:,} rows, {path.stat().st_size / 1e6:,.0f} MB")


def _index(ledger: Ledger) -> int:
    with KeyIndex(ledger) as index:
        return len(index.groups())


def _time_call(name: str, call: Callable[[], object]) -> None:
    began = time.monotonic()
    call()
    print(f"{name}: {time.monotonic() - began:.3f} s")
