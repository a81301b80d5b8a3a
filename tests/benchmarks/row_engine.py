"""Measure the engine alone: its start, its scans, its ledger, its idle state, its bandwidth limit."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud_archive.archive.upload_groups import GROUP_FILES, group_bytes
from cloud_archive.demo.seaweedfs import free_ports
from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim, PlannedUpload, ProvenUpload
from tests.archived_rows import mark_archived
from tests.benchmarks.figures import Figure, Row, no_slower, within, without_goal
from tests.benchmarks.million import add_file, bare_walk, fill_ledger, make_tree
from tests.benchmarks.relay import Relay, port_of, through_port
from tests.benchmarks.stage import (
    MEGABYTE,
    RunningEngine,
    engine,
    in_turn,
    png,
    seconds,
    write_files,
    write_large,
)
from tests.servers import S3Server

MILLION = 1_000_000
IDLE_SECONDS = 30
REST_SECONDS = 40  # until the first look at what other machines wrote is over
LIMIT_MEGABYTES = 10
LIMIT_SECONDS = 10
NEW_FILES = 10
WAITING_FILES = 500
CLAIMS = 500
WORKERS = 8  # the default

START = "engine: start to watching"
START_MILLION = "the same with a ledger of 1,000,000 rows"
RECONCILE = "first reconcile of {count:,} files, 10 of them new"
RECONCILE_MEMORY = "memory of the engine meanwhile, {count:,} files"
FIRST_START = "the very first start on {count:,} files, which are noted as older"
CLAIM = "ledger of 1,000,000 rows: claim + note + mark of small files, 8 workers, for each file"
CLAIM_SINGLY = "the same one file at a time, as large ones go"
CLAIM_ALONE = "the same one file at a time in one thread"
STATUS = "ledger of 1,000,000 rows: GET status, all of it"
ROW_BYTES = "ledger: bytes a row"
IDLE_MEMORY = "idle engine: memory"
IDLE_CPU = "idle engine: CPU"
IDLE_HEARD_CPU = "idle engine that ComfyUI listens to: CPU"
AWAY_CPU = "500 files wait for a store that is away: CPU"
LIMITED_LARGE = f"limit of {LIMIT_MEGABYTES} MB/s over {LIMIT_SECONDS} s, parts of one large file: off by"
LIMITED_IMAGES = f"limit of {LIMIT_MEGABYTES} MB/s over {LIMIT_SECONDS} s, 16 workers with images: off by"


def _start(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    root, state = work / "start", work / "start-state"
    root.mkdir()
    environ = server.environ(S3_PREFIX="ours")

    def ours() -> float:
        running = RunningEngine(root, state, environ)
        try:
            running.until(lambda status: status["state"] == "idle", 0.01)
            return time.perf_counter() - running.begun
        finally:
            running.close()

    def bare() -> float:
        command = [sys.executable, "-c", "import aiohttp.web, botocore.session, sqlite3"]
        return seconds(lambda: subprocess.run(command, check=True))

    ours(), bare()  # bytecode
    empty, imports = in_turn(rounds, ours, bare)
    with engine(root, server, keep=True) as running:
        path = running.ledger_path
    fill_ledger(path, MILLION)
    ours()
    (full,) = in_turn(rounds, ours)
    peer = "a Python that only imports aiohttp and botocore"
    return [
        within(START, empty, 0.6, peer=imports, against=peer),
        without_goal(START_MILLION, full, empty, "an empty ledger"),
    ]


def _reconcile(count: int, most: float, most_seconds: float | None = None) -> Row:
    """Return the row of a start on a directory scanned before (goal: `most` bare walks) and on a new one."""
    names = tuple(each.format(count=count) for each in (RECONCILE, RECONCILE_MEMORY, FIRST_START))

    def measure(server: S3Server, work: Path, rounds: int) -> list[Figure]:
        root = work / "tree"
        make_tree(root, count)
        numbers = itertools.count(count)
        memory: list[float] = []

        def ours(*, keep: bool = True) -> float:
            with engine(root, server, keep=keep, CLOUD_ARCHIVE_AUTOSTART="false") as running:
                before, begin = running.archived, time.perf_counter()
                running.call("POST", "start")
                running.until_watching()
                took = time.perf_counter() - begin
                memory.append(running.peak_megabytes)
                if keep:
                    running.until_archived(before + NEW_FILES)
                return took

        def again() -> float:
            for _ in range(NEW_FILES):
                add_file(root / "000" / "0", next(numbers))
            return ours()

        bare_walk(str(root))  # both find the names in memory
        first = ours(keep=False)
        mine, theirs = in_turn(rounds, again, lambda: seconds(lambda: bare_walk(str(root))))
        shutil.rmtree(root)
        walk = "os.scandir with stat"
        return [
            no_slower(names[0], mine, theirs, walk, most),
            within(names[1], memory, 300, "MB"),
            without_goal(names[2], [first], theirs, walk)
            if most_seconds is None
            else within(names[2], [first], most_seconds, peer=theirs, against=walk),
        ]

    return Row(names, measure)


def _ledger(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    path = work / "ledger" / "ledger.sqlite3"
    path.parent.mkdir()
    ledger = Ledger(path)
    ledger.open()
    ledger.close()
    before = path.stat().st_size
    fill_ledger(path, MILLION)
    bytes_a_row = (path.stat().st_size - before) / MILLION
    ledger.open()
    numbers = itertools.count()

    def pending() -> None:
        ledger.add(FileVersion(f"new/{next(numbers)}.png", 1000, 1, 1, 1) for _ in range(CLAIMS))

    def one(_: int) -> None:
        claim = ledger.claim("benchmark")
        assert isinstance(claim, Claim)
        ledger.record_attempt(claim, sha256="0" * 64, base_key="key", key="key")
        mark_archived(ledger, claim, key="key", sha256="0" * 64, etag=None, wrote=True)

    def several(_: int) -> int:
        claims = ledger.claim_several(
            "benchmark", most=GROUP_FILES, among=WORKERS, size_bytes=group_bytes(WORKERS)
        )
        ledger.record_attempts([PlannedUpload(claim, "0" * 64, "key", "key") for claim in claims])
        ledger.mark_all_archived([ProvenUpload(claim, "key", "0" * 64, None, True) for claim in claims])
        return len(claims)

    def worker(number: int) -> None:
        while several(number):
            pass

    def together() -> float:
        pending()
        with ThreadPoolExecutor(WORKERS) as pool:
            return seconds(lambda: list(pool.map(worker, range(WORKERS)))) / CLAIMS * 1000

    def singly() -> float:
        pending()
        with ThreadPoolExecutor(WORKERS) as pool:
            return seconds(lambda: list(pool.map(one, range(CLAIMS)))) / CLAIMS * 1000

    def alone() -> float:
        pending()
        return seconds(lambda: list(map(one, range(CLAIMS)))) / CLAIMS * 1000

    def bare() -> float:
        return _bare_commits(work / "bare.sqlite3", 3 * CLAIMS) / CLAIMS * 1000

    shared, single, lone, commits = in_turn(rounds, together, singly, alone, bare)
    ledger.close()
    peer = "3 bare SQLite commits (WAL, FULL)"
    return [
        within(CLAIM, shared, 1.0, "ms", peer=commits, against=peer),
        without_goal(CLAIM_SINGLY, single, commits, peer, "ms"),
        without_goal(CLAIM_ALONE, lone, commits, peer, "ms"),
        within(ROW_BYTES, [bytes_a_row], 300, "bytes"),
    ]


def _bare_commits(path: Path, count: int) -> float:
    """Return the seconds of `count` transactions of one row, each as durable as the ledger's."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER)")

        def commit() -> None:
            for number in range(count):
                db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (number % 100, number))

        return seconds(commit)


