"""A file is deleted, renamed, truncated, appended to, rewritten or replaced in each phase; a directory is renamed.

All in one engine with a real store. The phases: the file is noticed, half of it is read, its first part arrives at the
store, its multipart upload is about to be completed.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.archive.status import Status
from cloud_archive.files import HintKind
from cloud_archive.intake.settle_thread import SettleThread
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import Claim, FileState
from cloud_archive.state import LEDGER_NAME
from cloud_archive.upload import uploader as upload
from cloud_archive.upload.source import Content, read_content
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Fault, Kind, Request
from tests.faults.run import PROBE_MARK
from tests.faults.truth import BucketReader, Findings, Truth, compare, path_of, sha256_of
from tests.faults.world import SMALL_PART_BYTES, small_parts
from tests.integration.pipelines import wait_until_safe

if TYPE_CHECKING:
    from tests.servers import S3Server

pytestmark = [
    pytest.mark.store,
    pytest.mark.skipif(sys.platform == "win32", reason="the name of an open file can't be taken away"),
]

PHASES = ("settling", "hashing", "sending", "completing")
ACTIONS = ("deleted", "renamed", "truncated", "appended", "rewritten", "replaced")
REQUESTS = {"sending": "UploadPart", "completing": "CompleteMultipartUpload"}
BATCH = 50


@dataclass
class Outcome:
    """The result: bucket, ledger and truth after everything is archived."""

    truth: Truth
    findings: Findings
    keys: dict[str, str]
    states: dict[str, FileState]
    status: Status

    @property
    def vanished(self) -> set[str]:
        return {path for path, state in self.states.items() if state is FileState.VANISHED}

    def versions_of(self, path: str) -> list[str]:
        """Return the SHA-256 of each object of this path."""
        return [digest for key, digest in self.keys.items() if path_of(key, "out") == path]


class Torment:
    """The files, and the action that each one meets in a phase."""

    def __init__(self, root: Path, aside: Path) -> None:
        self.root = root
        self.truth = Truth()
        self.struck = {(phase, action): Event() for phase in PHASES for action in ACTIONS}
        self.batch_brought = Event()
        self.batch_moved = Event()
        self._aside = aside
        self._dice = random.Random(1)
        self._striking = Lock()

    def bring(self, path: str, body: bytes) -> None:
        """Make a complete file appear under its name by a rename."""
        self.truth.will_hold(path, sha256_of(body))
        (self._aside / "new").write_bytes(body)
        local = self.root / path
        local.parent.mkdir(exist_ok=True)
        self.truth.holds(path, sha256_of(body))  # recorded before any action on it
        (self._aside / "new").rename(local)

    def bring_all(self) -> None:
        for phase, action in self.struck:
            size_bytes = SMALL_PART_BYTES + 50_000 if phase in REQUESTS else 50_000
            self.bring(name_of(phase, action), self._dice.randbytes(size_bytes))

    def bring_batch(self) -> None:
        for number in range(BATCH):
            self.bring(f"batch/{number:02}.bin", self._dice.randbytes(2000))
        self.batch_brought.set()

    def strike(self, phase: str, path: str) -> None:
        """Do the file's action if this is its phase; once only."""
        was, _, action = path.removesuffix(".bin").partition("-")
        if was != phase or (event := self.struck.get((phase, action))) is None:
            return
        with self._striking:  # the scan and the watcher may notice the file at the same time
            if not event.is_set():
                self._do(action, path)
                event.set()

    def _do(self, action: str, path: str) -> None:
        local = self.root / path
        body = local.read_bytes()
        if action == "deleted":
            self.truth.gone(path)
            local.unlink()
        elif action == "renamed":
            after = f"{path.removesuffix('.bin')} later.bin"
            self.truth.will_hold(after, sha256_of(body))
            self.truth.gone(path)
            local.rename(self.root / after)
            self.truth.holds(after, sha256_of(body))
        elif action == "truncated":
            self.truth.will_hold(path, sha256_of(body[: len(body) // 2]))
            os.truncate(local, len(body) // 2)
            self.truth.holds(path, sha256_of(body[: len(body) // 2]))
        elif action == "appended":
            self.truth.will_hold(path, sha256_of(body + b"more"))
            with local.open("ab") as stream:
                stream.write(b"more")
            self.truth.holds(path, sha256_of(body + b"more"))
        else:
            other = body[::-1]
            self.truth.will_hold(path, sha256_of(other))
            if action == "rewritten":
                with local.open("r+b") as stream:
                    stream.write(other)
            else:
                (self._aside / "other").write_bytes(other)
                (self._aside / "other").replace(local)
            self.truth.holds(path, sha256_of(other))

    def move_batch(self) -> None:
        """Rename the directory with everything in it, once all of it is there."""
        self.batch_brought.wait(60)
        moved = {
            old: old.replace("batch/", "batch later/")
            for old in self.truth.present
            if old.startswith("batch/")
        }
        held = self.truth.present
        for old, path in moved.items():
            self.truth.will_hold(path, held[old])
            self.truth.gone(old)
        (self.root / "batch").rename(self.root / "batch later")
        for old, path in moved.items():
            self.truth.holds(path, held[old])
        self.batch_moved.set()


def name_of(phase: str, action: str) -> str:
    return f"{phase}-{action}.bin"


class Tripping:
    """An open file that calls `then` when half of a read is done."""

    def __init__(self, source: BinaryIO, then: Callable[[], None]) -> None:
        self._source = source
        self._then = then

    def read(self, size: int = -1) -> bytes:
        first = self._source.read(size // 2)
        self._then()
        return first + self._source.read(size - len(first))

    def readinto(self, buffer: memoryview) -> int:
        source = cast(FileIO, self._source)
        count = source.readinto(buffer[: len(buffer) // 2])
        self._then()
        return count + source.readinto(buffer[count:])

    def fileno(self) -> int:
        return self._source.fileno()


def install_hooks(patch: pytest.MonkeyPatch, torment: Torment, proxy: FaultProxy) -> None:
    """Call `torment.strike` at each phase."""
    hint, read = SettleThread.hint, read_content

    def noticed(self: SettleThread, path: str, kind: HintKind) -> None:
        hint(self, path, kind)
        torment.strike("settling", path)

    def reading(source: BinaryIO, claim: Claim) -> Content:
        tripping = Tripping(source, lambda: torment.strike("hashing", claim.version.path))
        return read(cast(FileIO, tripping), claim)

    def came(request: Request) -> bool:
        for phase, operation in REQUESTS.items():
            if request.operation == operation:
                torment.strike(phase, path_of(request.key, "out"))
        of_batch = request.operation == "PutObject" and request.key.startswith("out/batch/")
        if of_batch and not torment.batch_moved.is_set():
            torment.move_batch()
        return False

    patch.setattr(SettleThread, "hint", noticed)
    patch.setattr(upload, "read_content", reading)
    proxy.add(Fault(Kind.LATENCY), when=came)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, seaweedfs_session: S3Server) -> Iterator[Outcome]:
    base = tmp_path_factory.mktemp("torment")
    root, aside, state = base / "output", base / "aside", base / "state"
    root.mkdir()
    aside.mkdir()
    server = seaweedfs_session.with_fresh_bucket()
    torment = Torment(root, aside)
    with pytest.MonkeyPatch.context() as patch, FaultProxy(server.endpoint) as proxy, small_parts():
        install_hooks(patch, torment, proxy)
        environ = server.environ(
            S3_ENDPOINT_URL=proxy.url,
            S3_PREFIX="out",
            CLOUD_ARCHIVE_SETTLE_SECONDS="0.2",
            CLOUD_ARCHIVE_WORKERS="1",  # one part at a time, so that the next one is read after the action
        )
        engine = Engine(root, state_base=state, environ=environ)
        engine.start(autostart=True)
        try:
            torment.bring_all()
            torment.bring_batch()
            for (phase, action), event in torment.struck.items():
                assert event.wait(60), f"{phase} never came for the file to be {action}"
            assert torment.batch_moved.wait(60)
            assert engine.flush(90), engine.status().to_json()
            status = wait_until_safe(engine)
        finally:
            engine.close(10)
        present = {path: sha256_of((root / path).read_bytes()) for path in torment.truth.present}
        assert present == torment.truth.present, "the truth is not what the files hold"
        reader = BucketReader(server.client, server.bucket)
        probes = frozenset(entry.key for entry in proxy.journal if PROBE_MARK in entry.key)
        yield Outcome(
            torment.truth,
            compare(reader, torment.truth, "out", journal=proxy.journal, ignore=probes),
            reader.digests("out"),
            states_in(state),
            status,
        )


def states_in(state: Path) -> dict[str, FileState]:
    """Return path to the state of its newest version."""
    ledger = Ledger(next(state.rglob(LEDGER_NAME)))
    ledger.open()
    try:
        return {row.version.path: row.state for row in reversed(ledger.rows(limit=1000))}
    finally:
        ledger.close()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_file_that_changes_in_any_phase_arrives_as_it_is_at_the_end(
    phase: str, action: str, outcome: Outcome
) -> None:
    path = name_of(phase, action)
    later = f"{path.removesuffix('.bin')} later.bin"
    for name in (path, later):
        held, last = outcome.versions_of(name), outcome.truth.present.get(name)
        assert all(outcome.truth.allows(name, digest) for digest in held), "a mixture of two versions"
        assert len(held) == len(set(held)), "the same bytes twice"
        assert last is None or last in held, "its last version is missing"
    # A file that was never seen complete is no version; every other missing file must be counted and named.
    if path not in outcome.truth.present and phase != "settling" and not outcome.versions_of(path):
        assert path in outcome.vanished
        # The newest ones only: a directory that was renamed since may have filled them.
        assert any(
            "was deleted or emptied before it was archived." in error for error in outcome.status.errors
        )


def test_a_directory_renamed_with_fifty_files_in_it_loses_none(outcome: Outcome) -> None:
    now = [path for path in outcome.truth.present if path.startswith("batch later/")]
    assert len(now) == BATCH
    assert all(outcome.versions_of(path) == [outcome.truth.present[path]] for path in now)
    for number in range(BATCH):
        before = f"batch/{number:02}.bin"
        assert all(outcome.truth.allows(before, digest) for digest in outcome.versions_of(before))
        # It was pending under its old name, or incomplete, when it moved: nothing waits for it now.
        assert outcome.states.get(before) in (FileState.ARCHIVED, FileState.VANISHED, None)


def test_torment_leaves_nothing_wrong_in_the_bucket(outcome: Outcome) -> None:
    assert outcome.findings.clean, str(outcome.findings)
    assert outcome.status.vanished_files == len(outcome.vanished)
