"""Make an archiver or an engine on a real directory and a real ledger, with a store in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.engine import Engine
from cloud_archive.archive.gate import Gate
from cloud_archive.archive.workers import WorkerPool
from cloud_archive.config.settings import load_settings
from cloud_archive.files import FileVersion, stat_version
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim
from cloud_archive.upload.uploader import Uploader
from tests.memory_store import MemoryStore
from tests.servers import wait_until

ENVIRON = {
    "S3_ACCESS_KEY_ID": "key",
    "S3_SECRET_ACCESS_KEY": "secret-of-the-test",
    "S3_BUCKET": "bucket",
    "S3_PREFIX": "out",
    "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.1",
}


@contextmanager
def archiving(
    root: Path,
    store: MemoryStore,
    *,
    ledger: Ledger | None = None,
    start: bool = True,
    started_at: float | None = None,
    **environ: str,
) -> Iterator[Archiver]:
    root.mkdir(exist_ok=True)
    if ledger is None:
        ledger = Ledger(root.parent / "ledger.sqlite3")
        ledger.open()
    settings = load_settings({**ENVIRON, **environ})
    archiver = Archiver(settings, root, ledger, store, session_id="session", started_at=started_at)
    try:
        if start:
            archiver.start()
        yield archiver
    finally:
        archiver.stop(60)
        archiver.close()
        ledger.close()


@contextmanager
def engine_on(root: Path, store: MemoryStore, state: Path, **environ: str) -> Iterator[Engine]:
    root.mkdir(exist_ok=True)
    engine = Engine(
        root,
        state_base=state,
        environ={**ENVIRON, **environ},
        make_store=lambda *_, **__: store,
        machine_wide=False,
    )
    engine.start(autostart=True)
    try:
        yield engine
    finally:
        engine.close(60)


def wait_for_watches(archiver: Archiver) -> None:
    """Wait until events come. The first scan waits only a moment for the watches, so `idle` may come before."""
    watch = archiver.pipeline.watch
    assert watch is not None
    wait_until(lambda: not watch.watcher.polling, "its watches are set")


def refuse_thread(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let threads of this name fail to start, as where the system has no room for them."""
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    patch.setattr(threading.Thread, "start", failing)


def claim_of(version: FileVersion, token: str = "t", **again: Any) -> Claim:
    """Return a claim as the ledger would give it; `again`: fields that an earlier attempt recorded."""
    return Claim(row=1, name="test", version=version, token=token, attempts=1, **again)


def added(ledger: Ledger, root: Path, name: str, body: bytes) -> FileVersion:
    """Write a file and add it to the ledger as pending; return its version."""
    (root / name).write_bytes(body)
    version = stat_version(root, name)
    assert ledger.add([version]) == 1
    return version


def pool_on(
    ledger: Ledger, root: Path, store: MemoryStore, count: int = 2, gate: Gate | None = None
) -> WorkerPool:
    return WorkerPool(
        ledger,
        lambda parts: Uploader(
            store,
            root,
            make_key=lambda path: path,
            session_id="s",
            part_executor=parts,
            on_aborted=ledger.forget_abandoned,
        ),
        root,
        count=count,
        name="session",
        gate=gate,
    )
