"""Make a ledger with a million archived rows, as after a year, and a tree with as many files."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloud_archive.files import fingerprint

DAY_SECONDS = 86_400
A_YEAR_BEFORE = 1_780_000_000  # seconds since 1970; any moment will do
FILES_A_FOLDER = 1000


def fill_ledger(path: Path, count: int) -> None:
    """Add rows as uploads leave them: paths, keys, SHA-256 and ETags of the usual lengths."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.executemany(
            "INSERT INTO files (path, size, mtime_ns, fingerprint, device, inode, state, priority, attempts, key,"
            " sha256, etag, seen_at, archived_at, wrote) VALUES (?, ?, ?, ?, 2049, ?, 3, 0, 1, ?, ?, ?, ?, ?, 1)",
            _rows(count),
        )
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def _rows(count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        moment = A_YEAR_BEFORE + 365 * DAY_SECONDS * number // count
        name = f"2026-{number // FILES_A_FOLDER % 12 + 1:02}-21/ComfyUI_{number:07}_.png"
        size, mtime_ns = 1_000_000 + number % 900_000, moment * 10**9 + number
        digest = hashlib.sha256(b"%d" % number).digest()
        yield (
            name.encode(),
            size,
            mtime_ns,
            fingerprint(name, size, mtime_ns),
            10_000_000 + number,
            f"comfyui-outputs/{name}",
            digest,
            f'"{digest[:16].hex()}"',
            moment + 0.25,
            moment + 0.5,
        )


def make_tree(root: Path, count: int) -> None:
    """Make files of one byte, a thousand in a folder, ten folders in a folder; each mtime is at least a second ago."""
    for start in range(0, count, FILES_A_FOLDER):
        number = start // FILES_A_FOLDER
        folder = root / f"{number // 10:03}" / f"{number % 10}"
        folder.mkdir(parents=True)
        for each in range(start, min(start + FILES_A_FOLDER, count)):
            add_file(folder, each)


def add_file(folder: Path, number: int) -> None:
    """Write a file of one byte under a name like ComfyUI's."""
    descriptor = os.open(folder / f"ComfyUI_{number:07}_.png", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(descriptor, b"x")
    os.close(descriptor)


def bare_walk(root: str) -> int:
    """Walk a tree with `os.scandir` and stat, and do nothing else."""
    found = 0
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    found += 1
    return found
