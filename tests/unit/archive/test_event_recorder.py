"""What is counted and logged of each event."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from cloud_archive.archive.event_recorder import EventRecorder
from cloud_archive.archive.events import FileArchived, FileGone, LocalFileFreed, ScanEnded, UploadFailed
from cloud_archive.archive.gate import Gate
from cloud_archive.archive.metrics import NullRecorder
from cloud_archive.archive.session import Session
from cloud_archive.errors import StoreError
from cloud_archive.files import FileVersion
from cloud_archive.ledger.rows import Claim
from cloud_archive.store.evidence import Proof
from cloud_archive.store.failures import explain
from cloud_archive.upload.outcome import Outcome

CLAIM = Claim(row=1, name="me", version=FileVersion("a.png", 10, 1), token="t", attempts=1)
AWAY = StoreError("PutObject", "k", explain("ConnectionRefused"))


class Metrics(NullRecorder):
    """Keeps the calls it gets."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def archived(self, size_bytes: int, **how: Any) -> None:
        self.calls.append(("archived", how))

    def failed(self, error: Exception, size_bytes: int, **how: Any) -> None:
        self.calls.append(("failed", how))

    def vanished(self, size_bytes: int) -> None:
        self.calls.append(("vanished", {}))

    def freed(self, size_bytes: int) -> None:
        self.calls.append(("freed", {}))


def outcome(*, already: bool = False, ours: bool = False, proof: Proof = Proof.CHECKSUM) -> Outcome:
    return Outcome("out/a.png", "ab" * 32, None, already=already, ours=ours, proof=proof)


def test_each_event_is_counted_once() -> None:
    session, metrics = Session(), Metrics()
    recorder = EventRecorder(session, metrics, Gate(1))
    recorder.record(FileArchived(CLAIM, outcome()))
    recorder.record(FileArchived(CLAIM, outcome(already=True)))
    recorder.record(FileArchived(CLAIM, outcome(already=True, ours=True)))
    recorder.record(UploadFailed(CLAIM, AWAY, 5.0))
    recorder.record(FileGone(CLAIM))
    recorder.record(LocalFileFreed(10))
    recorder.record(ScanEnded())
    counters = session.counters()
    assert (counters.uploaded, counters.already, counters.vanished) == (2, 1, 1)
    assert metrics.calls == [
        ("archived", {"already": False, "seen_at": None}),
        ("archived", {"already": True, "seen_at": None}),
        ("archived", {"already": False, "seen_at": None}),
        ("failed", {"again": True}),
        ("vanished", {}),
        ("freed", {}),
    ]
    assert session.notices == ("a.png was deleted or emptied before it was archived.",)


def test_a_night_without_a_store_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(1, jitter=lambda: 1.0)
    recorder = EventRecorder(Session(), NullRecorder(), gate)
    caplog.set_level(logging.INFO, "cloud_archive.archiver")
    moment = 0.0
    for _ in range(100):
        moment += gate.note_refusal(AWAY.failure, moment)
        recorder.record(UploadFailed(CLAIM, AWAY, moment))
    assert sum("will be retried" in line for line in caplog.messages) == 7, "the 1st, 2nd, 4th … 64th"
    gate.note_success()
    recorder.record(FileArchived(CLAIM, outcome()))
    recorder.record(FileArchived(CLAIM, outcome()))
    assert caplog.messages.count("The store accepts uploads again") == 1


def test_a_file_that_waits_for_a_retry_is_always_logged(caplog: pytest.LogCaptureFixture) -> None:
    recorder = EventRecorder(Session(), NullRecorder(), Gate(1))
    for _ in range(3):
        recorder.record(UploadFailed(CLAIM, AWAY, None))
    assert sum("waits until this is fixed" in line for line in caplog.messages) == 3


def test_a_store_that_lets_nothing_be_proven_is_a_notice_once() -> None:
    session = Session()
    recorder = EventRecorder(session, NullRecorder(), Gate(1))
    for _ in range(2):
        recorder.record(FileArchived(CLAIM, outcome(proof=Proof.ACCEPTED)))
    assert len(session.notices) == 1
    assert "s3:GetObject" in session.notices[0]