def _status(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    root = work / "status"
    root.mkdir()

    def asked(running: RunningEngine) -> Callable[[], float]:
        return lambda: seconds(lambda: running.call("GET", "status")) * 1000

    with engine(root, server) as running:
        path = running.ledger_path
    fill_ledger(path, MILLION)
    other = work / "status-empty"
    other.mkdir()
    # With a catalog, the engine would look for a million objects that don't exist.
    with (
        engine(root, server, keep=True, CLOUD_ARCHIVE_CATALOG="off") as full,
        engine(other, server, CLOUD_ARCHIVE_CATALOG="off") as empty,
    ):
        asked(full)(), asked(empty)()
        mine, theirs = in_turn(max(20, rounds * 10), asked(full), asked(empty))
    return [within(STATUS, mine, 5, "ms", peer=theirs, against="an empty ledger")]


def _idle(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    root = work / "idle"
    root.mkdir()
    with engine(root, server) as running:
        (root / "a.png").write_bytes(png(1000))
        running.until_archived(1)
        time.sleep(REST_SECONDS)
        alone = [_used(running) for _ in range(max(1, rounds // 2))]
        memory = running.process.memory_info().rss / MEGABYTE
        threading.Thread(target=lambda: list(_heard(running)), daemon=True).start()
        time.sleep(2.0)
        heard = [_used(running) for _ in range(max(1, rounds // 2))]
        return [
            within(IDLE_MEMORY, [memory], 75, "MB"),
            within(IDLE_CPU, alone, 0.05, "%"),
            within(IDLE_HEARD_CPU, heard, 0.1, "%"),
        ]


def _away(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """Measure while nothing listens at the store's address, after the first tries, which follow closely."""
    root = work / "away"
    write_files(root, WAITING_FILES, 20_000)
    (port,) = free_ports(1)
    with engine(
        root,
        server,
        CLOUD_ARCHIVE_AUTOSTART="false",
        CLOUD_ARCHIVE_BACKFILL="all",
        S3_ENDPOINT_URL=f"http://127.0.0.1:{port}",
    ) as running:
        running.call("POST", "start")
        running.until(lambda status: status["pending_files"] == WAITING_FILES)
        running.until(lambda status: status["state"] == "retrying")
        time.sleep(IDLE_SECONDS)
        used = [_used(running) for _ in range(max(1, rounds // 2))]
    return [within(AWAY_CPU, used, 1, "%")]


def _heard(running: RunningEngine) -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        return [status["state"] for status in running.events()]
    return []


def _used(running: RunningEngine) -> float:
    """Return the engine's CPU use in per cent of a core."""
    before, begin = running.cpu_seconds, time.perf_counter()
    time.sleep(IDLE_SECONDS)
    return (running.cpu_seconds - before) / (time.perf_counter() - begin) * 100


def _limit(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """Measure the limit on the wire, from the first megabyte on."""
    root = work / "limit"
    size = (LIMIT_SECONDS + 3) * LIMIT_MEGABYTES * MEGABYTE

    def rate() -> float:
        with Relay(port_of(server)) as relay:
            seen = through_port(server.with_fresh_bucket(), relay.port)
            return _rate_through(relay, seen, root)

    figures = []
    for name, write in (
        (LIMITED_LARGE, lambda: write_large(root, size)),
        (LIMITED_IMAGES, lambda: write_files(root, size // 1_500_000, 1_500_000)),
    ):
        write()
        found = [rate() for _ in range(max(1, rounds // 2))]
        figures.append(within(name, [abs(each / LIMIT_MEGABYTES - 1) * 100 for each in found], 5, "%"))
    return figures


def _rate_through(relay: Relay, seen: S3Server, root: Path) -> float:
    """MB a second."""
    with engine(
        root,
        seen,
        CLOUD_ARCHIVE_BACKFILL="all",
        CLOUD_ARCHIVE_AUTOSTART="false",
        CLOUD_ARCHIVE_WORKERS="16",
        CLOUD_ARCHIVE_MAX_BANDWIDTH=f"{LIMIT_MEGABYTES}MB/s",
    ) as running:
        running.call("POST", "start")
        while relay.sent_bytes < MEGABYTE:
            time.sleep(0.01)
        before, begin = relay.sent_bytes, time.perf_counter()
        time.sleep(LIMIT_SECONDS)
        return (relay.sent_bytes - before) / (time.perf_counter() - begin) / MEGABYTE


ROWS: dict[str, Row] = {
    "start": Row((START, START_MILLION), _start),
    "reconcile-100k": _reconcile(100_000, 2.0),
    "reconcile-1m": _reconcile(MILLION, 2.5, 15.0),
    "ledger": Row((CLAIM, CLAIM_SINGLY, CLAIM_ALONE, ROW_BYTES), _ledger),
    "status": Row((STATUS,), _status),
    "idle": Row((IDLE_MEMORY, IDLE_CPU, IDLE_HEARD_CPU), _idle),
    "away": Row((AWAY_CPU,), _away),
    "limit": Row((LIMITED_LARGE, LIMITED_IMAGES), _limit),
}
