"""An archive with files and a bucket, for tests of the operations: restore, verify, free, prune and others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.archive.workers import WorkerPool
from cloud_archive.config.settings import load_settings
from cloud_archive.intake.walk import scan
from cloud_archive.keys import PrefixTemplate, object_key
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.state import LEDGER_NAME, make_state_directory
from cloud_archive.store.s3 import S3Store
from cloud_archive.upload.abandoned import AbandonedUploads
from cloud_archive.upload.uploader import Uploader
from tests.servers import S3Server

PREFIX = "out"
OLD = 1_700_000_000.123456789  # seconds since 1970, with a fraction
HOUR = 3600.0
SESSION = "00000000-0000-4000-8000-000000000000"


class Archive:
    """A watched directory with its state directory, and its bucket."""

    def __init__(self, base: Path, server: S3Server, **environ: str) -> None:
        self.base = base
        self.server = server
        self.root = base / "output"
        self.state = base / "state"
        self.environ = server.environ(
            **{"S3_PREFIX": PREFIX, "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.2", "CLOUD_ARCHIVE_WATCH": "native"}
            | environ
        )
        self.root.mkdir(exist_ok=True)

    def write(self, path: str, body: bytes | None = None, *, age_seconds: float | None = None) -> bytes:
        """Write a file with these (default: random) bytes and an mtime `age_seconds` ago; return the bytes."""
        local = self.root / path
        local.parent.mkdir(parents=True, exist_ok=True)
        content = os.urandom(500) if body is None else body
        local.write_bytes(content)
        if age_seconds is not None:
            moment = time.time_ns() - int(age_seconds * 1e9)
            os.utime(local, ns=(moment, moment))
        return content

    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give this process the archive's settings, and with it the commands that it runs."""
        for name, value in self.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CLOUD_ARCHIVE_STATE_DIR", str(self.state))
        monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(self.root))

    @contextmanager
    def running(self, **environ: str) -> Iterator[Engine]:
        """Run an engine as a process runs it."""
        engine = Engine(self.root, state_base=self.state, environ=self.environ | environ, backfill="all")
        engine.start(autostart=True)
        try:
            yield engine
        finally:
            engine.close(60)

    def archive_all(self, **environ: str) -> None:
        """Archive everything in the directory with a real ledger, workers and uploads.

        It needs no engine, whose watching and settling would cost a second.
        """
        settings = load_settings(self.environ | environ)
        template = PrefixTemplate.parse(settings.prefix)
        make_state_directory(self.root, self.state)
        # The store's clock is known to a second only, so the order of two quick calls would be left to chance.
        our_clock = patch.object(AbandonedUploads, "store_time", lambda _: time.time())
        with self.ledger() as ledger, self.store(**environ) as store, our_clock:
            pool = WorkerPool(
                ledger,
                lambda parts: Uploader(
                    store,
                    self.root,
                    make_key=lambda path: object_key(template.render(datetime.now(), SESSION), path),
                    session_id="session-of-the-test",
                    rename=settings.conflict_rename,
                    part_executor=parts,
                    wait=lambda seconds: None,  # nothing else writes to the bucket
                ),
                self.root,
                count=4,
                name="test",
            )
            ledger.add(ledger.unknown(list(scan(self.root))))

            def work(number: int) -> None:
                while (claim := ledger.claim(f"test/{number}")) is not None:
                    error = pool.upload(claim)
                    assert error is None, error

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(work, range(4)))
            pool.stop(1)
            assert ledger.totals().open.files == 0

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open the ledger, while no engine has it open."""
        ledger = Ledger(self.state / LEDGER_NAME)
        ledger.open()
        try:
            yield ledger
        finally:
            ledger.close()

    @contextmanager
    def store(self, **environ: str) -> Iterator[S3Store]:
        """Open the bucket as the operations do."""
        store = S3Store(load_settings(self.environ | environ))
        try:
            yield store
        finally:
            store.close()

    def local_files(self, directory: Path | None = None) -> dict[str, tuple[bytes, int]]:
        """Return path to (bytes, mtime in ns) of every file below the directory (default: the watched one)."""
        root = directory or self.root
        return {
            path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
