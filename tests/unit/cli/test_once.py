"""What `watch --once` makes of an engine that ends, stands by or has problems, on a store in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import Answer
from cloud_archive.archive.status import State, WaitingEntry
from cloud_archive.cli.once import Once
from cloud_archive.errors import EngineUnavailable
from cloud_archive.intake.settle_rules import LOOKS_INCOMPLETE, QUIET_TIME
from tests.functional.archives import engine_on
from tests.memory_store import Hanging, MemoryStore, refuse
from tests.servers import wait_until


class DyingEngine:
    """An engine of another process that refuses the first file, and dies at the second."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def is_dead(self) -> bool:
        return len(self.asked) == 2

    def status(self) -> dict[str, Any]:
        return {"skipped_files": 0}

    def files(self, state: str) -> Iterator[dict[str, Any]]:
        return iter(())

    def call(self, method: str, path: str, body: dict[str, Any], *, timeout_seconds: float) -> Answer:
        if path.endswith("/flush"):
            return Answer(200, {"message": "Safe to stop."})
        self.asked.append(body["file_path"])
        if self.is_dead:
            raise EngineUnavailable("It does not answer.")
        return Answer(502, {"message": "The store refused it."})


def test_what_an_engine_refused_before_it_died_is_no_failure_once_it_is_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DyingEngine()
    store = MemoryStore()
    state = tmp_path / "state"
    with engine_on(tmp_path / "output", store, state, CLOUD_ARCHIVE_BACKFILL="all") as engine:
        for name in ("a.png", "b.png"):
            (engine.root / name).write_bytes(name.encode())
        own_status = engine.status
        monkeypatch.setattr("cloud_archive.api.client.running_engine", lambda *_: other)
        monkeypatch.setattr(
            engine,
            "status",
            lambda scan=True: (
                own_status(scan) if other.is_dead else replace(own_status(scan), state=State.STANDBY)
            ),
        )
        once = Once(engine)
        once.run()
    assert len(other.asked) == 2
    assert store.bodies() == {"out/a.png": b"a.png", "out/b.png": b"b.png"}
    assert (once.result.archived, once.result.total, once.result.finished) == (2, 2, True)
    assert once.result.failures == []


@pytest.mark.parametrize(
    ("reason", "cause"), [(QUIET_TIME, "It may still change."), (LOOKS_INCOMPLETE, "It looks incomplete.")]
)
def test_a_file_that_is_not_complete_at_the_end_is_named_with_the_reason(
    tmp_path: Path, reason: str, cause: str
) -> None:
    with engine_on(tmp_path / "output", MemoryStore(), tmp_path / "state") as engine:
        waiting = (WaitingEntry("a.png", 1, reason, "new/a.png"),)
        result = Once(engine)._make_result(replace(engine.status(scan=False), waiting=waiting))
    assert result.failures == [("new/a.png", cause)]


@pytest.mark.skipif(os.name == "nt", reason="no path is so long there")
def test_a_store_that_does_not_answer_is_the_cause(tmp_path: Path, hang: Hanging) -> None:
    store = MemoryStore()
    store.on_call = lambda operation, key: hang(key) if key == "out/a.png" else None
    with engine_on(tmp_path / "output", store, tmp_path / "state", CLOUD_ARCHIVE_BACKFILL="all") as engine:
        (engine.root / "a.png").write_bytes(b"a")
        engine.rescan()
        assert hang.begun.wait(60)
        once = Once(engine, give_up_seconds=0.3)
        once.run()
        assert once.result.failures == [
            ("a.png", "The store did not answer. Given up after 0 s without success.")
        ]
        hang.end()


def test_cause_and_cure_are_two_sentences(tmp_path: Path) -> None:
    with engine_on(
        tmp_path / "output", MemoryStore(), tmp_path / "state", CLOUD_ARCHIVE_BACKFILL="all"
    ) as engine:
        folder = engine.root.joinpath(*["d" * 200] * 5)
        folder.mkdir(parents=True)
        (folder / ("a" * 30)).write_bytes(b"1")
        once = Once(engine)
        once.run()
    (failure,) = once.result.failures
    assert "S3_PREFIX. Rename the file" in failure[1]


@pytest.mark.parametrize("refused", [False, True])
def test_what_is_archived_after_a_signal_counts(tmp_path: Path, refused: bool) -> None:
    store = MemoryStore()

    def on_call(operation: str, key: str) -> None:
        if key == "out/b.png":
            once.stop()
            if refused:
                refuse("SlowDown", 503, key)

    store.on_call = on_call
    with engine_on(tmp_path / "output", store, tmp_path / "state", CLOUD_ARCHIVE_BACKFILL="all") as engine:
        once = Once(engine)
        for name in ("a.png", "b.png"):
            (engine.root / name).write_bytes(name.encode())
        once.run()
        if not refused:
            engine.drain(60)
        wait_until(lambda: "out/a.png" in store.objects, "the first file arrives")
        once.note_end(engine.close(60))
    result = once.result
    assert (result.archived, result.total, result.finished) == (1 if refused else 2, 2, not refused)
    assert [path for path, _ in result.failures] == (["b.png"] if refused else [])
