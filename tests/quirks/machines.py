"""Archivers whose stores answer in a dialect, and what they ask."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

from cloud_archive.config.settings import load_settings
from cloud_archive.files import FileVersion
from cloud_archive.ledger.rows import Claim
from cloud_archive.store.s3 import S3Store
from cloud_archive.upload.outcome import Outcome
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.journal import MemoryJournal
from tests.quirks.server import QuirkServer
from tests.servers import S3Server

FILM = b"film" * 75_000
_tokens = itertools.count()


class Machine:
    """One archiver of one directory, whose store answers in a dialect."""

    def __init__(self, root: Path, server: S3Server, dialect: QuirkServer) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.dialect = dialect
        settings = load_settings(server.environ(S3_ENDPOINT_URL=dialect.url, S3_PREFIX="out"))
        self.store = S3Store(settings, connect_seconds=60, read_seconds=60)
        self.uploader = Uploader(
            self.store, root, make_key=lambda path: f"out/{path}", session_id="s", wait=lambda seconds: None
        )
        self.notes = MemoryJournal()

    def claim(self, name: str, body: bytes) -> Claim:
        path = self.root / name
        path.write_bytes(body)
        return claim_of(FileVersion.of_stat(name, path.stat()), f"token{next(_tokens)}")

    def upload(self, name: str, body: bytes) -> Outcome:
        return self.retry(self.claim(name, body))

    def retry(self, claim: Claim) -> Outcome:
        return self.uploader.upload(claim, self.notes, lambda _sent: None)


def log_of(machine: Machine) -> list[tuple[str, str, int]]:
    """Return (operation, key, status) of each request so far."""
    return machine.dialect.log


def take_requests(machine: Machine) -> Counter[str]:
    """Count the operations since the last call, and empty the log."""
    log = log_of(machine)
    found = Counter(operation for operation, _, _ in log)
    log.clear()
    return found
