"""Objects that another writer replaces: no good copy may be lost because of them.

Each round archives some files. Then, again and again, some objects are replaced, removed or written anew, and a restore
into the watched directory, a verify or a free runs, now and then with a ledger that was lost. After each step the bytes
of every file must be on the disk or in an object, and no local file may have other bytes.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cloud_archive.config.settings import load_settings
from cloud_archive.intake.open_files import has_writer
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.free import Limits, LocalCleaner
from cloud_archive.maintenance.restore import restore
from cloud_archive.maintenance.verify import verify
from cloud_archive.scope import KeyScope
from cloud_archive.state import LEDGER_NAME
from cloud_archive.store.s3 import S3Store
from tests.integration.archives import HOUR, Archive
from tests.servers import S3Server

FILES = 4
STEPS = 4
ATTACKS = ("same metadata", "fitting metadata", "written anew", "removed")


@dataclass(slots=True)
class Replaced:
    """The result; `lost` and `altered` must be 0."""

    lost: int = 0
    altered: int = 0
    rounds: int = 0
    attacks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ATTACKS, 0))
    restores: int = 0
    verifies: int = 0
    named: int = 0
    freed: int = 0
    ledgers_lost: int = 0
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        return not (self.lost or self.altered)

    def lines(self) -> list[str]:
        attacks = ", ".join(f"{count} {name}" for name, count in self.attacks.items())
        return [
            f"{self.rounds} rounds in {self.seconds:.0f} s: lost {self.lost}, altered {self.altered}",
            f"objects: {attacks}; ledgers lost {self.ledgers_lost}",
            f"restores {self.restores}, verifies {self.verifies}, problems named {self.named}, freed {self.freed}",
        ]


class _Archive(Archive):
    """An archive that shares one client with the others."""

    shared: S3Store

    @contextmanager
    def store(self, **environ: str) -> Iterator[S3Store]:
        yield self.shared


class _Round:
    def __init__(self, archive: _Archive, prefix: str, dice: random.Random, found: Replaced) -> None:
        self.archive, self.prefix, self.dice, self.found = archive, prefix, dice, found
        self.bodies: dict[str, bytes] = {}

    def play(self) -> None:
        for number in range(FILES):
            name = f"{self.dice.choice(('', 'sub/'))}{number}.png"
            age = 2 * 24 * HOUR + number
            self.bodies[name] = self.archive.write(name, self.dice.randbytes(200), age_seconds=age)
        self.archive.archive_all()
        steps: tuple[Callable[[], None], ...] = (self._restore, self._restore, self._verify, self._free)
        for _ in range(STEPS):
            for name in self._local_names():
                if self.dice.random() < 0.5:
                    self._attack(f"{self.prefix}/{name}", self.bodies[name])
            if self.dice.random() < 0.2:
                (self.archive.state / LEDGER_NAME).unlink(missing_ok=True)
                self.found.ledgers_lost += 1
            self.dice.choice(steps)()
            self._compare()

    def _local_names(self) -> list[str]:
        """Return the files with a local copy. Others are not attacked: their only copy is the object."""
        return [name for name in self.bodies if (self.archive.root / name).is_file()]

    def _attack(self, key: str, body: bytes) -> None:
        kind = self.dice.choice(ATTACKS)
        server = self.archive.server
        self.found.attacks[kind] += 1
        if kind == "removed":
            server.client.delete_object(Bucket=server.bucket, Key=key)
            return
        try:
            metadata = server.metadata(key)
        except server.client.exceptions.ClientError:
            return  # an earlier attack removed it
        evil = body if kind == "written anew" else self.dice.randbytes(len(body))
        if kind == "fitting metadata":
            metadata = {name: value for name, value in metadata.items() if name != "sha256"}
        server.client.put_object(Bucket=server.bucket, Key=key, Body=evil, Metadata=metadata)

    def _ledger(self) -> Ledger:
        ledger = Ledger(self.archive.state / LEDGER_NAME)
        ledger.open()
        return ledger

    def _restore(self) -> None:
        ledger = self._ledger()
        try:
            report = restore(
                self.archive.shared,
                self.archive.root,
                scope=KeyScope.folder(self.prefix),
                ledger=ledger,
                watched=self.archive.root,
            )
        finally:
            ledger.close()
        self.found.restores += 1
        self.found.named += report.failed

    def _verify(self) -> None:
        ledger = self._ledger()
        try:
            report = verify(ledger, self.archive.shared, self.archive.root)
        finally:
            ledger.close()
        self.found.verifies += 1
        self.found.named += len(report.findings)

    def _free(self) -> None:
        ledger = self._ledger()
        try:
            cleaner = LocalCleaner(
                ledger,
                self.archive.shared,
                self.archive.root,
                Limits(older_than_seconds=24 * HOUR),
                has_writer=has_writer,
                clock=lambda: time.time() + 30 * 24 * HOUR,  # so that restored files count as old
            )
            self.found.freed += cleaner.run_once().freed
        finally:
            ledger.close()

    def _compare(self) -> None:
        local = {name: (self.archive.root / name).read_bytes() for name in self._local_names()}
        self.found.altered += sum(local[name] != self.bodies[name] for name in local)
        gone = self.bodies.keys() - local.keys()
        if gone:
            held = set(self.archive.server.objects(f"{self.prefix}/").values())
            on_disk = {path.read_bytes() for path in self.archive.root.rglob("*") if path.is_file()}
            self.found.lost += sum(self.bodies[name] not in held | on_disk for name in gone)


def replaced(
    rounds: int,
    seed: int,
    server: S3Server,
    directory: Path,
    progress: Callable[[str], None] = lambda line: None,
) -> Replaced:
    """Play `rounds` rounds and return the result."""
    dice, found = random.Random(seed), Replaced()
    began = time.monotonic()
    store = S3Store(load_settings(server.environ(S3_PREFIX="x")))
    try:
        for number in range(rounds):
            base = directory / f"r{number}"
            base.mkdir(parents=True)
            archive = _Archive(base, server, S3_PREFIX=f"r{number}")
            archive.shared = store
            _Round(archive, f"r{number}", dice, found).play()
            shutil.rmtree(base)
            found.rounds += 1
            found.seconds = time.monotonic() - began
            if number % 100 == 99:
                progress(found.lines()[0])
    finally:
        store.close()
        found.seconds = time.monotonic() - began
    return found
