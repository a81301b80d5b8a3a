"""SIGKILL while the catalog is filled: in the end each archived file has exactly one row, and a search finds it.

Real files, ledger and catalog; the process that fills is a fork, so that kills hit its work and not its start.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_archive.catalog.database import CATALOG_NAME, open_catalog
from cloud_archive.catalog.filler import Filler
from cloud_archive.catalog.reading import AssetReader
from cloud_archive.catalog.search import search
from cloud_archive.files import stat_version
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import ProvenUpload
from cloud_archive.state import LEDGER_NAME
from tests.memory_store import MemoryStore
from tests.unit.catalog.cataloguing import BUCKET, png

FILES_FOR_A_KILL = 25
_STRIKE_SECONDS = 0.15  # after the first row of a life, at most


@dataclass
class CatalogFigures:
    """The result of a run."""

    kills: int
    files: int
    rows: int
    seconds: float
    problems: list[str]

    @property
    def held(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def lines(self) -> list[str]:
        """The figures in words."""
        words = f"{self.kills} kills while {self.files} files were catalogued, in {self.seconds:.0f} s: "
        return [f"{words}{self.rows} rows, {len(self.problems)} problems", *self.problems]


def catalog_kills(
    kills: int, seed: int, directory: Path, progress: Callable[[str], None] = lambda _: None
) -> CatalogFigures:
    """Kill a process that fills a catalog `kills` times, let one finish, and compare with an undisturbed catalog."""
    began = time.monotonic()
    dice = random.Random(seed)
    root = directory / "output"
    root.mkdir(parents=True)
    count = max(kills * FILES_FOR_A_KILL, 100)
    _archive(root, directory / LEDGER_NAME, count)
    struck = 0
    while struck < kills:
        before = _read_rows(directory / CATALOG_NAME)
        if before == count:  # it is filled before the last kill: mark everything as unread
            with sqlite3.connect(directory / CATALOG_NAME) as db:
                db.execute("UPDATE assets SET reader = 0")
            db.close()
            continue
        child = os.fork()
        if child == 0:
            _fill_and_exit(root, directory)
        _wait_for_a_row(directory / CATALOG_NAME, before)
        time.sleep(dice.uniform(0, _STRIKE_SECONDS))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        struck += 1
        if struck % 10 == 0:
            progress(f"{struck} kills, {_read_rows(directory / CATALOG_NAME)} of {count} files read")
    fill(root, directory / LEDGER_NAME, directory / CATALOG_NAME)
    fill(root, directory / LEDGER_NAME, directory / "peaceful.sqlite3")
    problems = _problems(directory, count)
    rows = _read_rows(directory / CATALOG_NAME)
    return CatalogFigures(struck, count, rows, time.monotonic() - began, problems)


def _archive(root: Path, path: Path, count: int) -> None:
    """Write files whose prompts name them, and a ledger that has them as archived."""
    ledger = Ledger(path)
    ledger.open()
    for number in range(count):
        (root / f"fox_{number:05}_.png").write_bytes(png(f"a fox with the number {number:05}", number))
    versions = [stat_version(root, f"fox_{number:05}_.png") for number in range(count)]
    ledger.add(versions)
    while claims := ledger.claim_several("test", most=200, among=1, size_bytes=1 << 40):
        ledger.mark_all_archived([_proven(root, claim) for claim in claims])
    ledger.close()


def _proven(root: Path, claim: Any) -> ProvenUpload:
    digest = hashlib.sha256((root / claim.version.path).read_bytes()).hexdigest()
    key = f"out/{claim.version.path}"
    return ProvenUpload(claim, key, digest, None, True, key)


def fill(root: Path, ledger_path: Path, path: Path) -> None:
    """Fill the catalog at `path` to the end, in this process."""
    ledger = Ledger(ledger_path)
    ledger.open()
    database, _ = open_catalog(path)
    filler = Filler(
        database,
        ledger,
        lambda database: AssetReader(database, root, MemoryStore(), keep_graphs=True),
        bucket=BUCKET,
        machine="pod-1",
        session=("session", 0.0),
        on_damage=lambda: database,
    )
    while filler.fill():
        pass
    database.close()
    ledger.close()


def _fill_and_exit(root: Path, directory: Path) -> None:
    try:
        fill(root, directory / LEDGER_NAME, directory / CATALOG_NAME)
    finally:
        os._exit(0)


def _read_rows(path: Path) -> int:
    if not path.is_file():
        return 0
    db = sqlite3.connect(path, timeout=10)
    try:
        return int(db.execute("SELECT count(*) FROM assets WHERE reader > 0").fetchone()[0])
    except sqlite3.OperationalError:  # killed before the tables were made
        return 0
    finally:
        db.close()


def _wait_for_a_row(path: Path, before: int) -> None:
    deadline = time.monotonic() + 30
    while _read_rows(path) <= before and time.monotonic() < deadline:
        time.sleep(0.005)


def _problems(directory: Path, count: int) -> list[str]:
    found: list[str] = []
    db = sqlite3.connect(directory / CATALOG_NAME)
    rows = db.execute("SELECT count(*), count(DISTINCT uuid), count(DISTINCT name) FROM assets").fetchone()
    if rows != (count, count, count):
        found.append(f"{count} files, and rows, ids and names: {rows}")
    if (verdict := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        found.append(f"SQLite: {verdict}")
    for table in ("text_index", "name_index"):
        db.execute(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")
    graphs = db.execute("SELECT count(*) FROM graphs").fetchone()[0]
    if graphs != count:
        found.append(f"{graphs} graphs")
    db.close()
    if all_assets(directory / CATALOG_NAME) != all_assets(directory / "peaceful.sqlite3"):
        found.append("a search finds other assets than in an undisturbed catalog")
    database, _ = open_catalog(directory / CATALOG_NAME)
    for number in range(0, count, max(1, count // 200)):
        with database.reading() as reading:
            page = search(reading, f'"number {number:05}"')
        if [asset["name"] for asset in page.assets] != [f"fox_{number:05}_.png"]:
            found.append(f"number {number:05}: found {[asset['name'] for asset in page.assets]}")
    database.close()
    return found


def all_assets(path: Path) -> list[dict[str, Any]]:
    """Return all assets as a search returns them, by name."""
    database, _ = open_catalog(path)
    assets: list[dict[str, Any]] = []
    after = None
    while True:
        with database.reading() as db:
            page = search(db, sort="name", order="asc", limit=500, after=after)
        assets += page.assets
        after = page.next_cursor
        if after is None:
            database.close()
            return assets
